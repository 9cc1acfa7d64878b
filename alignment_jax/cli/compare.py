"""`alignment-jax compare`: trains several methods over seeds and data conditions, and tests which differ."""

from __future__ import annotations

from collections.abc import Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags

from alignment_jax import config, report
from alignment_jax.cli import common
from alignment_jax.cli.main import parse, status_of
from alignment_jax.compare.engine import compare
from alignment_jax.compare.plan import ComparisonSettings
from alignment_jax.compare.run_records import RUNS
from alignment_jax.compare.training import ComparisonPreempted
from alignment_jax.config.recipes import BALANCING
from alignment_jax.core.errors import ConfigError, UserError
from alignment_jax.core.jsonl import read_rows
from alignment_jax.train.mirror import is_url

_PLAIN = ("recipe", "default")  # the configuration without any method
_BASELINES = ("baseline", "shuffle", "vanilla")
_FLAG = "config"
# Errors of a config file without a `method=` argument: unknown argument, or a get_config without arguments.
_NO_METHOD_ARGUMENT = ("unknown config argument 'method'", "get_config() takes 0 positional arguments")


def define(values: flags.FlagValues, arguments: Sequence[str]) -> None:
    common.define_workdir(values, "Folder of the comparison: records, results, report. Must be local.")
    config_flags.DEFINE_config_file(
        _FLAG,
        None,
        "FILE.py[:argument,...], shared by all methods; --config.SECTION.NAME=VALUE changes a setting for all of them.",
        lock_config=True,
        sys_argv=["", *arguments],
        flag_values=values,
    )
    flags.DEFINE_string(
        "methods", None, "Names separated by commas: values of the config's method= argument, or 'recipe' for the "
        "config without a method.", flag_values=values,
    )  # fmt: skip
    flags.DEFINE_string(
        "baseline", None, "The method to compare the others with; by default the one named baseline, shuffle or "
        "vanilla, else the first.", flag_values=values,
    )  # fmt: skip
    flags.DEFINE_integer("seeds", 5, "Number of seeds for every method and data condition.", flag_values=values)
    flags.DEFINE_string(
        "fractions",
        "",
        "Fractions of the training samples, for example 0.1,0.3,1; by default the config's input.fraction.",
        flag_values=values,
    )
    flags.DEFINE_string(
        "mismatched",
        "",
        "Fractions of training pairs to mismatch, for example 0,0.2; by default the config's input.mismatched.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "search", 0, "Trials of a random search over config.search for each method, judged on val; 0 for no search.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_enum(
        "stress",
        "quick",
        ["none", "quick", "full"],
        "Noise levels of the stress test: none, a few, or all.",
        flag_values=values,
    )
    flags.DEFINE_bool("quiet", False, "Show no progress (log.txt has it).", flag_values=values)


def run(values: flags.FlagValues) -> int:
    if is_url(given := values["workdir"].value or ""):
        raise UserError(
            f"--workdir is {given}: compare needs a local folder; upload it when the comparison is finished"
        )
    folder = common.workdir(values)
    base = values[_FLAG].value
    if base is None:
        raise UserError(
            "--config is missing: give a configuration file, for example --config=configs/flickr8k_frozen.py"
        )
    methods = [name.strip() for name in (values["methods"].value or "").split(",") if name.strip()]
    if not methods:
        raise UserError(
            "--methods is missing: give names separated by commas, for example --methods=baseline,vals,mm_ts"
        )
    baseline = values["baseline"].value or next((name for name in _BASELINES if name in methods), methods[0])
    settings = ComparisonSettings(
        base=base,
        config_of=lambda name: _config_of(values, base, name),
        methods=methods,
        baseline=baseline,
        seeds=_whole(values, "seeds"),
        fractions=_numbers(values, "fractions") or [base.input.fraction],
        mismatched=_numbers(values, "mismatched") or [base.input.mismatched],
        search=_whole(values, "search"),
        stress=str(values["stress"].value),
    )
    environment = report.environment(common.describe_devices())
    try:
        print(compare(folder, settings, environment=environment, quiet=bool(values["quiet"].value)))
    except ComparisonPreempted as stopped:
        return status_of(stopped.stopped_by)
    except KeyboardInterrupt:
        runs = read_rows(folder / RUNS)
        kept = f"{len(runs)} finished runs are kept" if runs else "no run is finished yet"
        raise KeyboardInterrupt(f"{kept}; the same command trains the missing ones") from None
    return 0


def _config_of(values: flags.FlagValues, base: ConfigDict, method: str) -> ConfigDict:
    """The configuration of a method; the hubness correction of the base is that of all methods."""
    found = _own_config(values, base, method)
    for name in ("hubness", "bank_size"):
        found.eval[name] = base.eval[name]
    return found


def _own_config(values: flags.FlagValues, base: ConfigDict, method: str) -> ConfigDict:
    """The configuration of a method: by the file's `method=` argument, or by the recipes if it has none.

    Overrides come after the method, as they do for `train`.
    """
    if method in _PLAIN:
        return base.copy_and_resolve_references()
    balancing = [name for name in method.split("+") if name in BALANCING]
    if balancing:
        # `method=` of a file names an order of the samples; these combine with any.
        order = "+".join(name for name in method.split("+") if name not in balancing)
        found = _own_config(values, base, order or _PLAIN[0])
        config.apply_methods(found, "+".join(balancing))
        _override(values, base, found)
        return found
    own = _by_argument(values, method)
    if own is not None and not (_same(own, base) and _is_ignored(values, base)):
        return own
    changed = base.copy_and_resolve_references()
    config.apply_methods(changed, "" if method in _BASELINES else method)
    _override(values, base, changed)
    return changed


def _override(values: flags.FlagValues, base: ConfigDict, changed: ConfigDict) -> None:
    """Gives `changed` the values of the settings that the command line overrides."""
    for name in config_flags.get_override_values(values[_FLAG]):
        section, _, key = name.partition("[")[0].rpartition(".")  # an index is an entry of a tuple
        _section(changed, section)[key] = _section(base, section)[key]


def _by_argument(values: flags.FlagValues, method: str) -> ConfigDict | None:
    """The file's configuration for `method=`; None if it has no such argument.

    Raises:
      UserError: --config names a method already.
      ConfigError: the file has no such method.
    """
    path = str(config_flags.get_config_filename(values[_FLAG]))
    file, _, argument = path.partition(":")
    if any(piece.strip().startswith("method=") for piece in argument.split(",")):
        raise UserError(f"--config names a method ({argument}); leave it out and name it in --methods")
    overrides = [f"--{_FLAG}.{name}={value}" for name, value in config_flags.get_override_values(values[_FLAG]).items()]
    arguments = [f"--{_FLAG}={file}:{argument}{',' if argument else ''}method={method}", *overrides]
    own = flags.FlagValues()
    config_flags.DEFINE_config_file(_FLAG, None, "", lock_config=True, sys_argv=["", *arguments], flag_values=own)
    try:
        parse("compare", own, arguments)
    except ConfigError as error:
        if any(words in str(error) for words in _NO_METHOD_ARGUMENT):
            return None
        raise
    return own[_FLAG].value


def _is_ignored(values: flags.FlagValues, base: ConfigDict) -> bool:
    """Whether the file accepts any text as `method=` and ignores it."""
    try:
        found = _by_argument(values, "no_method_at_all")
    except ConfigError:
        return False  # it checks the name, and this method is its default
    return found is not None and _same(found, base)


def _same(one: ConfigDict, other: ConfigDict) -> bool:
    """Whether two configurations are equal except for their name."""
    first, second = (one_of.copy_and_resolve_references().to_dict() for one_of in (one, other))
    return {**first, "name": ""} == {**second, "name": ""}


def _section(found: ConfigDict, path: str) -> ConfigDict:
    for part in filter(None, path.split(".")):
        found = found[part]
    return found


def _whole(values: flags.FlagValues, name: str) -> int:
    number = values[name].value
    if not isinstance(number, int):
        raise UserError(f"--{name} needs a whole number")
    return number


def _numbers(values: flags.FlagValues, name: str) -> list[float]:
    text = str(values[name].value)
    try:
        return [float(piece) for piece in text.split(",") if piece.strip()]
    except ValueError as error:
        raise UserError(f"--{name} is {text!r}; give numbers separated by commas, for example 0.1,0.3,1") from error
