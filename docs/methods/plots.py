"""Draws the pictures of the method pages from the package's own functions.

    python docs/methods/plots.py [NAME ...]      # mm_ts, vals, modest_align, bss; all of them by default

Every line has its own dash pattern and marker, so that the pictures can be read in black and white; the colors are the
Okabe-Ito set, which stays distinct for color-blind readers. The files are the same bytes on every run.
"""

from __future__ import annotations

import pathlib
import sys

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
import optax

import alignment_jax as aj

mpl.use("Agg")
from matplotlib import pyplot as plt

IMAGES = pathlib.Path(__file__).parent / "images"
BLUE, ORANGE, GREEN, PURPLE, BLACK = "#0072B2", "#D55E00", "#009E73", "#AA4499", "#000000"
mpl.rcParams.update(
    {
        "axes.grid": True,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "font.size": 9,
        "grid.color": "#DDDDDD",
        "grid.linewidth": 0.6,
        "legend.frameon": False,
        "lines.linewidth": 1.6,
        "lines.markersize": 5,
        "svg.hashsalt": "alignment_jax",
    }
)


def mm_ts() -> plt.Figure:
    """Temperature of head and tail samples over training, and the shift as a function of cluster size."""
    steps, smallest, largest = 1000, 2, 3617
    shifts = {"min_shift": 0.17, "max_shift": 0.30, "min_size": smallest, "max_size": largest}
    schedule = aj.schedules.mm_ts(alpha=0.2, period=steps / 5, **shifts)
    step = np.arange(0, steps + 1, 4)
    sizes = {
        f"head: cluster of {largest:,}": (largest, ORANGE, "-", "s"),
        "middle: cluster of 1,000": (1000, GREEN, "--", "^"),
        f"tail: cluster of {smallest}": (smallest, BLUE, "-.", "o"),
    }
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), width_ratios=(2, 1), layout="constrained")
    for label, (size, color, dashes, marker) in sizes.items():
        temperature = [float(schedule(t, jnp.array([size]))[0]) for t in step]
        left.plot(100 * step / steps, temperature, dashes, color=color, marker=marker, markevery=25, label=label)
    left.set(
        title="Temperature of a sample over training",
        xlabel="training done (%)",
        ylabel="temperature τ",
        ylim=(0, 0.52),
    )
    left.legend(ncols=3, loc="upper center", fontsize=8)
    size = np.geomspace(smallest, largest, 100)
    right.plot(size, aj.schedules.cluster_shift(size, **shifts), "-", color=BLACK)
    for value, color, _, marker in sizes.values():
        right.plot(value, aj.schedules.cluster_shift(np.array([value]), **shifts)[0], marker, color=color)
    right.set(
        title="Shift of a cluster",
        xlabel="samples in the cluster",
        ylabel="shift of the temperature",
        xscale="log",
        ylim=(0.15, 0.32),
    )
    return figure


def vals() -> plt.Figure:
    """Statistics and weights of both directions while two linear maps are trained on synthetic latents."""
    history = train_linear_maps(steps=240)
    step = np.arange(1, 241)
    directions = (("ab", "a to b", BLUE, "-"), ("ba", "b to a", ORANGE, "--"))
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for name, label, color, dashes in directions:
        marker = "o" if name == "ab" else "s"
        left.plot(step, history[f"variance_{name}"], dashes, color=color, marker=marker, markevery=30, label=label)
    left.set(
        title="Mean variance of the similarities over candidates",
        xlabel="step",
        ylabel="variance of S",
        ylim=(0, None),
    )
    left.legend()
    markers = {"variance": ("o", BLUE, "-"), "entropy": ("^", GREEN, "--"), "spread": ("D", PURPLE, "-.")}
    for signal, (marker, color, dashes) in markers.items():
        for name, label, _, _ in directions:
            right.plot(
                step,
                history[f"{signal}_weight_{name}"],
                dashes,
                color=color,
                marker=marker,
                markerfacecolor=color if name == "ab" else "white",
                markevery=30,
                label=f"{signal}, {label}",
            )
    right.axhline(1.0, color=BLACK, linewidth=0.8, linestyle=":")
    right.set(
        title="Weights of both directions (they sum to 2)", xlabel="step", ylabel="weight of the direction's loss"
    )
    right.legend(ncols=3, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    return figure


def train_linear_maps(steps: int, batch: int = 128) -> dict[str, np.ndarray]:
    """Plain InfoNCE on latents of 40 kinds, one of them 60% of all, b the noisier side; weights are only recorded."""
    keys = jax.random.split(jax.random.key(0), 7)
    n, d, kinds = 1024, 32, 40
    rare = jax.random.randint(keys[0], (n,), 1, kinds)
    kind = jnp.where(jax.random.uniform(keys[1], (n,)) < 0.6, 0, rare)
    centers = jax.random.normal(keys[2], (2, kinds, d))
    a = centers[0, kind] + 0.3 * jax.random.normal(keys[3], (n, d))
    b = centers[1, kind] + 0.5 * a + 1.5 * jax.random.normal(keys[4], (n, d))
    w = 0.2 * jax.random.normal(keys[5], (2, d, d))
    optimizer = optax.adam(3e-3)
    signals = ("variance", "entropy", "spread")
    weighting = {signal: aj.weighting.directional(signal, decay=0.9) for signal in signals}

    def embed(w, rows):
        return aj.losses.l2_normalize(a[rows] @ w[0]), aj.losses.l2_normalize(b[rows] @ w[1])

    def loss(w, rows):
        return aj.losses.reduce(*aj.losses.infonce(*embed(w, rows), temperature=0.07))

    @jax.jit
    def step(carry, rows):
        w, state, averages = carry
        statistics = aj.weighting.direction_statistics(*embed(w, rows), temperature=0.07)
        row = {"variance_ab": statistics.variance[0], "variance_ba": statistics.variance[1]}
        followed = {}
        for signal, (_, update) in weighting.items():
            (w_ab, w_ba), followed[signal] = update(statistics, averages[signal])
            row |= {f"{signal}_weight_ab": w_ab, f"{signal}_weight_ba": w_ba}
        updates, state = optimizer.update(jax.grad(loss)(w, rows), state, w)
        return (optax.apply_updates(w, updates), state, followed), row

    order = jax.random.randint(keys[6], (steps, batch), 0, n)
    start = (w, optimizer.init(w), {signal: init() for signal, (init, _) in weighting.items()})
    _, history = jax.lax.scan(step, start, order)
    return {name: np.asarray(values) for name, values in history.items()}


def modest_align() -> plt.Figure:
    """Target distributions under smoothing, and the loss as a function of the similarity of the positive."""
    styles = {0.0: (BLUE, "-", "o"), 0.1: (ORANGE, "--", "s"), 0.3: (GREEN, "-.", "^")}
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    n = 8
    for offset, (alpha, (color, dashes, marker)) in zip((-0.2, 0.0, 0.2), styles.items(), strict=True):
        target = target_distribution(n, alpha)
        place = np.arange(1, n + 1) + offset
        left.vlines(place, 0, target, color=color, linestyle=dashes)
        left.plot(place, target, marker, color=color, label=f"α = {alpha:g}")
    left.set(
        title="Target of an anchor (its partner: candidate 3)",
        xlabel="candidate",
        ylabel="target probability",
        ylim=(0, 1.05),
    )
    left.legend()

    n, similarity = 128, np.linspace(0.0, 1.0, 101)
    for alpha, (color, dashes, marker) in styles.items():
        # Orthogonal anchors: the partner has the given similarity, every other candidate has similarity 0.
        loss = [
            aj.losses.infonce(jnp.eye(n), s * jnp.eye(n), temperature=0.07, smoothing=alpha)[0][0] for s in similarity
        ]
        right.plot(similarity, loss, dashes, color=color, marker=marker, markevery=10, label=f"α = {alpha:g}")
        best = int(np.argmin(loss))
        right.plot(similarity[best], loss[best], "*", color=color, markersize=13, markeredgecolor=BLACK, zorder=3)
    right.plot([], [], "*", color="white", markersize=11, markeredgecolor=BLACK, label="lowest loss")
    right.set(
        title="Its loss among 128 candidates, τ = 0.07",
        xlabel="similarity of the partner, all others at 0",
        ylabel="loss (nats)",
        ylim=(0, None),
    )
    right.legend()
    return figure


def target_distribution(n: int, smoothing: float, positive: int = 2) -> np.ndarray:
    """The target that the loss trains towards, computed from its gradient: dL_i/dS_ij = (softmax - target)_ij / τ."""
    temperature = 1.0
    eye = jnp.eye(n)

    def loss(s):
        return aj.losses.infonce(eye, s.T, temperature=temperature, smoothing=smoothing)[0][positive]

    s = jnp.zeros((n, n))
    return np.asarray(jax.nn.softmax(s[positive] / temperature) - temperature * jax.grad(loss)(s)[positive])


def bss() -> plt.Figure:
    """Pacing of the curriculum, and how early each scheduler shows balanced samples within an epoch."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    n, epoch = 10_000, np.arange(61)
    paces = ((0.1, 40, BLUE, "-", "o"), (0.5, 40, ORANGE, "--", "s"), (0.1, 20, GREEN, "-.", "^"))
    for start, epochs, color, dashes, marker in paces:
        shown = [100 * aj.sampling.pacing(int(e), n=n, start=start, epochs=epochs) / n for e in epoch]
        label = f"start {start:g}, {epochs} epochs" + (" (authors)" if (start, epochs) == (0.1, 40) else "")
        left.plot(epoch, shown, dashes, color=color, marker=marker, markevery=6, label=label)
    left.set(title="Curriculum: samples shown in an epoch", xlabel="epoch", ylabel="share of all samples (%)")
    left.set_ylim(0, 105)
    left.legend(loc="lower right")

    rng = np.random.default_rng(0)
    similarity = rng.beta(4, 2, size=n)
    loss = rng.gamma(2.0, 1.0, size=n) * (1.5 - similarity)
    score = aj.sampling.balance_score(similarity, loss)
    rank = np.argsort(np.argsort(score))
    best, worst = rank < n // 5, rank >= n - n // 5
    drawn = aj.sampling.draw_order(aj.sampling.sampling_probabilities(similarity, loss), epoch=0, seed=0)
    shuffled = aj.sampling.shuffle_order(n, epoch=0, seed=0)
    place = 100 * np.arange(n + 1) / n
    lines = (
        ("weighted draw: most balanced fifth", drawn, best, BLUE, "-", "o"),
        ("shuffled: any fifth", shuffled, best, BLACK, ":", "x"),
        ("weighted draw: least balanced fifth", drawn, worst, ORANGE, "--", "s"),
    )
    for label, order, members, color, dashes, marker in lines:
        seen = 100 * np.concatenate([[0], np.cumsum(members[order])]) / members.sum()
        thin = slice(None, None, 50)
        right.plot(place[thin], seen[thin], dashes, color=color, marker=marker, markevery=20, label=label)
    right.set(title="Learning-based: order within an epoch", xlabel="epoch done (%)", ylabel="of that fifth shown (%)")
    right.legend(loc="lower right", fontsize=8)
    return figure


FIGURES = {"mm_ts": mm_ts, "vals": vals, "modest_align": modest_align, "bss": bss}


def main(names: list[str], folder: pathlib.Path = IMAGES) -> None:
    """Writes the pictures as SVG: those named, or all."""
    folder.mkdir(exist_ok=True)
    for name in names or FIGURES:
        figure = FIGURES[name]()
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
        plt.close(figure)


if __name__ == "__main__":
    main(sys.argv[1:])
