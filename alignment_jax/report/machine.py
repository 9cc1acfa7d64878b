"""Memory of this process, and sizes and durations as text."""

from __future__ import annotations

import os
import re
import sys


def host_memory() -> int | None:
    """Resident set of this process in bytes; None where unknown."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return peak_host_memory()


def peak_host_memory() -> int | None:
    """Peak resident set of this process in bytes; None where unknown."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def format_bytes(count: float | None) -> str:
    """A number of bytes as text, in powers of 1024.

    >>> format_bytes(3 * 1024**3 // 2), format_bytes(900), format_bytes(None)
    ('1.5 GiB', '900 B', 'unknown')
    """
    if count is None:
        return "unknown"
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} {unit}" if unit in ("B", "KiB") else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def parse_bytes(text: str) -> int:
    """A size as bytes: a number with a unit, KiB, MiB, GiB, TiB (powers of 1024) or B, kB, MB, GB, TB (of 1000).

    Raises:
      ValueError: there is no such unit, or the number is not positive.

    >>> parse_bytes("1.5GiB") == 3 * 1024**3 // 2, parse_bytes("24 GB")
    (True, 24000000000)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b\s*", text.lower())
    if found is None or (found[3] and not found[2]):
        raise ValueError(f"{text!r} is no size; give a number and a unit, as in 16GiB or 24GB")
    power = " kmgt".index(found[2] or " ")
    count = round(float(found[1]) * (1024 if found[3] else 1000) ** power)
    if count < 1:
        raise ValueError(f"{text!r} is less than one byte")
    return count


def format_seconds(seconds: float | None) -> str:
    """A duration as text.

    >>> format_seconds(4.26), format_seconds(75), format_seconds(7384), format_seconds(200000)
    ('4.3 s', '1 min 15 s', '2 h 03 min', '2 d 7 h')
    """
    if seconds is None or seconds != seconds or seconds in (float("inf"), float("-inf")):
        return "unknown"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = whole // 60
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"
