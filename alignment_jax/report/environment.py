"""Machine, software and command of a run, without private data."""

from __future__ import annotations

import importlib.metadata
import os
import pathlib
import platform
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

PACKAGES = (
    "alignment_jax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "chex",
    "numpy",
    "ml_collections",
    "grain",
    "tokenizers",
    "scikit-learn",
    "tensorflow-datasets",
)

# Whole words of an argument's name: "--hub.token=..." is a secret, "--max_tokens=77" and "--tokenizer=bpe" are not.
_SECRET = re.compile(
    r"(?i)^(-*(?:[\w.-]*[._-])?(?:password|passwd|secret|token|credentials?|(?:(?:api|access|private)[_-]?)key)"
    r"(?:[._-][\w.-]*)?)(=.*)?$"
)


def environment(
    devices: Any = None, *, packages: Sequence[str] = PACKAGES, argv: Sequence[str] | None = None
) -> dict[str, Any]:
    """Describes the machine and the software of this process.

    Environment variables, user and host names are left out; values of arguments for passwords, tokens and keys are
    replaced by "***".

    Args:
      devices: description of the accelerators (a string, list or dict of plain values), stored unchanged; this
        subpackage does not import JAX.
      packages: distributions to list; missing ones are left out.
      argv: the command line; None: of this process.

    Returns:
      A dict of plain values: `time` (UTC, start of the call), `command`, `python`, `platform`, `cpus`, `packages`
      (name to version), `devices` when given, `git_commit` and `git_changed` when the package runs from a checkout.

    >>> found = environment({"platform": "cpu", "count": 2}, packages=("numpy",), argv=["train", "--api_key=abc"])
    >>> found["command"], found["devices"]["count"], list(found["packages"])
    ('train --api_key=***', 2, ['numpy'])
    """
    found: dict[str, Any] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": _command_line(sys.argv if argv is None else argv),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpus": _usable_cpus(),
        "packages": _versions(packages),
    }
    if devices is not None:
        found["devices"] = devices
    return found | _git_state(pathlib.Path(__file__).resolve())


def _usable_cpus() -> int | None:
    """The CPUs this process may use; in a container fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _command_line(argv: Sequence[str]) -> str:
    """The command line without the path of the program and without secrets."""
    words = []
    hide_next = False
    for position, word in enumerate(argv):
        secret = _SECRET.match(word)
        if position == 0:
            name = pathlib.Path(word).name
            words.append("python -m alignment_jax" if name == "__main__.py" else name)
        elif secret and secret[2] is not None:
            words.append(f"{secret[1]}=***")
        else:
            words.append("***" if hide_next else word)
        # "--token VALUE": the value is the next word.
        hide_next = bool(secret and secret[2] is None and word.startswith("-"))
    return " ".join(words)


def _versions(packages: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # optional package
    return found


def _git_state(file: pathlib.Path) -> dict[str, Any]:
    """Commit of the checkout of `file`, and whether tracked files differ from it; empty outside a checkout."""

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(file.parent), *arguments]
        try:
            # No optional locks: they would block a git command that runs at the same time.
            result = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=10,
                check=False,
                env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return result.stdout.strip() if result.returncode == 0 else None

    # A virtual environment can be inside another checkout, whose commit is not that of this package.
    if git("ls-files", "--error-unmatch", file.name) is None:
        return {}
    commit = git("rev-parse", "HEAD")
    if commit is None:
        return {}
    changes = git("status", "--porcelain", "--untracked-files=no")
    return {"git_commit": commit, "git_changed": bool(changes)}
