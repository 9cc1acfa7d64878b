"""Energy of the processor from its counters (RAPL), where the system allows reading them."""

from __future__ import annotations

import pathlib
import time

# A counter wraps after a quarter of an hour or more; several wraps look like one.
_WRAPS = 600.0
_COUNTERS = pathlib.Path("/sys/class/powercap")


class EnergyMeter:
    """Joules since construction, over all processor packages and all programs.

    Args:
      folder: of the counters of Linux.

    >>> EnergyMeter(pathlib.Path("no/such/folder")).joules() is None
    True
    """

    def __init__(self, folder: pathlib.Path = _COUNTERS):
        # The package includes its domains ("intel-rapl:0:1").
        self._domains = [path for path in sorted(folder.glob("*-rapl:*")) if path.name.count(":") == 1]
        self._last = self._read()
        self._total, self._clock = 0.0, time.monotonic()

    def joules(self) -> float | None:
        """Joules so far; None where the counters cannot be read, or after too long a pause between two calls."""
        now, clock = self._read(), time.monotonic()
        if now is None or self._last is None or clock - self._clock > _WRAPS:
            return None
        for path, before, after in zip(self._domains, self._last, now, strict=True):
            self._total += after - before if after >= before else after - before + self._range(path)
        self._last, self._clock = now, clock
        return self._total

    def _read(self) -> list[float] | None:
        try:
            found = [float((path / "energy_uj").read_text()) / 1e6 for path in self._domains]
        except (OSError, ValueError):
            return None
        return found or None

    @staticmethod
    def _range(path: pathlib.Path) -> float:
        try:
            return float((path / "max_energy_range_uj").read_text()) / 1e6
        except (OSError, ValueError):
            return 0.0
