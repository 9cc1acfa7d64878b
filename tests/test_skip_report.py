"""A test run reports its skips, and fails if more is skipped than listed."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

TESTS = pathlib.Path(__file__).resolve().parent
SUITE = """
import pytest

@pytest.mark.parametrize("n", [0, 1])
def test_browser(n):
    pytest.skip("needs a browser")

@pytest.mark.skipif(True, reason="no rights")
def test_rights():
    pass

def test_good():
    pass
"""


def run(folder, *arguments, check="1"):
    environment = {**os.environ, "CHECK_SKIPS": check, "PYTEST_ADDOPTS": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout


@pytest.fixture
def suite(tmp_path):
    shutil.copy(TESTS / "skip_report.py", tmp_path)
    (tmp_path / "conftest.py").write_text("from skip_report import pytest_sessionfinish, pytest_terminal_summary\n")
    (tmp_path / "test_suite.py").write_text(SUITE)
    (tmp_path / "skips.txt").write_text("# reason by reason\n2 needs a (browser|disk)\n\n1 rights\n")
    return tmp_path


def test_skips_are_counted_and_limited(suite):
    status, out = run(suite, "-n", "0")
    assert status == 0, out
    assert "3 skipped: 2 " in out


@pytest.mark.parametrize("check", ["1", ""])
def test_more_than_is_listed_fails_where_it_is_checked(suite, check):
    """With files side by side, where the skips happen in other processes."""
    (suite / "skips.txt").write_text("1 browser\n")
    status, out = run(suite, "-n", "2", check=check)
    assert "3 skipped" in out
    assert status == (1 if check else 0)
    assert ('2 skips for "browser"' in out) == bool(check)
    assert ('1 skips for "no rights"' in out) == bool(check)


def test_this_suite_and_its_continuous_integration_use_it(repository):
    import conftest
    import skip_report

    assert conftest.pytest_sessionfinish is skip_report.pytest_sessionfinish
    assert conftest.pytest_terminal_summary is skip_report.pytest_terminal_summary
    assert "CHECK_SKIPS=1" in (repository / ".ci" / "run").read_text()
    assert skip_report.read_allowed(skip_report.ALLOWED)
