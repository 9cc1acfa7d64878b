"""A small comparison with every part that a report can show, made of plain numbers."""

import math

import numpy as np

METHODS = ("baseline", "vals", "mm_ts")
# Recall of each method minus recall of the baseline, the same in every setting and seed.
GAIN = {"baseline": 0.0, "vals": 2.0, "mm_ts": -1.0}


def recalls(level):
    values = {f"{direction}_R@{k}": level + k for direction in ("a2b", "b2a") for k in (1, 5, 10)}
    return {**values, "rsum": sum(values.values())}


def calibration(level):
    bins = [
        {"low": 0.0, "high": 0.1, "count": 10, "confidence": 0.05, "accuracy": 0.1},
        {"low": 0.4, "high": 0.5, "count": 30, "confidence": 0.45, "accuracy": 0.5 + level / 100},
    ]
    found = {"ece": 0.1, "entropy": 2.0, "similarity_true": 0.5, "similarity_wrong": 0.01, "temperature": 0.07}
    return {**found, "a2b_ece": 0.08, "b2a_ece": 0.12, "bins": {"a2b": bins, "b2a": bins}}


def stress(level):
    rows = [{"kind": "clean", "side": "", "strength": 0.0, "metrics": recalls(level)}]
    for side in "ab":
        for strength in (0.5, 1.0):
            lower = recalls(level - 20 * strength)
            rows.append({"kind": "latent_noise", "side": side, "strength": strength, "metrics": lower})
    return rows


def history(level, *, temperature=0.07, weight=1.0):
    rows = []
    for step in range(10, 60, 10):
        rows.append(
            {
                "step": step,
                "epoch": step,
                "train/loss": 5 / step,
                "train/weight_ab": weight,
                "train/weight_ba": 2 - weight,
                "train/temperature_mean": temperature,
                "train/temperature_min": temperature - (0.02 if temperature > 0.1 else 0),
                "train/temperature_max": temperature + (0.02 if temperature > 0.1 else 0),
            }
        )
        rows.append({"step": step, **{f"val/{key}": value for key, value in recalls(level - 100 / step).items()}})
    return rows


def run(method, seed, *, fraction=1.0, mismatched=0.0, embeddings=None):
    level = 40.0 + GAIN[method] + 0.5 * seed - 10 * math.log2(1 / fraction) - 20 * mismatched
    tail = {name: {**recalls(level), "queries_a2b": 3, "queries_b2a": 6} for name in ("head", "middle", "tail")}
    settings = {"vals": {"weighting.signal": "variance"}, "mm_ts": {"temperature.schedule": "mm_ts"}}
    return {
        "method": method,
        "fraction": fraction,
        "mismatched": mismatched,
        "seed": seed,
        "trial": 0,
        "settings": settings.get(method, {}),
        "val": recalls(level + 1),
        "test": recalls(level),
        "analysis": {
            "calibration": {**calibration(level), "fitted": calibration(level)},
            "long_tail": {**tail, "gap": 0.0, "borders": [2.0, 5.0]},
            "stress": stress(level),
            "retained": {"latent_noise, a": 0.8, "latent_noise, b": 0.9},
            "modality_gap": 0.3,
        },
        "history": history(
            level, temperature=0.14 if method == "mm_ts" else 0.07, weight=1.1 if method == "vals" else 1
        ),
        "embeddings": embeddings,
        "weights": {"largest": 0.2, "mean": 0.1} if method == "vals" else {},
        "cost": {"steps": 50, "pairs": 6000, "seconds": 2.0, "device_seconds": 1.5, "energy_joules": None},
    }


def about(**changes):
    base = {
        "title": "Three methods",
        "config": {"data": "embeddings:x.npz", "weighting": {"signal": "fixed"}, "temperature": {"schedule": "none"}},
        "methods": list(METHODS),
        "baseline": "baseline",
        "seeds": [0, 1],
        "fractions": [0.25, 1.0],
        "metric": "rsum",
        "task": "alignment",
        "modalities": ["image", "text"],
        "environment": {"time": "2026-11-22T00:00:00Z", "packages": {"alignment_jax": "0.1.0"}},
        "complete": True,
    }
    return {**base, **changes}


def kept(seed, *, captions=12, items=6, words="caption"):
    """Arrays as `embedding_arrays` makes them, with ranks drawn at random."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(items), captions // items)
    top = np.stack([rng.permutation(items)[:5] for _ in owner])
    place = (top == owner[:, None]).argmax(axis=1)
    rank = np.where((top == owner[:, None]).any(axis=1), place, items - 1)
    plane = {f"map_30_{name}": rng.normal(size=(items, 2)) for name in ("a", "b", "before_a", "before_b")}
    ids = np.array([f"item {i}" for i in range(items)])
    texts = np.array([f"{words} {j}" for j in range(captions)])
    return {"b_to_a": owner, "ids": ids, "captions": texts, "rank_ba": rank, "top": top, **plane}


def runs(folder):
    """Three methods, two seeds, two shares of the data and of mismatched pairs; embeddings written to `folder`."""
    rows = []
    for number, method in enumerate(METHODS):
        np.savez(folder / f"{method}.npz", **kept(number))
        for seed in (0, 1):
            kept_in = f"{method}.npz" if seed == 0 else None
            rows += [
                run(method, seed, embeddings=kept_in),
                run(method, seed, fraction=0.25),
                run(method, seed, mismatched=0.4),
            ]
    return rows


VERDICTS = tuple(
    {
        "method": method,
        "fraction": fraction,
        "mismatched": mismatched,
        "difference": 6 * GAIN[method],
        "low": 6 * GAIN[method] - 2,
        "high": 6 * GAIN[method] + 2,
        "verdict": "better" if GAIN[method] > 0 else "worse",
    }
    for method in ("vals", "mm_ts")
    for fraction, mismatched in ((1.0, 0.0), (0.25, 0.0), (1.0, 0.4))
)
