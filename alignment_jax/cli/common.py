"""Flags and steps that several subcommands share."""

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

# How long a process may be silent before the others give up on it.
HEARTBEAT_SECONDS = 30


def define_workdir(values: flags.FlagValues, help_text: str) -> None:
    """--workdir, required."""
    flags.DEFINE_string("workdir", None, help_text, flag_values=values)


def workdir(values: flags.FlagValues) -> pathlib.Path:
    """The absolute workdir of a run that is only read; one at a URL is fetched.

    Raises:
      UserError: the flag is missing, or there is no run at the URL.
      RunError: the URL cannot be read.
    """
    given = _given_workdir(values)
    if not is_url(given):
        return pathlib.Path(given).expanduser().absolute()
    folder = local_folder(given)
    if not Mirror(given, folder).fetch():
        raise UserError(f"there is no run at {given}; give the --workdir of a training")
    return folder


@contextlib.contextmanager
def kept_workdir(values: flags.FlagValues) -> Iterator[pathlib.Path]:
    """The absolute workdir of a run that is about to be written, the same in all its processes.

    At a URL, the run goes on in a local folder: what is there is fetched first, and process 0 keeps the copy up to
    date. Nothing of another run is uploaded: the local folder of one is set aside by the fetch.
    """
    given = _given_workdir(values)
    if not is_url(given):
        yield pathlib.Path(given).expanduser().absolute()
        return
    folder = local_folder(given)
    mirror = Mirror(given, folder)

    def begin() -> dict[str, Any]:
        if mirror.fetch():
            mirror.push()  # this machine may have saved what it could not upload before it was stopped
        return {}

    processes.compute_on_primary(begin)
    if not processes.is_primary():
        mirror.fetch()
    processes.barrier("workdir fetched")  # others on this machine must not set aside what process 0 begins
    if not processes.is_primary():
        yield folder
        return
    with mirrored(mirror):
        yield folder


def _given_workdir(values: flags.FlagValues) -> str:
    if not values["workdir"].value:
        raise UserError("--workdir is missing: give the folder of the run, as in --workdir=runs/first")
    return values["workdir"].value


def define_on_bad_sample(values: flags.FlagValues, default: str | None = "error") -> None:
    """--on_bad_sample, None for what the run was trained with."""
    flags.DEFINE_enum(
        "on_bad_sample",
        default,
        list(ON_BAD_SAMPLE),
        "error ends at what cannot be read; skip leaves it out and names it.",
        flag_values=values,
    )


def define_processes(values: flags.FlagValues) -> None:
    """Flags for runs of several processes."""
    flags.DEFINE_string("coordinator_address", None, "HOST:PORT of process 0.", flag_values=values)
    flags.DEFINE_integer("num_processes", None, "Number of processes of this run.", flag_values=values)
    flags.DEFINE_integer("process_id", None, "Number of this process, from 0.", flag_values=values)
    flags.DEFINE_bool("distributed", False, "On a TPU pod: find the other processes.", flag_values=values)


def start_processes(values: flags.FlagValues) -> None:
    """Joins the other processes, before JAX looks at its devices.

    Raises:
      UserError: only some of the three flags are given, or the processes cannot be joined.
      RunError: another process ended before all had met.
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
    """Joins, and from then on gives up within the time of a few missed heartbeats when another process is gone."""
    try:
        jax.distributed.initialize(**given, heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
    except (ValueError, RuntimeError) as error:
        raise UserError(f"the processes of this run cannot be joined: {' '.join(str(error).split())[:300]}") from error
    processes.exit_when_aborted()
    processes.initialize_devices()


def describe_devices() -> dict[str, object]:
    """What JAX runs on, as plain values for environment.json."""
    devices = jax.devices()
    return {
        "platform": devices[0].platform,
        "kind": devices[0].device_kind,
        "count": len(devices),
        "processes": jax.process_count(),
    }
