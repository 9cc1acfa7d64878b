"""Recordings that are waveforms in records of a random-access data source (TFDS)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from alignment_jax.data.audio import AudioColumn


@dataclasses.dataclass(frozen=True)
class RecordAudioColumn(AudioColumn):
    """Recordings that are int16 or float waveforms in fields of records.

    Attributes:
      items: `RecordField`s.
      rates: sampling rate of each, Hz.
    """

    items: Sequence[Any]
    rates: Sequence[int] = ()

    def read(self, indices: np.ndarray) -> list[tuple[np.ndarray, int]]:
        found = []
        for i in np.asarray(indices).tolist():
            wave = np.asarray(self.items[i].value())
            scale = 2.0**-15 if wave.dtype == np.int16 else 1.0
            found.append((wave.astype(np.float32) * np.float32(scale), int(self.rates[i])))
        return found

    def take(self, indices: np.ndarray) -> RecordAudioColumn:
        chosen = np.asarray(indices).tolist()
        items, rates = (tuple(values[i] for i in chosen) for values in (self.items, self.rates))
        return dataclasses.replace(self, items=items, rates=rates)
