"""Goals for time and memory of the tiled losses, compared with a benchmark's measurements."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

MIB = 2**20
DIM = 512


GOAL_COLUMNS = ("goal", "wanted", "measured", "at most here", "met")

# Matrix products that an implementation with linear memory needs, as a share of InfoNCE's four.
SHARE_OF_FOUR = {"InfoNCE, tiled": 1.0, "max-margin, tiled": 0.75}


def goals(found: dict[str, Any]) -> list[list[str]]:
    """Rows of GOAL_COLUMNS; a goal without measurements is left out.

    Args:
      found: "times": {"8192 x 512": {implementation: seconds}}, "memory": [[devices, name, MiB of every size]].
    """
    return [
        [goal, f"{sign} {limit:g}", text, bound, "yes" if met else "no"]
        for goal, sign, limit, text, bound, met in _rows(found)
    ]


_Goal = tuple[str, str, float, str, str, bool]


def _rows(found: dict[str, Any]) -> Iterator[_Goal]:
    memory = {(devices, implementation): rest for devices, implementation, *rest in found["memory"]}
    sizes = [2048 * 2**k for k in range(len(next(iter(memory.values()))))]
    for loss in ("infonce", "max_margin", "sigmoid"):
        held = dict(zip(sizes, memory[1, f"{loss} tiled"], strict=True))
        share = max(x / (3 * 4 * n * DIM / MIB + 32) for n, x in held.items() if n >= 4096)
        yield _at_most(
            f"{loss}, tiled: memory, n = 4,096 to 32,768, as a share of 3 (4 n d bytes) + 32 MiB", 1.0, share
        )
        growth = max(held[2 * n] / held[n] for n in held if n >= 4096 and 2 * n in held)
        yield _at_most(f"{loss}, tiled: memory, times a doubling of n", 2.05, growth)
        for implementation, limit in (("ring", 64.0), ("gathered", 256.0)):
            yield _at_most(
                f"{loss}, {implementation}: MiB a device, 8 devices, n = 32,768",
                limit,
                memory[8, f"{loss} {implementation}"][-1],
            )
    ratios = [
        ("InfoNCE, log_softmax", "InfoNCE, tiled", "8192 x 512", 1.5),
        ("InfoNCE, log_softmax", "InfoNCE, tiled", "8192 x 128", 2.8),
        *[("InfoNCE, open_clip in PyTorch", "InfoNCE, tiled", size, 3.0) for size in ("8192 x 512", "8192 x 128")],
        *[("InfoNCE, MM-TS in PyTorch", "InfoNCE, tiled", size, 3.0) for size in ("8192 x 512", "8192 x 128")],
        *[("max-margin, MM-TS in PyTorch", "max-margin, tiled", size, 10.0) for size in ("8192 x 512", "8192 x 128")],
    ]
    for slow, fast, size, least in ratios:
        at = found["times"].get(size, {})
        if slow in at:
            ratio = at[slow] / at[fast]
            bound = at[slow] / (SHARE_OF_FOUR[fast] * at["four products"])
            yield f"time of {slow} / {fast}, {size}", "≥", least, f"{ratio:.2f}", f"{bound:.2f}", ratio >= least
    for size, at in found["times"].items():
        n, d = map(int, size.split(" x "))
        if n <= 512:
            yield _at_most(f"time of InfoNCE, tiled / dense, {size}", 1.15, at["InfoNCE, tiled"] / at["InfoNCE, dense"])
        elif d == DIM:
            ratio = at["InfoNCE, tiled"] / at["four products"]
            limit = 1.15 if n == 8192 else 1.25
            yield _at_most(f"time of InfoNCE, tiled / four products, {size}", limit, ratio)


def _at_most(goal: str, limit: float, value: float) -> _Goal:
    return goal, "≤", limit, f"{value:.3g}", "", value <= limit
