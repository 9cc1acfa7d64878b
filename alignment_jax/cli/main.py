"""`alignment-jax COMMAND --flags`: parses the command line, runs the command, prints an error as one line.

Exit status: 0 success, 1 a run or a checkpoint failed, 2 a usage, configuration or data error, 143 stopped by SIGTERM
after saving, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
import threading
import traceback
from collections.abc import Iterator, Sequence

from absl import flags

from alignment_jax.cli.commands import COMMANDS
from alignment_jax.cli.error_hints import with_flag_hint
from alignment_jax.cli.terminal_noise import one_line_warnings, without_orbax_logs
from alignment_jax.config.shipped import find_config, shipped
from alignment_jax.core.errors import AlignmentError, ConfigError, UserError

PROGRAM = "alignment-jax"
_FLAGS_OF_ABSL = ("flagfile", "undefok")
EXIT_PREEMPTED = 143  # a shell's status of a process that SIGTERM ended
EXIT_INTERRUPTED = 130  # and of one that Ctrl-C ended


def console() -> None:
    """The console script."""
    try:
        status = main(sys.argv[1:])
    except BaseException:
        if _of_several_processes() or _threads_are_left():
            traceback.print_exc()
            _leave(1)
        raise
    if status not in (0, EXIT_PREEMPTED, EXIT_INTERRUPTED) and (_of_several_processes() or _threads_are_left()):
        _leave(status)
    sys.exit(status)


def status_of(stopped_by: str) -> int:
    """The exit status of a run that has saved a checkpoint and stopped.

    >>> status_of("Ctrl-C")
    130
    """
    return EXIT_INTERRUPTED if stopped_by == "Ctrl-C" else EXIT_PREEMPTED


def _of_several_processes() -> bool:
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized()


def _threads_are_left() -> bool:
    """Whether Python would wait for a thread: orbax's wait five minutes for a checkpoint folder that cannot be made."""
    return any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread())


def _leave(status: int) -> None:
    """Ends a failed process at once; `sys.exit` would wait for threads or other processes."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main(arguments: Sequence[str]) -> int:
    """Runs a command line and returns its exit status."""
    debug = "--debug" in arguments
    try:
        return _dispatch([argument for argument in arguments if argument != "--debug"])
    except AlignmentError as error:
        if debug:
            raise
        print(f"{PROGRAM}: error: {' '.join(with_flag_hint(error, arguments[0]).split())}", file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:
        # The reader has closed the pipe (`| head`); the flush at exit must not fail, too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as interrupt:
        kept = str(interrupt) or "saved checkpoints are kept; run the same command to continue"
        print(f"{PROGRAM}: interrupted; {kept}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except OSError as error:
        if debug:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"{PROGRAM}: error: {where}{error.strerror or error}", file=sys.stderr)
        return 1


def _dispatch(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(_overview())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from alignment_jax import __version__

        print(__version__)
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        raise UserError(f"unknown command {name!r}; the commands are {', '.join(COMMANDS)}")
    command = COMMANDS[name].load()
    rest = _with_config_file(rest)
    values = flags.FlagValues()
    command.define(values, rest)
    if any(argument in ("--help", "-h", "--helpfull") for argument in rest):
        print(f"{PROGRAM} {name}: {COMMANDS[name].summary}\n\n{_flag_help(values)}")
        return 0
    parse(name, values, rest, words=getattr(command, "WORDS", ""))
    with without_orbax_logs(), one_line_warnings():
        return command.run(values)


def parse(name: str, values: flags.FlagValues, arguments: Sequence[str], *, words: str = "") -> None:
    """Parses the flags of a command.

    Args:
      name: of the command.
      values: its flags.
      arguments: of the command line.
      words: the flag that takes the words without a flag; "" where there may be none.

    Raises:
      ConfigError: an unknown flag or setting, a value of the wrong type, a config file that cannot be loaded.
    """
    try:
        left = values([f"{PROGRAM} {name}", *arguments])
    except Exception as error:  # config files are Python and may raise anything
        known = [cause for cause in _causes(error) if isinstance(cause, AlignmentError)]
        if known:  # the innermost one: the flag library wraps errors in others of the same class
            raise type(known[-1])(*known[-1].args) from error
        text = _foreign_line(error)
        if isinstance(error, KeyError | AttributeError) and not isinstance(error, flags.Error):
            text = re.sub(
                r'\.?\s*Did you mean "(\w+)" instead of "\w+"\?\'?', r"; did you mean \1?", f"unknown setting {text}"
            )
            raise ConfigError(f"{text} (alignment_jax/config/defaults.py lists every setting)") from error
        raise ConfigError(f"{text} (see {PROGRAM} {name} --help)") from error
    if words and len(left) > 1:
        if values[words].value is not None:
            raise UserError(f"unexpected argument {left[1]!r} beside --{words}; put the phrase in quotes")
        values[words].value = " ".join(left[1:])
    elif len(left) > 1:
        raise UserError(f"unexpected argument {left[1]!r}; flags are --name=value (see {PROGRAM} {name} --help)")


def _with_config_file(arguments: Sequence[str]) -> list[str]:
    """The arguments with the full path of the file after --config.

    Raises:
      ConfigError: there is no such file.
    """
    found = list(arguments)
    for position, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name.lstrip("-") == "config":
            place = position if equals else position + 1
            if not equals:
                value = next(iter(arguments[place:]), "")
            path, colon, options = value.partition(":")
            file = find_config(path)
            if file is None:
                raise ConfigError(f"--config: there is no file {path!r}; this package includes {', '.join(shipped())}")
            found[place] = f"{name}={file}{colon}{options}" if equals else f"{file}{colon}{options}"
    return found


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _foreign_line(error: BaseException) -> str:
    """A library's error as one line: libraries quote other errors in theirs, with the traceback."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if "Traceback (most recent call last):" in str(error):  # a bug in a config file: its error is the last line
        lines = [lines[0].partition("Traceback")[0], lines[-1]]
    line = " ".join(" ".join(lines).replace("\\n", " ").replace("\\'", "'").split())
    return re.sub(r"^[\"']+(\w+)[\"']+", r"\1", line)


def _flag_help(values: flags.FlagValues) -> str:
    lines = []
    for name in values:
        if name not in _FLAGS_OF_ABSL:
            flag = values[name]
            default = "" if flag.default in (None, "", False) else f" Default: {flag.default}."
            text = f"--{'[no]' if flag.boolean else ''}{name}: {flag.help}{default}"
            lines.append(textwrap.fill(text, 100, initial_indent="  ", subsequent_indent="      "))
    return "\n".join(lines)


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [f"usage: {PROGRAM} COMMAND --flags", "", *lines, "", f"{PROGRAM} COMMAND --help shows a command's flags"]
    )
