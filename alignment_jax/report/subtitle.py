"""The line below the title of a page: data, version, time."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_TIME = re.compile(r"(\d{4}-\d{2}-\d{2})T(\d{2}:\d{2}):\d{2}Z")


def subtitle(config: Mapping[str, Any], environment: Mapping[str, Any], *, first: Sequence[str] = ()) -> list[str]:
    """The known parts of the line.

    Args:
      config: of the run, or the base of a comparison.
      environment: result of `environment()`.
      first: parts to put first.

    >>> subtitle({"data": "synthetic"}, {"time": "2026-11-27T23:35:44Z"}, first=["2 runs"])
    ['2 runs', 'data synthetic', '2026-11-27 23:35 UTC']
    """
    parts = list(first)
    if isinstance(data := config.get("data"), str):
        parts.append(f"data {data}")
    if isinstance(version := (environment.get("packages") or {}).get("alignment_jax"), str):
        parts.append(f"alignment_jax {version}")
    if isinstance(time := environment.get("time"), str):
        parts.append(_TIME.sub(r"\1 \2 UTC", time))
    return parts
