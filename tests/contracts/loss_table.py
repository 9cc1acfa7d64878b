"""The contrastive losses, one row each, and how they are evaluated: a new loss is one row in TABLE."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np
import pytest

import alignment_jax as aj

WEIGHTS = (1.3, 0.7)  # uneven, so that an exchange of the directions shows


@dataclasses.dataclass(frozen=True, eq=False)  # found in caches as the object it is
class Row:
    """`settings`: every number that the loss is differentiated by; `per_row`: those that may be one a row;
    `extremes`: settings to stay finite at."""

    function: Callable
    settings: dict
    per_row: tuple[str, ...]
    extremes: tuple[dict, ...]

    def __call__(self, za, zb, settings, **options):
        """The losses as a tuple of one or two directions."""
        result = self.function(za, zb, **settings, **options)
        return result[:2] if isinstance(result, tuple) else (result,)  # a third entry is no loss

    def values(self, n, *, rows):
        """The settings as float32 arrays: scalars, or where allowed one a row."""
        spread = np.linspace(0.6, 1.4, n, dtype=np.float32)
        return {
            name: np.float32(value) * (spread if rows and name in self.per_row else np.float32(1))
            for name, value in self.settings.items()
        }


TABLE = {
    "infonce": Row(
        aj.losses.infonce,
        settings=dict(temperature=0.2),
        per_row=("temperature",),
        extremes=(dict(temperature=0.001), dict(temperature=10.0)),
    ),
    "infonce, smoothed": Row(
        aj.losses.infonce,
        settings=dict(temperature=0.2, smoothing=0.1),
        per_row=("temperature",),
        extremes=(dict(temperature=0.001, smoothing=0.99), dict(temperature=10.0, smoothing=0.01)),
    ),
    "infonce, with statistics": Row(
        aj.losses.infonce_with_statistics,
        settings=dict(temperature=0.3, smoothing=0.05),
        per_row=("temperature",),
        extremes=(dict(temperature=0.001, smoothing=0.0), dict(temperature=10.0, smoothing=0.5)),
    ),
    "max_margin": Row(
        aj.losses.max_margin,
        settings=dict(margin=0.3),
        per_row=("margin",),
        extremes=(dict(margin=0.0), dict(margin=10.0), dict(margin=-10.0)),
    ),
    "max_margin, with statistics": Row(
        functools.partial(aj.losses.max_margin_with_statistics, temperature=0.3),
        settings=dict(margin=0.3),
        per_row=("margin",),
        extremes=(dict(margin=0.0), dict(margin=-10.0)),
    ),
    "sigmoid": Row(
        aj.losses.sigmoid,
        settings=dict(scale=5.0, bias=-1.0),
        per_row=(),
        extremes=(dict(scale=1000.0, bias=-10.0), dict(scale=0.1, bias=100.0)),
    ),
}
every_loss = pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)


def pairs(n=8, d=5, seed=0):
    """Unit vectors whose pairs are alike but not equal."""
    rng = np.random.default_rng(seed)
    za = rng.normal(size=(n, d))
    zb = za + 0.7 * rng.normal(size=(n, d))
    return tuple((z / np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32) for z in (za, zb))


def total(row, za, zb, settings, where=None, **options):
    """The one number that is differentiated, and the losses it is made of."""
    parts = row(za, zb, settings, where=where, **options)
    return aj.losses.reduce(*parts, weights=WEIGHTS, where=where, axis_name=options.get("axis_name")), parts


def evaluate(row, za, zb, settings, where=None, jit=True, **options):
    """Losses, and gradients of (za, zb, settings)."""
    function = _compiled(row, **options) if jit else _gradient(row, **options)
    gradients, parts = function(za, zb, settings, where)
    return parts, gradients


def _gradient(row, **options):
    return jax.grad(functools.partial(total, row, **options), (0, 1, 2), has_aux=True)


@functools.cache
def _compiled(row, **options):
    return jax.jit(_gradient(row, **options))


def same(found, expected, *, rtol=1e-5, atol=2e-6):
    """Equal up to the float32 rounding of logits of order 10 that are summed in another order."""
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=atol), found, expected)


def all_zero(tree):
    return all(np.all(np.asarray(leaf) == 0) for leaf in jax.tree.leaves(tree))


def all_finite(tree):
    return all(np.all(np.isfinite(np.asarray(leaf, np.float32))) for leaf in jax.tree.leaves(tree))
