"""Where the metrics of a run go beside metrics.jsonl: `log.NAME=true` turns an entry of METRIC_WRITERS on."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

from alignment_jax.core.errors import ConfigError, suggest
from alignment_jax.report.tensorboard import TensorBoardLog
from alignment_jax.report.wandb_log import WandbLog


class MetricWriter(Protocol):
    """Part of `clu.metric_writers.MetricWriter`, so that CLU's writers fit."""

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


# (workdir, configuration, step of the checkpoint that the run resumes from, -1 without one) -> writer
OpenWriter: TypeAlias = Callable[[pathlib.Path, Mapping[str, Any], int], MetricWriter]


def _tensorboard(workdir: pathlib.Path, config: Mapping[str, Any], resume_step: int) -> MetricWriter:
    return TensorBoardLog(workdir / "tensorboard", resume_step=resume_step)


def _wandb(workdir: pathlib.Path, config: Mapping[str, Any], resume_step: int) -> MetricWriter:
    return WandbLog(workdir, config)


METRIC_WRITERS: dict[str, OpenWriter] = {"tensorboard": _tensorboard, "wandb": _wandb}
_OTHERS = ("interval",)  # settings of the section that name no writer


def writers_of(log: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the writers that the section `log` of a configuration turns on.

    Raises:
      ConfigError: a setting names no writer.

    >>> writers_of({"interval": "10 steps", "tensorboard": True, "wandb": False})
    ('tensorboard',)
    """
    for name in log:
        if name not in METRIC_WRITERS and name not in _OTHERS:
            raise ConfigError(f"log.{name}: no such writer of metrics{suggest(name, METRIC_WRITERS)}")
    return tuple(name for name in METRIC_WRITERS if log.get(name))
