"""`alignment-jax train --plan`: the memory that a configuration needs, before anything is trained or written."""

from __future__ import annotations

from collections.abc import Iterable

import jax
from absl import flags
from ml_collections import ConfigDict

from alignment_jax import report
from alignment_jax.assembly.build import build
from alignment_jax.core.errors import ConfigError, UserError
from alignment_jax.train import processes
from alignment_jax.train.memory_plan import MemoryPlan, StateMemory, StepMemory, device_memory_limit

SETTING = "optimizer.micro_batch"


def define(values: flags.FlagValues) -> None:
    """--plan and --memory."""
    flags.DEFINE_bool(
        "plan",
        False,
        "Print the memory that the training step needs on one device, and end: nothing is trained or written.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "memory",
        None,
        "With --plan: the memory of one device, as in 16GiB or 24GB; finds the largest optimizer.micro_batch that "
        "fits. Without it, what JAX may allocate on this device, where it has a limit.",
        flag_values=values,
    )


def requested_limit(values: flags.FlagValues) -> int | None:
    """The bytes of --memory; None where it is absent.

    Raises:
      UserError: it is no number of bytes, or --plan is missing.
    """
    text = values["memory"].value
    if text is None:
        return None
    if not values["plan"].value:
        raise UserError("--memory only has an effect with --plan; add --plan, or leave it out")
    try:
        return report.parse_bytes(text)
    except ValueError as error:
        raise UserError(f"--memory: {error}") from None


def run_plan(config: ConfigDict, *, limit: int | None) -> int:
    """Prints the memory of a configuration; returns the exit status.

    Args:
      config: the complete configuration.
      limit: bytes of one device; None for what JAX may allocate on this device, where it has a limit.

    Raises:
      ConfigError: nothing fits into the limit, or the configuration cannot be built.
    """
    experiment = build(_without_closed_form(config)).experiment
    device = jax.local_devices()[0]
    limit = device_memory_limit(device) if limit is None else limit
    plan = MemoryPlan(experiment)
    state, configured = plan.state(), int(config.optimizer.micro_batch)
    best = None if limit is None else plan.largest_micro_batch(limit)
    further = _examples(plan) if limit is None else plan.compiled
    sizes = sorted({0, configured, *further}, key=lambda size: size or plan.rows)
    lines = [
        f"rows of a batch: {experiment.batch_size}; of one device: {plan.rows}; devices: {len(experiment.devices)}",
        report.to_plain(_state_table(state)),
        report.to_plain(_step_table([(size, plan.step(size)) for size in sizes], limit)),
        f"compiled for {device.device_kind}; evaluation, which runs between the steps, is not counted",
    ]
    if plan.obstacle:
        lines.append(plan.obstacle)
    elif limit is None:
        lines.append(f"--memory=16GiB finds the largest {SETTING} that fits into 16 GiB")
    fits = limit is not None and (plan.fits(configured, limit) or best is not None)
    if fits:
        assert limit is not None
        lines.append(_verdict(plan, configured, best, limit))
    if processes.is_primary():
        print("\n\n".join(lines))
    if limit is not None and not fits:
        raise ConfigError(_refusal(plan, state, config, limit))
    return 0


def _without_closed_form(config: ConfigDict) -> ConfigDict:
    """The configuration with random initial parameters, of the same shapes: the closed form reads all of train."""
    if config.init.name != "cca" or config.init.similarity != "cosine":
        return config
    config = config.copy_and_resolve_references()
    config.init.name, config.init.selection, config.init.training = "random", "val", "always"
    return config


def _examples(plan: MemoryPlan) -> list[int]:
    """A quarter and a sixteenth of the rows, rounded down to powers of two."""
    if plan.obstacle:
        return []
    return [2 ** ((plan.rows // part).bit_length() - 1) for part in (4, 16) if plan.rows >= part]


def _state_table(state: StateMemory) -> report.Table:
    rows = [
        ("parameters, trained", state.trained, state.trained_bytes),
        ("parameters, frozen", state.frozen, state.frozen_bytes),
        ("moving average of parameters", None, state.average_bytes),
        ("optimizer state", None, state.optimizer_bytes),
        ("other state", None, state.other_bytes),
        ("training data on the device", None, state.table_bytes),
        ("sum", state.trained + state.frozen, state.total),
    ]
    return report.table(
        ["stays on one device", "numbers", "bytes"],
        [[name, report.Cell("" if n is None else f"{n:,}", n), _size(count)] for name, n, count in rows],
    )


def _step_table(steps: Iterable[tuple[int, StepMemory | None]], limit: int | None) -> report.Table:
    columns = ["training step", "arguments", "outputs", "in place of arguments", "temporaries", "sum"]
    rows: list[list[report.Cell | str | None]] = []
    for size, step in steps:
        name = f"{SETTING}={size}" + ("" if size else " (whole batch)")
        if step is None:
            rows.append([name, *[None] * 4, "out of memory"])
        else:
            numbers = (step.arguments, step.outputs, step.aliased, step.temporaries, step.total)
            rows.append([name, *map(_size, numbers)])
        if limit is not None:
            rows[-1].append("yes" if step is not None and step.total <= limit else "no")
    return report.table([*columns, *([] if limit is None else [f"fits {report.format_bytes(limit)}"])], rows)


def _size(count: int) -> report.Cell:
    return report.Cell(report.format_bytes(count), count)


def _verdict(plan: MemoryPlan, configured: int, best: int | None, limit: int) -> str:
    """What to type next, where something fits."""
    size = report.format_bytes(limit)
    rows = plan.rows if best == 0 else best
    used = min(configured or plan.rows, plan.rows)
    if plan.fits(configured, limit):
        if rows is None or rows <= used:
            return f"it fits into {size}"
        return f"it fits into {size}; so do {rows} rows at a time: --config.{SETTING}={best}"
    return f"it does not fit into {size}; the largest power of two that fits: --config.{SETTING}={best}"


def _refusal(plan: MemoryPlan, state: StateMemory, config: ConfigDict, limit: int) -> str:
    """One line for a limit that nothing fits into, with what remains."""
    size, fixed = report.format_bytes(limit), report.format_bytes(state.total)
    if state.total > limit:
        return (
            f"--memory: {size} do not hold the parameters, optimizer state and data that stay on the device, {fixed}; "
            "choose a smaller model, train.shard=parameters on several devices, or input.resident=off"
        )
    steps = [step for step in map(plan.step, plan.compiled) if step is not None]
    least = min(steps, key=lambda step: step.total, default=None)
    what = f"no {SETTING} fits" if not plan.obstacle else "the whole batch does not fit"
    needs = "" if least is None else f", the smallest step compiled needs {report.format_bytes(least.total)}"
    dense = " or set loss.similarity=tiled" if config.loss.similarity == "dense" else ""
    return f"input.batch_size: {what} into {size}{needs}, of which {fixed} stay on the device; lower it{dense}"
