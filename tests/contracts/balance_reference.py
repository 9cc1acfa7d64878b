"""Each balancing method in float64 NumPy, from its paper's formula: the gradients of a linear model's parameters.

Encoders h_m = x_m W_m, heads h_m V_m, fused head (h_a, h_b[, h_c]) V with bias; every head weighs 1.
"""

import itertools
import math

import numpy as np

RATE = 1.0  # of plain gradient descent
DECAY, SHARE_SEED = 0.7, 3


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


class Step:
    """The forward pass of the rows that count, and gradients by logits and features."""

    def __init__(self, params, batch, weights):
        self.params, self.weights = params, weights
        self.names = sorted(params["net"])
        self.y, self.where = batch["label"], batch["where"]
        self.n, self.classes = len(self.y), params["fused"]["v"].shape[1]
        self.has = {m: batch.get(f"has_{m[-1]}", self.where) & self.where for m in self.names}
        self.x = {m: np.where(self.has[m][:, None], batch[m[-1]], 0.0).astype(np.float64) for m in self.names}
        self.keep(self.has)

    def keep(self, has):
        """Another forward pass, with the modalities of `has` alone."""
        self.has = has
        self.h = {m: np.where(has[m][:, None], self.x[m] @ self.params["net"][m]["w"], 0.0) for m in self.names}
        self.logits = {
            m: np.where(has[m][:, None], self.h[m] @ self.params["heads"][m[-1]]["v"], 0.0) for m in self.names
        }
        self.logits["fused"] = self.fused(self.names)
        return self

    def fused(self, kept):
        parts = [self.h[m] if m in kept else np.zeros_like(self.h[m]) for m in self.names]
        return np.concatenate(parts, 1) @ self.params["fused"]["v"] + self.params["fused"]["bias"]

    def rows(self, head):
        return self.has.get(head, self.where)

    def probability(self, head):
        return softmax(self.logits[head])[np.arange(self.n), self.y]

    def cross_entropy(self, head):
        return -np.log(self.probability(head))

    def error(self, head, counted):
        """d mean CE_head / d logits [n, c] over the rows of `counted`."""
        p = softmax(self.logits[head])
        p[np.arange(self.n), self.y] -= 1
        return np.where((self.rows(head) & counted)[:, None], p, 0.0) / max(counted.sum(), 1)

    def by_head(self, counted=None, weights=None):
        """{head: gradients of the parameters by its loss}, with its weight."""
        counted = self.where if counted is None else counted
        weights = self.weights if weights is None else weights
        found = {}
        for head, weight in weights.items():
            name = head if head == "fused" else f"encoder_{head}"
            found[head] = self.of_logits(name, weight * self.error(name, counted))
        return found

    def of_logits(self, head, error):
        zero = zeros(self.params)
        if head != "fused":
            zero["heads"][head[-1]]["v"] = self.h[head].T @ error
            zero["net"][head]["w"] = self.x[head].T @ np.where(
                self.has[head][:, None], error @ self.params["heads"][head[-1]]["v"].T, 0.0
            )
            return zero
        zero["fused"]["v"] = np.concatenate([self.h[m] for m in self.names], 1).T @ error
        zero["fused"]["bias"] = error.sum(0)
        back = error @ self.params["fused"]["v"].T
        for m, part in zip(self.names, np.split(back, len(self.names), axis=1), strict=True):
            zero["net"][m]["w"] = self.of_features(m, part)
        return zero

    def of_features(self, m, error):
        return self.x[m].T @ np.where(self.has[m][:, None], error, 0.0)


def zeros(tree):
    return {k: zeros(v) if isinstance(v, dict) else np.zeros(np.shape(v)) for k, v in tree.items()}


def add(*trees):
    return {
        k: add(*(t[k] for t in trees)) if isinstance(v, dict) else sum(t[k] for t in trees) for k, v in trees[0].items()
    }


def plain(step, state, t):
    return add(*step.by_head().values()), state


def ratios(step, probability, rows):
    s = {m: probability[m][rows[m]].mean() if rows[m].any() else None for m in step.names}
    found = {}
    for m in step.names:
        others = [s[o] for o in step.names if o != m and s[o] is not None]
        found[m] = s[m] / np.mean(others) if others and s[m] is not None else 1.0
    return found


def ogm(step, state, t, alpha=0.7):
    total = add(*step.by_head().values())
    rho = ratios(step, {m: step.probability(m) for m in step.names}, step.has)
    for m in step.names:
        total["net"][m]["w"] *= 1 - math.tanh(alpha * max(rho[m], 0)) if rho[m] > 1 else 1
    return total, state


def agm(step, state, t, alpha=0.2):
    names, size = step.names, len(step.names)
    mean, count = state or (dict.fromkeys(names, 0.0), dict.fromkeys(names, 0))
    value = {}
    for k in range(1, size + 1):
        for chosen in itertools.combinations(names, k):
            there = np.any([step.has[m] for m in chosen], axis=0)
            value[chosen] = np.where(there[:, None], step.fused(chosen), 0.0)
    value[()] = 0.0
    score = {}
    for m in names:
        phi = 0.0
        for order in itertools.permutations(names):  # Shapley by all orders, not by sets
            before = tuple(sorted(order[: order.index(m)]))
            phi = phi + (value[tuple(sorted((*before, m)))] - value[before]) / math.factorial(size)
        own = np.minimum(-np.log(softmax(phi)[np.arange(step.n), step.y]), -math.log(1e-8))
        score[m] = own[step.has[m]].mean() if step.has[m].any() else mean[m]
    total = add(*step.by_head().values())
    for m in names:
        ratio = {
            key: math.exp(np.mean([s[o] for o in names if o != m]) - s[m]) for key, s in (("r", score), ("tau", mean))
        }
        total["net"][m]["w"] *= math.exp(alpha * min(ratio["tau"] - ratio["r"], 10))
    seen = {m: step.has[m].any() for m in names}
    count = {m: count[m] + seen[m] for m in names}
    mean = {m: mean[m] + (score[m] - mean[m]) / count[m] if seen[m] else mean[m] for m in names}
    return total, (mean, count)


def pmr(step, state, t, alpha=0.8, mu=0.3, entropy_steps=2):
    state = state or {m: {} for m in step.names}
    slopes, score, rows, total = {}, {}, {}, add(*step.by_head().values())
    for m in step.names:
        known = sorted(state[m])
        rows[m] = step.has[m] & np.isin(step.y, known)
        score[m], slopes[m] = np.zeros(step.n), None
        if not known:
            continue
        c = np.array([state[m][k] for k in known])
        difference = step.h[m][:, None] - c
        distance = np.sqrt((difference**2).sum(-1))
        p = softmax(-distance)
        own = np.array([known.index(k) if k in known else 0 for k in step.y])
        score[m] = p[np.arange(step.n), own]
        target = np.eye(len(known))[own]
        entropy = -(p * np.log(p)).sum(1, keepdims=True)
        away = difference / distance[..., None]  # of the distances by the features
        count = max(rows[m].sum(), 1)
        # By the logits -d: CE gives p - target, H gives -p (log p + H).
        slopes[m] = [
            np.where(rows[m][:, None], -(slope[:, :, None] * away).sum(1), 0.0) / count
            for slope in (p - target, -p * (np.log(p) + entropy))
        ]
    rho = ratios(step, score, rows)
    for m in step.names:
        if slopes[m] is not None:
            slow, dominant = np.clip(1 / max(rho[m], 1e-6) - 1, 0, 1), np.clip(rho[m] - 1, 0, 1)
            weight = mu if t < entropy_steps else 0.0
            error = alpha * slow * slopes[m][0] - weight * dominant * slopes[m][1]
            total["net"][m]["w"] = total["net"][m]["w"] + step.of_features(m, error)
    after = {m: dict(state[m]) for m in step.names}
    for m, k in itertools.product(step.names, range(step.classes)):
        if (own := step.has[m] & (step.y == k)).any():
            mean = step.h[m][own].mean(0)
            after[m][k] = DECAY * state[m][k] + (1 - DECAY) * mean if k in state[m] else mean
    return total, after


def mmpareto(step, state, t, rescale=1.3):
    by_head = step.by_head()
    total = add(*by_head.values())
    for m in step.names:
        g, u = by_head["fused"]["net"][m]["w"], by_head[m[-1]]["net"][m]["w"]
        alpha = 0.5
        if (g * u).sum() < 0:  # by search, not by the closed form
            grid = np.linspace(0, 1, 200_001)
            norms = grid**2 * (g**2).sum() + (1 - grid) ** 2 * (u**2).sum() + 2 * grid * (1 - grid) * (g * u).sum()
            alpha = grid[norms.argmin()]
        h = 2 * (alpha * g + (1 - alpha) * u)
        size = np.linalg.norm(h)
        factor = max(1.0, np.linalg.norm(g + u) / size) if size > 0 else 1.0
        total["net"][m]["w"] = rescale * factor * h
    return total, state


def qmf(step, state, t, weight=0.6):
    """The fused logits are those of `decisions`; see the test's model."""
    size = 64
    state = state or {m: (np.zeros(size), np.zeros(size)) for m in step.names}
    total, after = zeros(step.params), {}
    confidence = {}
    for m in step.names:
        confidence[m] = np.log(np.exp(step.logits[m]).sum(1)) / 10
        total = add(total, step.of_logits(m, step.error(m, step.where)))
    fused = sum(np.where(step.has[m], confidence[m], 0.0)[:, None] * step.logits[m] for m in step.names)
    p = softmax(fused)
    p[np.arange(step.n), step.y] -= 1
    error = np.where(step.where[:, None], p, 0.0) / max(step.where.sum(), 1)
    for m in step.names:
        own = np.where(step.has[m], confidence[m], 0.0)[:, None] * error
        sums, count = (x.copy() for x in state[m])
        np.add.at(sums, step.index[step.has[m]], step.cross_entropy(m)[step.has[m]])
        np.add.at(count, step.index[step.has[m]], 1)
        after[m] = sums, count
        mean = (sums / np.maximum(count, 1))[count > 0]
        k = (sums / np.maximum(count, 1))[np.maximum(step.index, 0)]
        if len(mean):
            k = (k - mean.min()) / (mean.max() - mean.min() if mean.max() > mean.min() else 1.0)
        slope = np.zeros(step.n)  # of the rank loss by the confidences
        pairs = [(i, (i + 1) % step.n) for i in range(step.n)]
        pairs = [(i, j) for i, j in pairs if step.has[m][i] and step.has[m][j]]
        for i, j in pairs:
            sign = np.sign(k[i] - k[j])
            if sign * (confidence[m][i] - confidence[m][j]) + abs(k[i] - k[j]) > 0:
                slope[i] += sign / len(pairs)
                slope[j] -= sign / len(pairs)
        own += weight * slope[:, None] * softmax(step.logits[m]) / 10
        total = add(total, step.of_logits(m, own))
    return total, after


def unimodal_pretraining(step, state, t, steps=1):
    weights = {h: (0.0 if h == "fused" else w) if t < steps else w for h, w in step.weights.items()}
    return add(*step.by_head(weights=weights).values()), state


def gradient_blending(step, state, t, interval=1):
    """Held-out rows come from the test: `step.held`."""
    heads = [*step.weights]
    whole = sum(step.weights.values())
    state = state or dict(weights=np.array([step.weights[h] / whole for h in heads]), before=None)
    weights = {h: whole * w for h, w in zip(heads, state["weights"], strict=True)}
    gradients = add(*step.by_head(counted=step.where & ~step.held, weights=weights).values())
    now = []
    for part in (step.where & ~step.held, step.where & step.held):
        names = [h if h == "fused" else f"encoder_{h}" for h in heads]
        now.append([step.cross_entropy(h)[part & step.rows(h)].mean() for h in names])
    (train, held), after = np.array(now), dict(state, before=np.array(now))
    if state["before"] is not None:
        old_train, old_held = state["before"]
        gain = np.maximum(old_held - held, 0)
        over = np.maximum(np.abs((held - train) - (old_held - old_train)), 0.01)
        found = gain / over**2
        after["weights"] = found / found.sum() if found.sum() > 0 else np.full(len(heads), 1 / len(heads))
    return gradients, after


def modality_dropout(step, state, t):
    """The kept modalities come from the test: `step.kept`."""
    return plain(step.keep(step.kept), state, t)
