"""Implementations of contrastive losses to benchmark: of this package, plain JAX and PyTorch."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from alignment_jax import losses
from alignment_jax.core import optional
from alignment_jax.core.errors import MissingPackageError

# Largest batch for an implementation that holds the matrix: log_softmax takes 6 GiB at twice as many rows.
LARGEST_MATRIX = 8192


@dataclasses.dataclass(frozen=True)
class BenchmarkCase:
    """One implementation of a loss.

    name: as in the table.
    prepare: (za, zb, anchor scale) -> a function without arguments that computes value and gradient.
    max_rows: the largest batch to time.
    """

    name: str
    prepare: Callable[[np.ndarray, np.ndarray, np.ndarray], Callable[[], Any]]
    max_rows: int = LARGEST_MATRIX


def log_softmax_loss(za: jax.Array, zb: jax.Array, temperature: jax.Array) -> jax.Array:
    """InfoNCE by log_softmax, with a temperature per row."""
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


def make_infonce(similarity: str, axis_name: str | None = None) -> Callable[..., jax.Array]:
    def loss(za, zb, temperature):
        pair = losses.infonce(za, zb, temperature=temperature, similarity=similarity, axis_name=axis_name)
        return losses.reduce(*pair, axis_name=axis_name)

    return loss


def make_max_margin(similarity: str, axis_name: str | None = None) -> Callable[..., jax.Array]:
    def loss(za, zb, margin):
        pair = losses.max_margin(za, zb, margin=margin, similarity=similarity, axis_name=axis_name)
        return losses.reduce(*pair, axis_name=axis_name)

    return loss


def make_sigmoid(similarity: str, axis_name: str | None = None) -> Callable[..., jax.Array]:
    def loss(za, zb, scale):
        each = losses.sigmoid(za, zb, scale=jnp.mean(scale), similarity=similarity, axis_name=axis_name)
        return losses.reduce(each, axis_name=axis_name)

    return loss


def jax_case(name: str, loss: Callable[..., jax.Array], max_rows: int = LARGEST_MATRIX) -> BenchmarkCase:
    """A jitted JAX loss, compiled before the timing."""

    def prepare(za, zb, own):
        arguments = tuple(jnp.asarray(x) for x in (za, zb, own))
        step = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(*arguments).compile()
        return lambda: jax.block_until_ready(step(*arguments))

    return BenchmarkCase(name, prepare, max_rows)


def one_product_case() -> BenchmarkCase:
    """One n x d by d x n matrix product: compares the speed of the libraries."""

    def prepare(za, zb, own):
        a, b = jnp.asarray(za), jnp.asarray(zb)
        product = jax.jit(lambda a, b: a @ b.T).lower(a, b).compile()
        return lambda: jax.block_until_ready(product(a, b))

    return BenchmarkCase("one product, XLA", prepare)


def four_products_case() -> BenchmarkCase:
    """Four tiled matrix products of n x n x d multiplications: the lower bound of the tiled InfoNCE."""

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

    return BenchmarkCase("four products", prepare, 2**20)


def torch_or_none() -> Any | None:
    """PyTorch, or None where it is not installed or cannot be loaded."""
    # Spinning threads would count as CPU time, also in the other cases.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        return optional.require("torch", extra="train", purpose="compare with PyTorch")
    except (MissingPackageError, ImportError):  # not installed, or without its shared libraries
        return None


def torch_cases(torch: Any) -> list[BenchmarkCase]:
    """The losses in PyTorch, each in the formulation of one code base."""
    entropy = torch.nn.functional.cross_entropy

    def case(name, loss):
        def prepare(za, zb, own):
            a, b = (torch.tensor(z, requires_grad=True) for z in (za, zb))
            own = torch.tensor(own)

            def call():
                a.grad = b.grad = None
                value = loss(a, b, own)
                value.backward()
                return value.item()

            return call

        return BenchmarkCase(name, prepare)

    def clip(a, b, temperature):
        # open_clip: one matrix product per direction, the scale multiplies its first factor.
        labels = torch.arange(len(a))
        scale = 1 / temperature[:, None]
        return (entropy(scale * a @ b.T, labels) + entropy(scale * b @ a.T, labels)) / 2

    def mm_ts(a, b, temperature):
        # MM-TS, InfoNCE: the anchor's scale multiplies the finished product, in both directions.
        labels = torch.arange(len(a))
        scale = 1 / temperature[:, None]
        return (entropy(scale * (a @ b.T), labels) + entropy(scale * (b @ a.T), labels)) / 2

    def max_margin(a, b, margin):
        # MM-TS, max-margin: both directions as one column of 2 n² scores, beside the pair's score and margin, and the
        # hinge of all; then the hinge of the off-diagonal entries. The published code discards the first hinge, too.
        s = torch.nn.functional.normalize(a) @ torch.nn.functional.normalize(b).T
        n = len(a)
        scores = torch.cat([s.reshape(-1, 1), s.T.reshape(-1, 1)])
        own, margins = (x[:, None].expand(n, n).reshape(-1, 1).repeat(2, 1) for x in (s.diagonal(), margin))
        hinge = torch.relu(margins - (own - scores))
        others = torch.nonzero((1 - torch.eye(n)).reshape(-1).repeat(2))[:, 0]
        scores, own, margins = (torch.index_select(x, 0, others) for x in (scores, own, margins))
        hinge = torch.relu(margins - (own - scores))
        return hinge.mean()

    def product(za, zb, own):
        a, b = torch.tensor(za), torch.tensor(zb)
        return lambda: a @ b.T

    return [
        BenchmarkCase("one product, PyTorch", product),
        case("InfoNCE, open_clip in PyTorch", clip),
        case("InfoNCE, MM-TS in PyTorch", mm_ts),
        case("max-margin, MM-TS in PyTorch", max_margin),
    ]
