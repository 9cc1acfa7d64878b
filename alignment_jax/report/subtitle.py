"""The line below a page's title: what was run, on which data, when."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_TIME = re.compile(r"(\d{4}-\d{2}-\d{2})T(\d{2}:\d{2}):\d{2}Z")


def subtitle(config: Mapping[str, Any], environment: Mapping[str, Any], *, first: Sequence[str] = ()) -> list[str]:
    """The parts of the line, those that are known.

    Args:
      config: of the run, or what the methods of a comparison have in common.
      environment: what `environment()` returned.
      first: what to say before the rest.

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
