"""`scripts/venv.sh` with a Python that only pretends to install: what is said, and when nothing is."""

import pathlib
import shutil
import stat
import subprocess

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent.parent
# Answers every `-c` and `-m pip` with success; `-m venv --clear DIR` puts a copy of itself there.
PYTHON = """#!/usr/bin/env bash
case "$*" in
  *"print(sys.version_info"*) echo VERSION ;;
  "-m venv --clear "*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
  *) printf '%s\\n' "$*" >>"$HERE/calls" ;;
esac
"""


@pytest.fixture
def make_venv(tmp_path):
    """(extras, purpose, time, version of Python, variables) -> what the script says."""
    (tmp_path / "scripts").mkdir()
    for name in ("scripts/venv.sh", "setup.cfg", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, tmp_path / name)

    def run(*arguments, version="3.11", **variables):
        python = tmp_path / f"python{version}"
        python.write_text(PYTHON.replace("VERSION", version))
        python.chmod(python.stat().st_mode | stat.S_IXUSR)
        command = ["bash", "-euo", "pipefail", "-c", 'source scripts/venv.sh; make_venv "$@"', "-", *arguments]
        environment = {"PATH": "/usr/bin:/bin", "PYTHON": str(python), "HERE": str(tmp_path), **variables}
        found = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        return found.stdout

    return run


def test_it_says_what_is_installed_for_what_and_only_when_it_is(make_venv, tmp_path):
    assert make_venv("train", "training", "a minute") == (
        "making .venv and installing what training needs (once; a minute)\n"
    )
    assert make_venv("train", "training", "a minute") == ""
    assert make_venv("test", "the test suite", "some minutes") == (
        "adding to .venv what the test suite needs (once; some minutes)\n"
    )
    installed = [line for line in (tmp_path / "calls").read_text().splitlines() if "install" in line]
    assert [line[line.rindex("[") :] for line in installed] == ["[train]", "[test]"]
    with open(tmp_path / "setup.cfg", "a") as file:
        file.write("\n")
    assert "setup.cfg or pyproject.toml has changed" in make_venv("train", "training", "a minute")
    assert make_venv("train", "training", "a minute") == ""


def test_another_python_or_other_constraints_create_it_again(make_venv, tmp_path):
    """Or the suite would run, and pass, on versions that nobody asked for."""
    arguments = ("test", "the test suite", "some minutes")
    again = "another Python or other constraints than .venv was made with: creating it again\n"
    made = "making .venv and installing what the test suite needs (once; some minutes)\n"
    oldest = tmp_path / "oldest.txt"
    oldest.write_text("jax==1\n")
    assert make_venv(*arguments) == made
    assert make_venv(*arguments, version="3.13") == again + made
    for constraints in (str(oldest), f"{oldest} {oldest}"):
        assert make_venv(*arguments, version="3.13", PIP_CONSTRAINT=constraints) == again + made
        assert make_venv(*arguments, version="3.13", PIP_CONSTRAINT=constraints) == ""
    assert make_venv(*arguments, version="3.13") == again + made
    other = tmp_path / "bin" / "python3"
    other.parent.mkdir()
    shutil.copy(tmp_path / "python3.11", other)
    # PYTHON names none: the one in .venv will do, whichever is found first.
    assert make_venv(*arguments, PYTHON="", PATH=f"{other.parent}:/usr/bin:/bin") == ""


@pytest.mark.parametrize("script", ["quickstart.sh", "test.sh", "scripts/docs.sh"])
def test_every_script_says_for_what(script):
    (line,) = [line for line in (REPOSITORY / script).read_text().splitlines() if line.startswith("make_venv ")]
    found = subprocess.run(["bash", "-c", f"make_venv() {{ echo $#; }}; {line}"], capture_output=True, text=True)
    assert found.stdout == "3\n"
