"""Saves step 1, gets into trouble with the disk, and tries to save step 2; run as a script, which ends as a run would.

In a separate process, because a save that failed leaves threads of orbax behind that may finish it when there is room
again, or wait five minutes for its folder.
"""

import contextlib
import os
import pathlib
import resource
import subprocess
import sys

import jax.numpy as jnp

from alignment_jax.cli.terminal_noise import without_orbax_logs
from alignment_jax.core.errors import RunError
from alignment_jax.train.checkpoint import Checkpoints


def state_of(value):
    return {"w": jnp.full((64, 8), value, jnp.float32)}


def small_files(disk):
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))


def full(disk):
    with contextlib.suppress(OSError), open(disk / "filler", "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def read_only(disk):
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)


TROUBLES = {trouble.__name__: trouble for trouble in (small_files, full, read_only)}


def main(disk, trouble):
    checkpoints = Checkpoints(disk / "c")
    checkpoints.save(1, state_of(1), {})
    checkpoints.wait()
    TROUBLES[trouble](disk)
    try:
        checkpoints.save(2, state_of(2), {})
        checkpoints.wait()
    except RunError as error:
        print(error, flush=True)
    os._exit(0)


if __name__ == "__main__":
    with without_orbax_logs():  # as the command line does it
        main(pathlib.Path(sys.argv[1]), sys.argv[2])
