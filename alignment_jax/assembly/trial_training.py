"""Whether training from the closed form finds more, tried on held-out parts of the training pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from alignment_jax import baselines, losses
from alignment_jax.assembly.cca_start import scaled_map
from alignment_jax.assembly.optimization import build_optimizer
from alignment_jax.assembly.step_counts import StepCounts
from alignment_jax.baselines import CcaSettings, HeldOut
from alignment_jax.config.durations import parse_duration
from alignment_jax.core.types import PyTree
from alignment_jax.train.objective import PairLoss


def trial_scores(
    za: np.ndarray,
    zb: np.ndarray,
    folds: Sequence[HeldOut],
    settings: CcaSettings,
    *,
    optimizer: ConfigDict,
    duration: str,
    batch_size: int,
    pair_loss: PairLoss,
    temperature: float,
    ids_b: np.ndarray | None,
    average_views: bool,
    seed: int,
) -> np.ndarray:
    """Scores of the closed form and of linear maps that are trained from it, in each fold.

    The trial takes the steps of the run: same optimizer, batch size and schedule. It works on one device. A batch holds
    random views and a random partner of each a-item, as the trainer's batches do.

    Args:
      za: [v, n, d_a] latents. zb: [1, m, d_b].
      folds: from `baselines.hold_out`.
      settings: of the closed form and of the correction that its embeddings and the trained ones get.
      optimizer: section of the configuration.
      duration: `train.duration`.
      batch_size: of the run.
      pair_loss: the loss of the run, with a temperature and without a bias.
      temperature: first value of the learned temperature.
      ids_b: [m] content ids, by which equal partners in a batch are no negatives; None where all differ.
      average_views: embed an a-item as the mean over its views.
      seed: of the batches.

    Returns:
      [folds, 2, 2]: (closed form, trained), (mean reciprocal rank, rsum).
    """
    # Folds of one size share one compiled program.
    size = min(len(fold.train_a) for fold in folds)
    batch = min(batch_size, size)
    per_epoch = max(1, size // batch)
    total = parse_duration(duration, name="train.duration").steps(steps_per_epoch=per_epoch, batch_size=batch)
    counts = StepCounts(per_epoch, batch, lambda epochs: epochs * per_epoch, total)
    ids = np.zeros(zb.shape[1], np.int32) if ids_b is None else np.asarray(ids_b, np.int32)
    tables = (jnp.asarray(za, jnp.float32), jnp.asarray(zb[0], jnp.float32), jnp.asarray(ids))
    train = _make_training(optimizer, counts, pair_loss, views=len(za), ids=ids_b is not None)
    found = []
    for number, fold in enumerate(folds):
        a, b = baselines.fit_cca(
            za[:, fold.train_a],
            zb[:, fold.train_b],
            b_to_a=fold.train_own,
            shrinkage=settings.shrinkage,
            dim=settings.dim,
            power=settings.power,
        )
        start = {"logit_scale": {"log_temperature": np.log(np.float32(temperature))}}
        for side, project, z in (("a", a, za[0, fold.train_a]), ("b", b, zb[0, fold.train_b])):
            matrix, bias = scaled_map(project, z[:1024])
            start[side] = {"kernel": matrix, "bias": bias}
        rows, partners, count = _samples(fold, size, per_epoch, batch, total, seed=seed + number)
        trained = train(start, *tables, rows, partners, count, jax.random.key(seed + number))
        both = (start, jax.device_get(trained))
        found.append([_score(maps, za, zb, fold, settings, average_views) for maps in both])
    return np.array(found)


def _samples(
    fold: HeldOut, size: int, per_epoch: int, batch: int, total: int, *, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of za [total, batch], all partners of each row [total, batch, p] (rows of zb, padded), their number."""
    rng = np.random.default_rng(seed)
    order = np.argsort(fold.train_own, kind="stable")
    counts = np.bincount(fold.train_own, minlength=len(fold.train_a))
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    places_b = np.minimum(starts[:, None] + np.arange(counts.max()), len(order) - 1)
    partners = fold.train_b[order[places_b]]
    epochs = -(-total // per_epoch)
    places = [rng.permutation(len(fold.train_a))[:size][: per_epoch * batch].reshape(-1, batch) for _ in range(epochs)]
    place = np.concatenate(places)[:total]
    return fold.train_a[place], partners[place], counts[place]


def _make_training(
    optimizer: ConfigDict, counts: StepCounts, pair_loss: PairLoss, *, views: int, ids: bool
) -> Callable[..., PyTree]:
    transformation, _ = build_optimizer(optimizer, counts)

    def loss_of(params: PyTree, a: jax.Array, b: jax.Array, ids_b: jax.Array) -> jax.Array:
        outputs = {
            side: losses.l2_normalize(z @ params[side]["kernel"] + params[side]["bias"])
            for side, z in (("a", a), ("b", b))
        }
        outputs |= {"id_b": ids_b} if ids else {}
        temperature = jnp.exp(params["logit_scale"]["log_temperature"])
        where = jnp.ones(len(a), bool)
        loss_ab, loss_ba, _ = pair_loss(outputs, temperature, jnp.float32(0.0), where, None, None)
        return losses.reduce(loss_ab, loss_ba)

    @jax.jit
    def train(params, za, zb, ids_b, rows, partners, count, key) -> PyTree:
        def step(carry: Any, inputs: Any):
            params, state = carry
            row, partner, number, key = inputs
            which, view = jax.random.split(key)
            chosen = jax.random.randint(which, row.shape, 0, number)
            b = jnp.take_along_axis(partner, chosen[:, None], axis=1)[:, 0]
            a = za[jax.random.randint(view, row.shape, 0, views), row]
            gradient = jax.grad(loss_of)(params, a, zb[b], ids_b[b])
            updates, state = transformation.update(gradient, state, params)
            return (jax.tree.map(jnp.add, params, updates), state), None

        keys = jax.random.split(key, len(rows))
        return jax.lax.scan(step, (params, transformation.init(params)), (rows, partners, count, keys))[0][0]

    return train


def _score(
    maps: PyTree, za: np.ndarray, zb: np.ndarray, fold: HeldOut, settings: CcaSettings, average_views: bool
) -> tuple[float, float]:
    views = za if average_views else za[:1]
    embeddings = (
        baselines.mean_embedding(z[:, rows].astype(np.float32) @ maps[side]["kernel"] + maps[side]["bias"])
        for z, rows, side in (
            (views, fold.scored_a, "a"),
            (zb, fold.scored_b, "b"),
            (views, fold.bank_a, "a"),
            (zb, fold.bank_b, "b"),
        )
    )
    a, b, bank_a, bank_b = embeddings
    k, strength = settings.neighbours, settings.strength
    return fold.scores(a, b, bank_a, bank_b, neighbours=(k,), strengths=(strength,))[k, strength]
