"""The ways to compute a contrastive loss that `benchmark_loss` compares: ours, the usual ones in JAX and in PyTorch."""

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

# Beyond this many rows a form that holds the matrix is not timed: log_softmax alone takes 6 GiB at twice as many.
LARGEST_MATRIX = 8192


@dataclasses.dataclass(frozen=True)
class Form:
    """A way to compute a loss: its name, a function that makes a call of value and gradient for given data, and the
    most rows it is timed on."""

    name: str
    prepare: Callable[[np.ndarray, np.ndarray, np.ndarray], Callable[[], Any]]
    most: int = LARGEST_MATRIX


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


def jax_form(name: str, loss: Callable[..., jax.Array], most: int = LARGEST_MATRIX) -> Form:
    """A JAX loss, jitted, compiled before the clock starts."""

    def prepare(za, zb, own):
        arguments = tuple(jnp.asarray(x) for x in (za, zb, own))
        step = jax.jit(jax.value_and_grad(loss, (0, 1))).lower(*arguments).compile()
        return lambda: jax.block_until_ready(step(*arguments))

    return Form(name, prepare, most)


def one_product_form() -> Form:
    """One product of n x n x d multiplications, n x n results: what the libraries' own speed differs by."""

    def prepare(za, zb, own):
        a, b = jnp.asarray(za), jnp.asarray(zb)
        product = jax.jit(lambda a, b: a @ b.T).lower(a, b).compile()
        return lambda: jax.block_until_ready(product(a, b))

    return Form("one product, XLA", prepare)


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

    return Form("four products", prepare, 2**20)


def torch_or_none() -> Any | None:
    """PyTorch where it is installed and loads."""
    # Threads that spin while they wait would count as work, also in the calls of the other forms.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        return optional.require("torch", extra="train", purpose="compare with PyTorch")
    except (MissingPackageError, ImportError):  # absent, or installed without the libraries it was built for
        return None


def torch_forms(torch: Any) -> list[Form]:
    """The losses as PyTorch code writes them, each after the formulation of one code base, in our own words."""
    entropy = torch.nn.functional.cross_entropy

    def form(name, loss):
        def prepare(za, zb, own):
            a, b = (torch.tensor(z, requires_grad=True) for z in (za, zb))
            own = torch.tensor(own)

            def call():
                a.grad = b.grad = None
                value = loss(a, b, own)
                value.backward()
                return value.item()

            return call

        return Form(name, prepare)

    def clip(a, b, temperature):
        # open_clip: each direction's logits are a product of their own, the scale goes into its first factor.
        labels = torch.arange(len(a))
        scale = 1 / temperature[:, None]
        return (entropy(scale * a @ b.T, labels) + entropy(scale * b @ a.T, labels)) / 2

    def mm_ts(a, b, temperature):
        # MM-TS, InfoNCE: the anchor's scale multiplies the finished product, in both directions.
        labels = torch.arange(len(a))
        scale = 1 / temperature[:, None]
        return (entropy(scale * (a @ b.T), labels) + entropy(scale * (b @ a.T), labels)) / 2

    def max_margin(a, b, margin):
        # MM-TS, max-margin: both directions end to end as one column of 2 n² scores, each beside its own pair's score
        # and margin, and the hinge of them all; then what is off the diagonal is picked out by number, and its hinge
        # taken anew. The published code, too, drops the first.
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
        Form("one product, PyTorch", product),
        form("InfoNCE, open_clip in PyTorch", clip),
        form("InfoNCE, MM-TS in PyTorch", mm_ts),
        form("max-margin, MM-TS in PyTorch", max_margin),
    ]
