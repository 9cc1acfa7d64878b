"""One process of several, with nothing of a training but what processes say to each other."""

import os
import sys
import time

import jax
import numpy as np
import pytest
from absl import flags

from alignment_jax.cli import common
from alignment_jax.cli.main import _leave
from alignment_jax.core.errors import RunError
from alignment_jax.train import processes


def talk(devices):
    number = jax.process_index()
    columns = processes.own_columns(devices, 12).tolist()
    expected = [4 * number, 4 * number + 1, 4 * number + 2, 4 * number + 3]
    assert columns == expected, columns

    def compute():
        assert number == 0, "only the first process computes"
        return {"a": 0.1 + 0.2, "b": float("inf"), "c": "é"}

    assert processes.from_primary(compute) == {"a": 0.1 + 0.2, "b": float("inf"), "c": "é"}

    def fail():
        raise RunError("an embedding is not finite")

    with pytest.raises(RunError, match=r"^an embedding is not finite$"):  # on every process
        processes.from_primary(fail)
    bits = np.array([-0.0, np.nan, 1e-45], np.float32)
    sent = {"bits": bits, "flag": np.array(True)}
    got = processes.arrays_from_primary(sent if number == 0 else {"bits": 0 * bits, "flag": np.array(False)})
    assert got["bits"].tobytes() == bits.tobytes()
    assert got["flag"].item() is True
    processes.check_same("seed", "same")
    with pytest.raises(RunError, match="process 2 has another seed"):
        processes.check_same("seed", str(number == 2))
    mesh = jax.sharding.Mesh(np.array(devices), ("batch",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("batch"))
    rows = np.arange(12, dtype=np.float32)
    batch = processes.place_own({"x": rows[columns]}, sharding)
    total = jax.jit(lambda x: (x * rows).sum())(batch["x"])
    assert float(total) == (rows**2).sum()
    processes.wait_for_all("end")


def main(arguments):
    mode, *rest = arguments
    values = flags.FlagValues()
    common.define_processes(values)
    values(["worker", *rest])
    common.start_processes(values)
    print("joined", flush=True)
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    if mode == "talk":
        talk(devices)
    while mode == "meet":  # until somebody is gone
        with processes.losing_others():
            processes.wait_for_all("step")
        print("met", flush=True)
        time.sleep(0.01)
    if mode == "idle":
        time.sleep(1000)
    print("good", flush=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except RunError as failure:
        print(f"error: {failure}", file=sys.stderr)
        _leave(failure.exit_status)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(3)
