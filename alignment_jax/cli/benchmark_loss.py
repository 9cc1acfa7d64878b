"""CPU time and compiled memory of the contrastive losses, against the usual ways to write them.

Times are CPU seconds of value and gradient, of all cores together (`time.process_time`): wall time depends on
who else uses the machine. The forms take turns, round after round, and the medians' ratios are what to read.
Temporary memory is what the compiler reserves for a program beside its arguments and results; nothing is run for it,
and it repeats exactly.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alignment_jax import __version__, losses
from alignment_jax.core import optional
from alignment_jax.core.errors import MissingPackageError
from alignment_jax.report.tables import table, to_markdown

MIB = 2**20
SIZES = ((512, 512), (1024, 512), (4096, 512), (8192, 512), (8192, 128))
QUICK_SIZES = ((512, 128), (2048, 128))
MEMORY_SIZES = (2048, 4096, 8192, 16384, 32768)
QUICK_MEMORY_SIZES = (2048, 8192)
MEMORY_DEVICES = 8
MEMORY_DIM = 512


@dataclasses.dataclass(frozen=True)
class Form:
    """A way to compute a loss: its name, and a function that makes a call of value and gradient for given data."""

    name: str
    prepare: Callable[[np.ndarray, np.ndarray, np.ndarray], Callable[[], Any]]


def log_softmax_loss(za: jax.Array, zb: jax.Array, temperature: jax.Array) -> jax.Array:
    """The textbook form, with a temperature per row."""
    s, own = za @ zb.T, jnp.arange(len(za))
    ab = jax.nn.log_softmax(s / temperature[:, None], axis=1)[own, own]
    ba = jax.nn.log_softmax(s.T / temperature[:, None], axis=1)[own, own]
    return -0.5 * (jnp.mean(ab) + jnp.mean(ba))


def log_sum_exp_loss(za: jax.Array, zb: jax.Array, temperature: jax.Array) -> jax.Array:
    """The same value without the matrix of log-probabilities."""
    s, own = za @ zb.T, jnp.sum(za * zb, axis=1) / temperature
    ab = jax.nn.logsumexp(s / temperature[:, None], axis=1) - own
    ba = jax.nn.logsumexp(s / temperature[None, :], axis=0) - own
    return 0.5 * (jnp.mean(ab) + jnp.mean(ba))


def infonce_loss(similarity: str, axis_name: str | None = None) -> Callable[..., jax.Array]:
    def loss(za, zb, temperature):
        pair = losses.infonce(za, zb, temperature=temperature, similarity=similarity, axis_name=axis_name)
        return losses.reduce(*pair, axis_name=axis_name)

    return loss


def max_margin_loss(similarity: str, axis_name: str | None = None) -> Callable[..., jax.Array]:
    def loss(za, zb, margin):
        pair = losses.max_margin(za, zb, margin=margin, similarity=similarity, axis_name=axis_name)
        return losses.reduce(*pair, axis_name=axis_name)

    return loss


def sigmoid_loss(similarity: str, axis_name: str | None = None) -> Callable[..., jax.Array]:
    def loss(za, zb, scale):
        each = losses.sigmoid(za, zb, scale=jnp.mean(scale), similarity=similarity, axis_name=axis_name)
        return losses.reduce(each, axis_name=axis_name)

    return loss


def jax_form(name: str, loss: Callable[..., jax.Array]) -> Form:
    """A JAX loss, jitted, compiled before the clock starts."""

    def prepare(za, zb, own):
        arguments = tuple(jnp.asarray(x) for x in (za, zb, own))
        step = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(*arguments).compile()
        return lambda: jax.block_until_ready(step(*arguments))

    return Form(name, prepare)


def products_form() -> Form:
    """Four products of n x n x d multiplications in tiles: what the tiled InfoNCE cannot do without."""

    def prepare(za, zb, own):
        del own
        rows = min(len(za), 1024)
        a, b = jnp.asarray(za).reshape(-1, rows, za.shape[1]), jnp.asarray(zb).reshape(-1, rows, zb.shape[1])

        def forward(a, b):
            def row(column_sums, x):
                def column(row_sum, at):
                    y, column_sum = at
                    s = x @ y.T
                    return row_sum + s[:, 0], column_sum + s[0]

                row_sum, column_sums = jax.lax.scan(column, x[:, 0], (b, column_sums))
                return column_sums, row_sum

            return jax.lax.scan(row, b[:, :, 0], a)

        def backward(a, b):
            def row(dy, x):
                def column(dx, at):
                    y, dy = at
                    s = x @ y.T
                    return dx + s @ y, dy + x.T @ s

                dx, dy = jax.lax.scan(column, jnp.zeros_like(x), (b, dy))
                return dy, dx

            return jax.lax.scan(row, jnp.zeros_like(b).swapaxes(1, 2), a)

        step = jax.jit(lambda a, b: (forward(a, b), backward(a, b))).lower(a, b).compile()
        return lambda: jax.block_until_ready(step(a, b))

    return Form("four products", prepare)


def torch_forms(torch: Any) -> list[Form]:
    """The losses as PyTorch code writes them: all logits, transposed, and cross-entropy or a clamped difference."""

    def run(loss):
        def prepare(za, zb, own):
            a, b = (torch.tensor(z, requires_grad=True) for z in (za, zb))
            own = torch.tensor(own)

            def call():
                a.grad = b.grad = None
                loss(a, b, own).backward()

            return call

        return prepare

    def clip(a, b, temperature):
        # open_clip's formulation: both directions' logits from products of their own, labels on the diagonal.
        labels = torch.arange(len(a))
        scale = 1 / temperature[:, None]
        entropy = torch.nn.functional.cross_entropy
        return (entropy(scale * a @ b.T, labels) + entropy(scale * b @ a.T, labels)) / 2

    def hinge(a, b, margin):
        s = a @ b.T
        own = s.diagonal()[:, None]
        same = torch.eye(len(a), dtype=torch.bool)
        ab = (margin[:, None] + s - own).clamp(min=0).masked_fill(same, 0)
        ba = (margin[:, None] + s.T - own).clamp(min=0).masked_fill(same, 0)
        return (ab.sum() + ba.sum()) / (2 * len(a) * (len(a) - 1))

    return [Form("InfoNCE, PyTorch", run(clip)), Form("max-margin, PyTorch", run(hinge))]


def time_forms(forms: Sequence[Form], n: int, d: int, rounds: int) -> dict[str, float]:
    """Median CPU seconds of each form, one call of every form a round."""
    rng = np.random.default_rng(0)
    za = rng.normal(size=(n, d)).astype(np.float32)
    zb = za + rng.normal(size=(n, d)).astype(np.float32)
    za, zb = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (za, zb))
    own = rng.uniform(0.05, 0.2, n).astype(np.float32)
    calls = {form.name: form.prepare(za, zb, own) for form in forms}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    # A call of a small batch is shorter than the clock is fine.
    repeats = max(1, int(2e8 / (n * n * d)))
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.process_time()
            for _ in range(repeats):
                call()
            seconds[name].append((time.process_time() - start) / repeats)
    return {name: statistics.median(values) for name, values in seconds.items()}


def compiled_memory(n: int, devices: int, form: str) -> float:
    """MiB of temporary memory a device of value and gradient at dimension `MEMORY_DIM`."""
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((n, MEMORY_DIM), (n, MEMORY_DIM), (n,))]
    axis = "data" if devices > 1 else None
    name, _, similarity = form.partition(" ")
    makers = {"infonce": infonce_loss, "max_margin": max_margin_loss, "sigmoid": sigmoid_loss}
    loss = log_softmax_loss if name == "log_softmax" else makers[name](similarity, axis)
    step = jax.grad(loss, (0, 1))
    if axis is not None:
        mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), (axis,))
        rows = jax.sharding.PartitionSpec(axis)
        step = jax.shard_map(step, mesh=mesh, in_specs=rows, out_specs=rows)
    analysis: Any = jax.jit(step).lower(*shapes).compile().memory_analysis()
    return analysis.temp_size_in_bytes / MIB


MEMORY_FORMS = {
    1: ("log_softmax", "infonce dense", "infonce tiled", "max_margin tiled", "sigmoid tiled"),
    MEMORY_DEVICES: ("infonce dense", "infonce gathered", "infonce ring", "max_margin ring", "sigmoid ring"),
}


def memory_rows(sizes: Sequence[int]) -> list[list[Any]]:
    """[devices, form, MiB of every size], in this process, which must have `MEMORY_DEVICES` devices."""
    return [
        [devices, form, *(compiled_memory(n, devices, form) for n in sizes)]
        for devices, forms in MEMORY_FORMS.items()
        for form in forms
    ]


def memory_in_own_process(sizes: Sequence[int]) -> list[list[Any]]:
    """`memory_rows` with eight CPU devices, whose number must be set before JAX starts."""
    environment = dict(os.environ, JAX_PLATFORMS="cpu", JAX_NUM_CPU_DEVICES=str(MEMORY_DEVICES))
    command = [sys.executable, "-m", "alignment_jax.cli.benchmark_loss", *map(str, sizes)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the memory benchmark failed:\n{done.stderr.strip()}")
    return json.loads(done.stdout.splitlines()[-1])


def torch_or_none() -> Any | None:
    try:
        return optional.require("torch", extra="train", purpose="compare with PyTorch")
    except (MissingPackageError, ImportError):  # absent, or installed without the libraries it was built for
        return None


def machine(torch: Any | None) -> str:
    """The machine and the versions in words."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    device = jax.devices()[0].device_kind
    versions = f"jax {jax.__version__}, alignment_jax {__version__}"
    versions += f", torch {torch.__version__}" if torch is not None else ", without PyTorch"
    return f"{cores} cores of {platform.machine()}, device {device}, Python {platform.python_version()}, {versions}"


def run_benchmark(*, quick: bool) -> str:
    """Runs everything and returns it as Markdown."""
    torch = torch_or_none()
    forms = [
        jax_form("InfoNCE, tiled", infonce_loss("tiled")),
        jax_form("InfoNCE, dense", infonce_loss("dense")),
        jax_form("InfoNCE, log_softmax", log_softmax_loss),
        jax_form("InfoNCE, log-sum-exp", log_sum_exp_loss),
        products_form(),
        jax_form("max-margin, tiled", max_margin_loss("tiled")),
        jax_form("max-margin, dense", max_margin_loss("dense")),
        jax_form("sigmoid, tiled", sigmoid_loss("tiled")),
        jax_form("sigmoid, dense", sigmoid_loss("dense")),
        *([] if torch is None else torch_forms(torch)),
    ]
    sizes = QUICK_SIZES if quick else SIZES
    times = {size: time_forms(forms, *size, rounds=3 if quick else 5) for size in sizes}
    columns = ["form", *(f"{n:,} x {d}" for n, d in sizes)]
    rows = []
    for form in forms:
        tiled = form.name.split(",")[0] + ", tiled"
        cells = []
        for size in sizes:
            base = times[size].get(tiled, times[size]["InfoNCE, tiled"])
            cells.append(f"{1e3 * times[size][form.name]:.4g} ms ({times[size][form.name] / base:.2f})")
        rows.append([form.name, *cells])
    memory_sizes = QUICK_MEMORY_SIZES if quick else MEMORY_SIZES
    memory = [[d, form, *(f"{x:,.1f}" for x in rest)] for d, form, *rest in memory_in_own_process(memory_sizes)]
    return "\n".join(
        [
            "# Contrastive losses: time and memory",
            "",
            f"`alignment-jax benchmark{' --quick' if quick else ''}` on {machine(torch)}.",
            "",
            "CPU time of value and gradient, float32, a temperature (or margin) per row; in brackets the ratio to the",
            'tiled form of the same loss. "four products" is the arithmetic that the tiled InfoNCE cannot avoid.',
            "",
            to_markdown(table(columns, rows)),
            "",
            f"Compiled temporary memory, MiB a device, dimension {MEMORY_DIM}, gradient of the loss:",
            "",
            to_markdown(table(["devices", "form", *(f"n = {n:,}" for n in memory_sizes)], memory)),
            "",
        ]
    )


if __name__ == "__main__":
    print(json.dumps(memory_rows([int(size) for size in sys.argv[1:]])))
