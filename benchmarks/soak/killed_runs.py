"""Runs of the command line that are killed at a chosen moment, in processes forked from one that has imported it all.

Import this before JAX: it sets what JAX reads when it starts.
"""

from __future__ import annotations

import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(pathlib.Path.home() / ".cache" / "alignment_jax" / "jax_compilation_cache")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
os.environ.setdefault("MPLBACKEND", "Agg")

import dataclasses
import functools
import json
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

# Nothing of JAX runs before the fork, so its warning about threads does not apply.
warnings.filterwarnings("ignore", message=r".*os\.fork\(\)")

import matplotlib.pyplot  # noqa: E402, F401 - imported once for all forks
import numpy as np  # noqa: E402

from alignment_jax.cli import embed, evaluate, main, train  # noqa: E402, F401 - likewise
from alignment_jax.train import checkpoint, epoch_order, periodic_evaluation, position  # noqa: E402

# phase -> (owner, name of the function at the start of the phase, length of the phase in seconds)
PHASES: dict[str, tuple[Any, str, float]] = {
    "start": (train, "fit", 3.0),
    "step": (position.Position, "advance", 0.02),
    "save": (checkpoint.Checkpoints, "save", 0.08),
    "evaluation": (periodic_evaluation.PeriodicEvaluation, "evaluate", 0.03),
    "re-scoring": (epoch_order.EpochOrder, "_scoring_batches", 0.03),
    "report": (train, "write_run_results", 1.5),
}


@dataclasses.dataclass(frozen=True)
class Death:
    """When a process dies: `delay` seconds after the beginning of the `occurrence`-th of a phase."""

    phase: str
    occurrence: int
    delay: float
    how: signal.Signals = signal.SIGKILL


def run(arguments: Sequence[str], log: pathlib.Path, death: Death | None = None) -> int:
    """Runs one command in a new process; returns its exit status, or minus the signal that ended it."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 99
    try:
        with open(log, "ab", buffering=0) as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        if death is not None:
            _arm(death)
        status = main.main(list(arguments))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _arm(death: Death) -> None:
    owner, name, _ = PHASES[death.phase]
    original, calls = getattr(owner, name), [0]

    def die() -> None:
        time.sleep(death.delay)
        os.kill(os.getpid(), death.how)

    @functools.wraps(original)
    def counted(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == death.occurrence:
            threading.Thread(target=die, daemon=True).start()
        return original(*args, **kwargs)

    setattr(owner, name, counted)


def outcome(arguments: Sequence[str], workdir: pathlib.Path, log: pathlib.Path) -> dict[str, Any]:
    """All results of a finished run that must not depend on interruptions."""
    found: dict[str, Any] = {
        "metrics": (workdir / "metrics.jsonl").read_bytes(),
        "results": (workdir / "results.json").read_bytes(),
    }
    for kind in (checkpoint.LAST, checkpoint.BEST):
        folder = workdir / "checkpoints" / kind
        step = max(int(path.name) for path in folder.iterdir() if path.name.isdigit())
        record = json.loads((folder / str(step) / "loop" / "metadata").read_text())
        found[kind] = (step, record["checksums"])
    spec = arguments[2].partition(":")[2]
    if spec.startswith("embeddings:"):
        target = workdir / "embedded.npz"
        status = run(["embed", "--workdir", str(workdir), "--data", spec, "--out", str(target)], log)
        assert status == 0, f"{log}: embed failed"
        with np.load(target) as arrays:
            found["embeddings"] = {name: arrays[name].tobytes() for name in arrays.files}
    return found
