"""InfoNCE and its gradients by hand in float64, and how far float32 may be from them: a bound from the arithmetic.

Notation: u = 2^-24 is float32's unit roundoff, γ(k) = k u / (1 - k u) bounds the relative error that k operations in a
row can leave behind, and a sum of k terms, in whatever order and with or without fused multiply-adds, is off by at most
γ(k) Σ |term| (Higham, Accuracy and Stability of Numerical Algorithms, sections 3.1 and 4.2).

1. A similarity is off by at most e = γ(d) Σ_k |a_ik b_jk|.
2. A logit is (S - top) / τ. With x = |S - top| / |τ| its error is e / τ, and 3 u x for the subtraction, the division
   and the product. exp adds EXP u.
3. Softmax r_j = power_j / total. An error δ_k of every logit changes log r_j by δ_j - Σ_k r_k δ_k, of which r_j δ_j
   cancels: (1 - r_j) |δ_j| + Σ_(k≠j) r_k |δ_k| remains, as long as numerator and sum hold the same similarities.
   Roundings that belong to one number alone do not cancel: 3 u x and EXP u of every power, γ(m) of the sum of m
   powers, and (EXP + 3) u for each merge of two partial sums (an exp, two products and a sum).
4. A loss is log total + (top - S_ii) / τ: the error of -log r_i from 3, and the roundings of log, product and sum.
5. A gradient by an embedding is Σ_j W_ij b_j, W the difference of softmax and target: W is off by 3 and by OPS u of
   what it is made of, and the product by γ(m).
6. The gradient by 1/τ is Σ_j r_j (S_j - top) + (top - S_ii), in which the error of r_j counts |S_j - mean|.

First order throughout; the rest is covered by exp(2 h), h the largest error of a logit.
"""

import numpy as np

F64 = np.float64
U = 2.0**-24
EXP = 8  # exp and log within four units in the last place
OPS = 12  # products, quotients and sums between a softmax and a weight: g, 1/τ, 1/total, both directions, the target
TINY = 1e-30  # underflows


def gamma(k):
    return k * U / (1 - k * U)


def agreement(n, d, temperature=1.0):
    """How far two forms of one loss, of n embeddings of length one, may be apart: relative to the largest entry of a
    result, whose terms are of its size. Each form is off by the similarities' error over the temperature, the sum of n
    terms, and a softmax."""
    return 2 * (gamma(d) / temperature + gamma(n) + (EXP + OPS) * U)


def on_grid(z):
    """Rounded to multiples of 2^-11: their products are multiples of 2^-22, and every partial sum is a float32."""
    return np.float32(np.round(z * 2048) / 2048)


def logsumexp(x):
    top = x.max(1)
    return top + np.log(np.exp(x - top[:, None]).sum(1))


def one_direction(s, size, exact, inverse, smoothing, merges, d):
    """Losses and gradients by S and by `inverse` of each row of s [m, m], and a bound for the error of each.

    Args:
      s: similarities. size: Σ_k |a_ik b_jk| of each. exact: s has no error.
      inverse: [m] inverse temperatures of the rows.

    Returns:
      values (loss [m], by S [m, m], by inverse [m]), their bounds, the size of the terms that "by S" is made of, and
      the largest error of a logit.
    """
    m, own = len(s), np.eye(len(s), dtype=bool)
    scale = np.abs(inverse)[:, None]
    q = (1 - smoothing) * own + smoothing / m
    terms_q = (1 + smoothing) * own + smoothing / m  # the mean partner is a separate term
    logits = s * inverse[:, None]
    log_r = logits - logsumexp(logits)[:, None]
    r = np.exp(log_r)
    below = logits.max(1)[:, None] - logits
    expected = (r * s).sum(1)
    ahead = s - np.diagonal(s)[:, None]  # (r - q) S would lose the remainder of a winning pair, in float64 as well
    values = -(q * log_r).sum(1), (r - q) * inverse[:, None], (r * ahead).sum(1) - smoothing * ahead.mean(1)

    e = (0.0 if exact else gamma(d)) * size
    cancelled = (1 - r) * e + ((r * e).sum(1)[:, None] - r * e)
    rounding = U * (3 * below + EXP + (EXP + 3) * merges) + gamma(m)
    shared = (r * rounding).sum(1)[:, None]
    mean_partner = smoothing * gamma(d + m + 4) * (np.diagonal(size) + size.mean(1))
    loss = (
        np.diagonal(cancelled * scale)
        + shared[:, 0]
        + U * (3 * np.diagonal(below) + EXP * (logsumexp(logits) - logits.max(1)) + 2 * np.abs(values[0]))
        + scale[:, 0] * mean_partner
    )
    share = r * (cancelled * scale + rounding + shared)
    terms = (r + terms_q) * scale
    distance = below / scale
    by_inverse = (
        np.diagonal(cancelled)
        + (r * np.abs(s - expected[:, None]) * e * scale).sum(1)
        + (r * distance * (rounding + shared + 4 * U)).sum(1)
        + OPS * U * (np.diagonal(distance) + (r * distance).sum(1))
        + mean_partner
    )
    return values, (loss, share * scale + OPS * U * terms, by_inverse), terms, 2 * (e * scale).max()


def infonce_reference(
    a, b, temperature, *, where=None, smoothing=0.0, weights=(1.0, 1.0), merges=0, exact_products=False
):
    """(loss_ab, loss_ba, gradients by a, b and temperature of their weighted mean) and a bound for each entry's error.

    Args:
      merges: how often a form merges the sums of two tiles, at most.
      exact_products: the products of the embeddings are float32 numbers, and so are all their partial sums.
    """
    a, b = np.asarray(a, F64), np.asarray(b, F64)
    n, d = a.shape
    keep = np.flatnonzero(np.ones(n, bool) if where is None else where)
    a, b, inverse = a[keep], b[keep], 1 / np.broadcast_to(np.asarray(temperature, F64), n)[keep]
    m = len(keep)
    s, size = a @ b.T, np.abs(a) @ np.abs(b).T
    rest = exact_products, inverse, smoothing, merges, d
    found = [one_direction(s, size, *rest), one_direction(s.T, size.T, *rest)]
    (values_r, bounds_r, terms_r, h), (values_c, bounds_c, terms_c, h_c) = found
    g_r, g_c = (0.5 * w / m for w in weights)

    by_s = g_r * values_r[1] + g_c * values_c[1].T
    off_s = g_r * bounds_r[1] + g_c * bounds_c[1].T + gamma(m + 2) * (g_r * terms_r + g_c * terms_c.T)
    by_inverse = g_r * values_r[2] + g_c * values_c[2]
    off_inverse = g_r * bounds_r[2] + g_c * bounds_c[2]
    off_inverse += OPS * U * (g_r * np.abs(values_r[2]) + g_c * np.abs(values_c[2]))
    values = [values_r[0], values_c[0], by_s @ b, by_s.T @ a, -by_inverse * inverse**2]
    bounds = [bounds_r[0], bounds_c[0], off_s @ np.abs(b), off_s.T @ np.abs(a), off_inverse * inverse**2]

    def spread(x):
        out = np.zeros((n, *x.shape[1:]))
        out[keep] = x
        return out

    return [spread(x) for x in values], [spread(x * np.exp(2 * max(h, h_c))) + TINY for x in bounds]
