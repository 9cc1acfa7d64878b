"""Labels, units and order of metric keys."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_RECALL = re.compile(r"^(a2b|b2a)_R@(\d+)$")
_SKEWNESS = re.compile(r"^(a2b|b2a)_skewness$")
_DIRECTED = re.compile(r"^(mAP|nDCG)_(a2b|b2a)$")
_OF_HEAD = re.compile(r"^(accuracy|loss)_(a|b|c|fused)$")
_LOSS_DIRECTED = re.compile(r"^loss_(ab|ba)$")
_PERCENT = re.compile(r"^(accuracy|macro_f1|mAP|nDCG|rsum|(a2b|b2a)_R@\d+$)")


def direction_label(direction: str, names: tuple[str, ...] = ("a", "b")) -> str:
    """The direction of a retrieval: query → candidate.

    >>> direction_label("b2a", ("image", "text"))
    'text → image'
    """
    return f"{names[0]} → {names[1]}" if direction == "a2b" else f"{names[1]} → {names[0]}"


def metric_label(key: str, names: tuple[str, ...] = ("a", "b")) -> str:
    """The label of a metric, without its unit.

    Args:
      key: as in `results` (`a2b_R@1`) or in `metrics.jsonl` (`val/a2b_R@1`).
      names: of the modalities.

    >>> metric_label("a2b_R@5", ("image", "text")), metric_label("val/accuracy_a", ("audio", "image"))
    ('image → text R@5', 'val: accuracy, audio alone')
    >>> metric_label("a2b_skewness", ("image", "text"))
    'image → text skewness of 10-occurrence'
    >>> metric_label("accuracy_fused", ("audio", "image")), metric_label("loss_b", ("audio", "image"))
    ('accuracy, audio and image', 'loss, image head')
    """
    split, slash, name = key.rpartition("/")
    prefix = f"{split}: " if slash else ""
    if match := _RECALL.match(name):
        return f"{prefix}{direction_label(match[1], names)} R@{match[2]}"
    if match := _SKEWNESS.match(name):
        return f"{prefix}{direction_label(match[1], names)} skewness of 10-occurrence"
    if match := _DIRECTED.match(name):
        return f"{prefix}{direction_label(match[2], names)} {match[1]}"
    if match := _LOSS_DIRECTED.match(name):
        return f"{prefix}loss, {direction_label({'ab': 'a2b', 'ba': 'b2a'}[match[1]], names)}"
    if (match := _OF_HEAD.match(name)) and (match[2] == "fused" or "abc".index(match[2]) < len(names)):
        return prefix + _head_label(match[1], match[2], names)
    words = {"macro_f1": "macro F1"}
    return prefix + words.get(name, name)


def _head_label(metric: str, head: str, names: tuple[str, ...]) -> str:
    """The label of a head of a classifier: its modality, or all of them for the fused head."""
    if head == "fused":
        every = f"{', '.join(names[:-1])} and {names[-1]}"
        return f"accuracy, {every}" if metric == "accuracy" else f"{metric}, head of {every}"
    name = names["abc".index(head)]
    return f"accuracy, {name} alone" if metric == "accuracy" else f"{metric}, {name} head"


def metrics_line(metrics: Mapping[str, float], names: tuple[str, ...] = ("a", "b")) -> str:
    """The metrics of one split as a line; recalls of a direction share its name.

    Args:
      metrics: in percent, their keys without the split.
      names: of the modalities.

    >>> found = {"a2b_R@1": 31.0, "a2b_R@5": 60.24, "b2a_R@1": 28.0, "rsum": 119.2}
    >>> metrics_line(found, ("image", "text"))
    'image → text R@1 31.0, R@5 60.2, text → image R@1 28.0, rsum 119.2'
    >>> metrics_line({"accuracy": 61.0, "accuracy_a": 40.0}, ("audio", "image"))
    'accuracy 61.0, audio alone 40.0'
    """
    parts, before = [], ""
    for key in in_reading_order(metrics):
        label = metric_label(key, names)
        direction, recall, depth = label.partition(" R@")
        if recall and direction == before:
            label = f"R@{depth}"
        before = direction if recall else ""
        parts.append(f"{label.removeprefix('accuracy, ')} {metrics[key]:.1f}")
    return ", ".join(parts)


def is_percent(key: str) -> bool:
    """Whether a metric has the unit percent.

    >>> is_percent("val/b2a_R@10"), is_percent("train/loss")
    (True, False)
    """
    return _PERCENT.match(key.rpartition("/")[2]) is not None


def as_percent(metrics: Mapping[str, float]) -> dict[str, float]:
    """Converts the metrics of one split to percent.

    Metrics of multi-instance retrieval (`mAP_a2b`, `nDCG`, ...) are fractions, `mAP` of classification is a percentage;
    beside the former, `mAP` is a fraction too.

    >>> as_percent({"mAP_a2b": 0.5, "mAP_b2a": 0.25, "mAP": 0.375})
    {'mAP_a2b': 50.0, 'mAP_b2a': 25.0, 'mAP': 37.5}
    >>> as_percent({"mAP": 61.0, "accuracy": 58.0})
    {'mAP': 61.0, 'accuracy': 58.0}
    """
    names = {key: key.rpartition("/")[2] for key in metrics}
    fractions = {name for name in names.values() if name.startswith("nDCG") or _DIRECTED.match(name)}
    if fractions:
        fractions.add("mAP")
    return {key: 100 * value if names[key] in fractions else value for key, value in metrics.items()}


def in_reading_order(keys: Iterable[str]) -> list[str]:
    """Sorts metric keys: recalls by direction and K, their sum, then the others in their order.

    >>> in_reading_order(["loss", "b2a_R@1", "rsum", "a2b_R@10", "a2b_R@5"])
    ['a2b_R@5', 'a2b_R@10', 'b2a_R@1', 'rsum', 'loss']
    """

    def place(key: str) -> tuple[int, str, int]:
        name = key.rpartition("/")[2]
        if match := _RECALL.match(name):
            return (0, match[1], int(match[2]))
        return (1, "", 0) if name == "rsum" else (2, "", 0)

    return sorted(dict.fromkeys(keys), key=place)
