"""Flags and steps shared by subcommands."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
from absl import flags

from alignment_jax.core.errors import UserError
from alignment_jax.data.bad_samples import ON_BAD_SAMPLE
from alignment_jax.train import processes
from alignment_jax.train.mirror import Mirror, is_url, local_folder, mirrored

# Timeout after which a process without heartbeats counts as dead.
HEARTBEAT_SECONDS = 30


def define_workdir(values: flags.FlagValues, help_text: str) -> None:
    """--workdir, required."""
    flags.DEFINE_string("workdir", None, help_text, flag_values=values)


def workdir(values: flags.FlagValues) -> pathlib.Path:
    """The absolute workdir of a run, to read; a workdir at a URL is fetched.

    Raises:
      UserError: the flag is missing, or there is no run at the URL.
      RunError: the URL cannot be read.
    """
    given = _given_workdir(values)
    if not is_url(given):
        return pathlib.Path(given).expanduser().absolute()
    folder = local_folder(given)
    if not Mirror(given, folder).fetch():
        raise UserError(f"there is no run at {given}; give the --workdir of a run")
    return folder


@contextlib.contextmanager
def writable_workdir(values: flags.FlagValues) -> Iterator[pathlib.Path]:
    """The absolute workdir of a run, to write; the same in all its processes.

    For a URL, the run is fetched into a local folder, and process 0 uploads every change. The fetch moves a local
    folder of another run aside, so that nothing of it is uploaded.
    """
    given = _given_workdir(values)
    if not is_url(given):
        yield pathlib.Path(given).expanduser().absolute()
        return
    folder = local_folder(given)
    mirror = Mirror(given, folder)

    def fetch_and_push() -> dict[str, Any]:
        if mirror.fetch():
            mirror.push()  # this machine may have saved checkpoints that it could not upload before it was stopped
        return {}

    processes.compute_on_primary(fetch_and_push)
    if not processes.is_primary():
        mirror.fetch()
    # Without the barrier, other processes on this machine could move aside the files of process 0.
    processes.barrier("workdir fetched")
    if not processes.is_primary():
        yield folder
        return
    with mirrored(mirror):
        yield folder


def _given_workdir(values: flags.FlagValues) -> str:
    if not values["workdir"].value:
        raise UserError("--workdir is missing: give the folder of the run, for example --workdir=runs/first")
    return values["workdir"].value


def define_on_bad_sample(values: flags.FlagValues, default: str | None = "error") -> None:
    """--on_bad_sample; default None for the setting of the run."""
    flags.DEFINE_enum(
        "on_bad_sample",
        default,
        list(ON_BAD_SAMPLE),
        "error: stop at a sample that cannot be read; skip: leave it out and list it.",
        flag_values=values,
    )


def define_processes(values: flags.FlagValues) -> None:
    """Flags for runs of several processes."""
    flags.DEFINE_string(
        "coordinator_address", None, "HOST:PORT of process 0, for a run of several processes.", flag_values=values
    )
    flags.DEFINE_integer("num_processes", None, "Number of processes of the run.", flag_values=values)
    flags.DEFINE_integer("process_id", None, "Index of this process, from 0.", flag_values=values)
    flags.DEFINE_bool("distributed", False, "On a TPU pod: find the other processes automatically.", flag_values=values)


def start_processes(values: flags.FlagValues) -> None:
    """Joins the other processes, before JAX initializes its devices.

    Raises:
      UserError: only some of the three flags are given, or the connection fails.
      RunError: another process ended before all were connected.
    """
    names = ("coordinator_address", "num_processes", "process_id")
    given: dict[str, Any] = {name: values[name].value for name in names}
    missing = [name for name, value in given.items() if value is None]
    if len(missing) < 3 and missing:
        needed = ", ".join(f"--{name}" for name in given)
        raise UserError(f"--{missing[0]} is missing: several processes need all of {needed}")
    if not missing:
        _initialize(**given)
    elif values["distributed"].value:
        _initialize()


def _initialize(**given: Any) -> None:
    """Joins; afterwards this process ends a few missed heartbeats after another one has died."""
    try:
        jax.distributed.initialize(**given, heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"the processes of this run cannot be connected: {' '.join(str(error).split())[:300]}"
        ) from error
    processes.exit_when_aborted()
    processes.initialize_devices()


def describe_devices() -> dict[str, object]:
    """The devices of JAX, as plain values for environment.json."""
    devices = jax.devices()
    return {
        "platform": devices[0].platform,
        "kind": devices[0].device_kind,
        "count": len(devices),
        "processes": jax.process_count(),
    }
