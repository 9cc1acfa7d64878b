"""Reports the skips of a test run by reason at its end, with an optional limit for each reason.

With CHECK_SKIPS=1 in the environment (continuous integration sets it) a run fails that skips more than `skips.txt`
lists: a test that silently stops running is then noticed. A line of the file is a number and a regular expression.
"""

import collections
import os
import pathlib
import re

ALLOWED = pathlib.Path(__file__).resolve().parent / "skips.txt"


def reasons(reports):
    """How often each reason was given.

    >>> class Report:
    ...     longrepr = ("tests/a.py", 3, "Skipped: needs a browser")
    >>> reasons([Report, Report])
    Counter({'needs a browser': 2})
    """
    return collections.Counter(_reason(report) for report in reports)


def _reason(report):
    found = report.longrepr
    text = found[2] if isinstance(found, tuple) else str(found)
    return " ".join(text.removeprefix("Skipped: ").split())


def line(counts):
    """As in "3 skipped: 2 needs a browser; 1 needs PyTorch"."""
    if not counts:
        return "nothing skipped"
    return f"{counts.total()} skipped: " + "; ".join(f"{count} {reason}" for reason, count in counts.most_common())


def read_allowed(path):
    """(pattern, count) of every line of a file that is neither empty nor a comment."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").split("\n")]
    pairs = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    return [(pattern, int(count)) for count, pattern in pairs]


def too_many(counts, allowed):
    """A line for every pattern, or reason without one, that was given more often than allowed.

    >>> too_many(collections.Counter({"needs a browser": 3, "no idea": 1}), [("browser", 2)])
    ['3 skips for "browser", 2 allowed', '1 skips for "no idea", 0 allowed']
    """
    found = collections.Counter()
    for reason, count in counts.items():
        found[next((pattern for pattern, _ in allowed if re.search(pattern, reason)), reason)] += count
    limits = dict(allowed)
    return [
        f'{count} skips for "{name}", {limits.get(name, 0)} allowed'
        for name, count in found.items()
        if count > limits.get(name, 0)
    ]


def _skipped(config):
    return reasons(config.pluginmanager.get_plugin("terminalreporter").stats.get("skipped", []))


def _excess(config):
    return too_many(_skipped(config), read_allowed(ALLOWED)) if os.environ.get("CHECK_SKIPS") == "1" else []


def pytest_sessionfinish(session):
    if hasattr(session.config, "workerinput"):  # one of several processes: the reports are with the first
        return
    if session.exitstatus == 0 and _excess(session.config):
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter, config):
    terminalreporter.write_line(line(_skipped(config)))
    for excess in _excess(config):
        terminalreporter.write_line(
            f"FAILED: {excess} ({ALLOWED}): install the missing part or list it there", red=True
        )
