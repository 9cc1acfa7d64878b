"""Sends metrics to Weights & Biases."""

from __future__ import annotations

import os
import pathlib
import re
import secrets
from collections.abc import Mapping
from typing import Any

from alignment_jax.core.errors import ConfigError
from alignment_jax.core.optional import require
from alignment_jax.core.storage import write_text_atomic

_ID = "wandb_id.txt"


class WandbLog:
    """Sends metrics to a W&B run; a resumed run continues it.

    W&B ignores steps that it has: those that a resumed run repeats have the same metrics. Environment variables of W&B
    apply: WANDB_MODE=offline writes WORKDIR/wandb alone, WANDB_PROJECT replaces the name of the configuration.

    Args:
      workdir: of the run; gets wandb/ and wandb_id.txt.
      config: of the run; W&B shows it.

    Raises:
      MissingPackageError: wandb is not installed.
      ConfigError: W&B cannot start the run, without a login for example.
    """

    def __init__(self, workdir: pathlib.Path, config: Mapping[str, Any]) -> None:
        wandb = require("wandb", extra="wandb", purpose="send metrics to Weights & Biases (log.wandb)")
        known = workdir / _ID
        if not known.is_file():
            write_text_atomic(known, secrets.token_hex(8))
        project = os.environ.get("WANDB_PROJECT") or re.sub(r"[^\w.-]+", "-", str(config.get("name", "")))[:100]
        try:
            self._run = wandb.init(
                project=project or None,
                name=workdir.name,
                id=known.read_text(encoding="utf-8").strip(),
                resume="allow",
                dir=os.fspath(workdir),
                config=dict(config),
                settings=wandb.Settings(console="off"),  # the terminal belongs to the progress display
            )
        except wandb.errors.Error as error:
            raise ConfigError(
                f"log.wandb: {error}; run wandb login, set WANDB_MODE=offline, or leave log.wandb out"
            ) from error

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Sends the numbers of one step; strings and None are skipped."""
        numbers = {name: float(value) for name, value in scalars.items() if not isinstance(value, str | None)}
        self._run.log(numbers, step=int(step))

    def flush(self) -> None:
        """Does nothing: W&B sends in the background."""

    def close(self) -> None:
        """Sends the rest and ends the run."""
        self._run.finish()
