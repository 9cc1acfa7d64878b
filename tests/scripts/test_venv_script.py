"""`scripts/venv.sh` with a Python that does not install: its output, and when it prints nothing."""

import pathlib
import re
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
    """(extras, purpose, time, version of Python, variables) -> output of the script."""
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


def test_it_prints_the_purpose_only_when_it_installs(make_venv, tmp_path):
    assert re.fullmatch(r"making .*\btraining\b.*\ba minute\b.*\n", make_venv("train", "training", "a minute"))
    assert make_venv("train", "training", "a minute") == ""
    assert re.fullmatch(r"adding .*\bthe test suite\b.*\n", make_venv("test", "the test suite", "some minutes"))
    installed = [line for line in (tmp_path / "calls").read_text().splitlines() if "install" in line]
    assert [line[line.rindex("[") :] for line in installed] == ["[train]", "[test]"]
    with open(tmp_path / "setup.cfg", "a") as file:
        file.write("\n")
    assert "setup.cfg" in make_venv("train", "training", "a minute")
    assert make_venv("train", "training", "a minute") == ""


def test_another_python_or_other_constraints_create_it_again(make_venv, tmp_path):
    """Otherwise the suite would pass on versions that were not requested."""
    arguments = ("test", "the test suite", "some minutes")
    made, again = r"making .*\bthe test suite\b.*\n", r".*\bPython\b.*\n"
    oldest = tmp_path / "oldest.txt"
    oldest.write_text("jax==1\n")
    assert re.fullmatch(made, make_venv(*arguments))
    assert re.fullmatch(again + made, make_venv(*arguments, version="3.13"))
    for constraints in (str(oldest), f"{oldest} {oldest}"):
        assert re.fullmatch(again + made, make_venv(*arguments, version="3.13", PIP_CONSTRAINT=constraints))
        assert make_venv(*arguments, version="3.13", PIP_CONSTRAINT=constraints) == ""
    assert re.fullmatch(again + made, make_venv(*arguments, version="3.13"))
    other = tmp_path / "bin" / "python3"
    other.parent.mkdir()
    shutil.copy(tmp_path / "python3.11", other)
    # PYTHON names none: the one in .venv will do, whichever is found first.
    assert make_venv(*arguments, PYTHON="", PATH=f"{other.parent}:/usr/bin:/bin") == ""


@pytest.mark.parametrize("script", ["quickstart.sh", "test.sh", "scripts/docs.sh"])
def test_every_script_names_its_purpose(script):
    (line,) = [line for line in (REPOSITORY / script).read_text().splitlines() if line.startswith("make_venv ")]
    found = subprocess.run(["bash", "-c", f"make_venv() {{ echo $#; }}; {line}"], capture_output=True, text=True)
    assert found.stdout == "3\n"
