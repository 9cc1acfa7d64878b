"""`alignment-jax COMMAND --flags`: finds the command, reads its flags, turns errors into one line and a status.

Exit status: 0 success, 1 a run or a checkpoint failed, 2 a usage, configuration or data error, 143 stopped by SIGTERM
after saving, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence

from absl import flags

from alignment_jax.cli.commands import COMMANDS
from alignment_jax.cli.error_hints import in_flags
from alignment_jax.cli.terminal_noise import plain_warnings, without_orbax
from alignment_jax.config.shipped import find_config, shipped
from alignment_jax.core.errors import AlignmentError, ConfigError, UserError

PROGRAM = "alignment-jax"
EXIT_PREEMPTED = 143  # what a shell reports for a process that SIGTERM ended
EXIT_INTERRUPTED = 130  # and for one that Ctrl-C ended


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
    """The exit status of a run that was stopped and has saved itself.

    >>> status_of("Ctrl-C")
    130
    """
    return EXIT_INTERRUPTED if stopped_by == "Ctrl-C" else EXIT_PREEMPTED


def _of_several_processes() -> bool:
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized()


def _threads_are_left() -> bool:
    """Whether Python would wait for a thread: where a checkpoint's folder cannot be made, orbax's wait five minutes."""
    return any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread())


def _leave(status: int) -> None:
    """Ends a process that failed without the farewell in which it would wait for threads, or for other processes."""
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
        print(f"{PROGRAM}: error: {' '.join(in_flags(error, arguments[0]).split())}", file=sys.stderr)
        return error.exit_status
    except BrokenPipeError:
        # Whoever read our output has seen enough (`| head`); the flush at exit must not complain about it either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as interrupt:
        kept = str(interrupt) or "what was saved stays, and the same command goes on from there"
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
        print(f"{PROGRAM} {name}: {COMMANDS[name].summary}\n\n{values.get_help()}")
        return 0
    parse(name, values, rest)
    with without_orbax(), plain_warnings():
        return command.run(values)


def parse(name: str, values: flags.FlagValues, arguments: Sequence[str]) -> None:
    """Reads the flags of a command.

    Raises:
      ConfigError: an unknown flag or setting, a value of the wrong type, a config file that cannot be loaded.
    """
    try:
        left = values([f"{PROGRAM} {name}", *arguments])
    except Exception as error:  # config files are the user's own Python and may raise anything
        known = [cause for cause in _causes(error) if isinstance(cause, AlignmentError)]
        if known:  # the innermost one: the flag library wraps errors in others of the same class
            raise type(known[-1])(*known[-1].args) from error
        text = _foreign_line(error)
        if isinstance(error, KeyError | AttributeError) and not isinstance(error, flags.Error):
            text = re.sub(
                r'\.?\s*Did you mean "(\w+)" instead of "\w+"\?\'?', r"; did you mean \1?", f"unknown setting {text}"
            )
        raise ConfigError(f"{text} (see {PROGRAM} {name} --help)") from error
    if len(left) > 1:
        raise UserError(f"unexpected argument {left[1]!r}; flags are --name=value (see {PROGRAM} {name} --help)")


def _with_config_file(arguments: Sequence[str]) -> list[str]:
    """The arguments with the path of --config made that of a file which exists.

    Raises:
      ConfigError: there is none, which is better said here than by the flag library.
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
                raise ConfigError(f"--config: there is no file {path!r}; this package brings {', '.join(shipped())}")
            found[place] = f"{name}={file}{colon}{options}" if equals else f"{file}{colon}{options}"
    return found


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _foreign_line(error: BaseException) -> str:
    """The gist of a library's error: they put the text of other errors into theirs, quoted, traceback and all."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if "Traceback (most recent call last):" in str(error):  # a bug in a config file: the last line says what it was
        lines = [lines[0].partition("Traceback")[0], lines[-1]]
    line = " ".join(" ".join(lines).replace("\\n", " ").replace("\\'", "'").split())
    return re.sub(r"^[\"']+(\w+)[\"']+", r"\1", line)


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [f"usage: {PROGRAM} COMMAND --flags", "", *lines, "", f"{PROGRAM} COMMAND --help shows a command's flags"]
    )
