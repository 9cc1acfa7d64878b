"""TensorBoard reads the scalars, without the steps that a resumed run repeats."""

import subprocess
import sys

import numpy as np
import pytest

from alignment_jax.report import TensorBoardLog

pytest.importorskip("tensorboardX", reason="needs the extra 'train'")
accumulator = pytest.importorskip(
    "tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard to read events back"
)


def _scalars(folder, name):
    events = accumulator.EventAccumulator(str(folder), size_guidance={accumulator.SCALARS: 0})
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_scalars_come_back(tmp_path):
    with TensorBoardLog(tmp_path) as log:
        log.write(1, {"train/loss": 2.5, "note": "text", "nothing": None})
        log.write(2, {"train/loss": np.float32(1.5)})
    assert _scalars(tmp_path, "train/loss") == [(1, 2.5), (2, 1.5)]


def test_a_resumed_run_takes_back_later_steps_and_no_earlier_ones(tmp_path):
    with TensorBoardLog(tmp_path) as log:
        for step in range(1, 6):
            log.write(step, {"x": float(step)})
    with TensorBoardLog(tmp_path, resume_step=3) as log:  # within the same second: needs another file
        log.write(4, {"x": 40.0})
    assert len(list(tmp_path.iterdir())) == 2
    assert _scalars(tmp_path, "x") == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 40.0)]


def test_writing_imports_no_torch(tmp_path):
    """It takes seconds, of every start of a run; afterwards it can be imported."""
    code = (
        "import sys; from alignment_jax.report import TensorBoardLog\n"
        f"with TensorBoardLog({str(tmp_path)!r}) as log: log.write(1, {{'x': 3.0}})\n"
        "assert 'torch' not in sys.modules, 'imported torch'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert _scalars(tmp_path, "x") == [(1, 3.0)]
