"""SOTAlign: the transport plan between unpaired latents of both sides follows the plan of a linear teacher."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from alignment_jax.core import Array
from alignment_jax.core.checks import check_number, check_where
from alignment_jax.core.masked_reductions import psum_if
from alignment_jax.core.varying import vary_together
from alignment_jax.similarity.dense import MASKED
from alignment_jax.similarity.products import matmul


def transport(
    za: Array,
    zb: Array,
    *,
    teacher_a: Array,
    teacher_b: Array,
    epsilon: float = 0.05,
    teacher_epsilon: float = 0.01,
    iterations: int = 100,
    where_a: Array | None = None,
    where_b: Array | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    """KL divergence from the student's transport plan between two unpaired sets to the teacher's.

    S = za zbᵀ; P = the plan with uniform marginals that maximizes Σ P_ij S_ij + epsilon H(P) (entropic optimal
    transport, by Sinkhorn iterations on logarithms); P* likewise of the teacher with `teacher_epsilon`.
    result = KL(P* | P) = Σ_ij P*_ij log(P*_ij / P_ij), its derivative by S is (P - P*) / epsilon

    The derivative holds where both plans have converged: log P_ij = (S_ij + f_i + g_j) / epsilon, and the terms of f
    and g are, up to sign, the optimal value of the transport, whose derivative by S is P (the envelope theorem). No
    iteration is differentiated or kept. No gradient reaches the teacher.

    Memory: [n, M] blocks, n rows of this device and M rows of b on all devices.

    Args:
      za, zb: [n, d] and [m, d] embeddings of the student; normalise first (`l2_normalize`). Rows need no partner.
      teacher_a, teacher_b: [n, k] and [m, k] embeddings of the same rows by the teacher, such as CCA; normalise first.
      epsilon, teacher_epsilon: regularization of the plans, positive; smaller plans are sharper and converge slower.
      iterations: of Sinkhorn, at least 1, each over rows and columns.
      where_a, where_b: [n] and [m] bool, rows that count, or None for all.
      axis_name: mesh axis that the rows of both sides are sharded over, or None; the plans are of all rows.

    Returns:
      float32 scalar; 0 where no row of a side counts. Below 0 only by what the iterations have not converged.

    Raises:
      ValueError: a shape does not fit, or a number is out of range.

    >>> a, b = jnp.eye(3), jnp.eye(3)[jnp.array([1, 2, 0])]
    >>> float(transport(a, b, teacher_a=a, teacher_b=b, teacher_epsilon=0.05))
    0.0
    >>> round(float(transport(a, b, teacher_a=a, teacher_b=jnp.eye(3))), 2)  # every row is sent elsewhere
    20.0

    Source: Roschmann, Krzakala et al., SOTAlign: semi-supervised alignment of unimodal vision and language models via
    optimal transport (arXiv 2602.23353), theorem 5.1 for the derivative. Deviation: the last iteration leaves the
    marginals of b exact; the authors' code averages it with a further one.
    """
    arrays = {"za": za, "zb": zb, "teacher_a": teacher_a, "teacher_b": teacher_b}
    arrays = {name: jnp.asarray(z) for name, z in arrays.items()}
    for name, z in arrays.items():
        if z.ndim != 2 or not jnp.issubdtype(z.dtype, jnp.floating):
            raise ValueError(f"{name} must be floating point of shape [rows, d], got {z.dtype} of shape {z.shape}")
    za, zb, teacher_a, teacher_b = arrays.values()
    for (name_a, x), (name_b, y) in ((("za", za), ("zb", zb)), (("teacher_a", teacher_a), ("teacher_b", teacher_b))):
        if x.shape[1] != y.shape[1]:
            raise ValueError(f"{name_a} and {name_b} must have the same width, got {x.shape[1]} and {y.shape[1]}")
    for name, x, y in (("teacher_a", teacher_a, za), ("teacher_b", teacher_b, zb)):
        if len(x) != len(y):
            raise ValueError(f"{name} must have {len(y)} rows, those of the student, got {len(x)}")
    check_where(where_a, len(za))
    check_where(where_b, len(zb))
    for name, number in (("epsilon", epsilon), ("teacher_epsilon", teacher_epsilon)):
        check_number(name, number, lambda e: e > 0, "positive")
    check_number("iterations", iterations, lambda i: i >= 1, "at least 1")
    where_a, where_b = (
        jnp.ones(len(z), bool) if mask is None else jnp.asarray(mask) for z, mask in ((za, where_a), (zb, where_b))
    )
    za, zb, teacher_a, teacher_b, where_a, where_b = vary_together(
        (za, zb, teacher_a, teacher_b, where_a, where_b), axis_name
    )
    rows, columns = where_a, _gather(where_b, axis_name)

    def similarity(x: Array, y: Array) -> jax.Array:
        x, y = jnp.where(where_a[:, None], x, 0), jnp.where(where_b[:, None], y, 0)
        return matmul(x, _gather(y, axis_name))

    student = similarity(za, zb)
    teacher = similarity(*jax.lax.stop_gradient((teacher_a, teacher_b)))
    settings = epsilon, teacher_epsilon, iterations, axis_name
    return psum_if(_divergence(settings, student, teacher, rows, columns), axis_name)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _divergence(settings, student, teacher, rows, columns):
    """The share of this device's rows [n, M] in KL(P* | P)."""
    return _forward(settings, student, teacher, rows, columns)[0]


def _forward(settings, student, teacher, rows, columns):
    epsilon, teacher_epsilon, iterations, axis_name = settings
    both = rows[:, None] & columns[None, :]
    log_p, log_t = (
        _log_plan(s / e, rows, columns, both, iterations, axis_name)
        for s, e in ((student, epsilon), (teacher, teacher_epsilon))
    )
    p, t = (jnp.where(both, jnp.exp(log), 0.0) for log in (log_p, log_t))
    return jnp.sum(jnp.where(both, t * (log_t - log_p), 0.0)), (p - t) / epsilon


def _backward(settings, slope, cotangent):
    return cotangent * slope, None, None, None


_divergence.defvjp(_forward, _backward)


def _log_plan(logits, rows, columns, both, iterations: int, axis_name: str | None) -> jax.Array:
    """[n, M] logarithms of the plan with uniform marginals; meaningless where `both` is false."""
    logits = jnp.where(both, logits, MASKED)
    log_mass_a = -jnp.log(jnp.maximum(psum_if(jnp.sum(rows.astype(logits.dtype)), axis_name), 1.0))
    log_mass_b = -jnp.log(jnp.maximum(jnp.sum(columns.astype(logits.dtype)), 1.0))

    def over_columns(v: jax.Array) -> jax.Array:
        sums = jax.nn.logsumexp(jnp.where(both, logits + v[None, :], MASKED), axis=1)
        return jnp.where(rows, log_mass_a - sums, 0.0)

    def over_rows(u: jax.Array) -> jax.Array:
        x = jnp.where(both, logits + u[:, None], MASKED)
        largest = jnp.max(x, axis=0)
        largest = largest if axis_name is None else jax.lax.pmax(largest, axis_name)
        sums = largest + jnp.log(psum_if(jnp.sum(jnp.exp(x - largest[None, :]), axis=0), axis_name))
        return jnp.where(columns, log_mass_b - sums, 0.0)

    def iterate(_, scaling):
        u = over_columns(scaling[1])
        return u, over_rows(u)

    u, v = jax.lax.fori_loop(0, iterations, iterate, (jnp.zeros_like(logits[:, 0]), jnp.zeros_like(logits[0])))
    return logits + u[:, None] + v[None, :]


def _gather(x: jax.Array, axis_name: str | None) -> jax.Array:
    return x if axis_name is None else jax.lax.all_gather(x, axis_name, tiled=True)
