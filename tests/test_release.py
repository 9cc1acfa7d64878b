"""A wheel built from this checkout works where the checkout is not: configurations found, console script answers."""

import os
import pathlib
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile

import pytest

import alignment_jax

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent


def test_the_version_has_one_definition():
    citation = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {alignment_jax.__version__}\n" in citation
    assert f"## {alignment_jax.__version__}" in (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(wheel, sdist) of the files that git tracks or would add, built outside the checkout."""
    folder = tmp_path_factory.mktemp("release")
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    if names.returncode != 0:
        pytest.skip("not a git checkout: the files of a release are unknown")
    source = folder / "source"
    for name in filter(None, names.stdout.split("\0")):
        if (REPOSITORY / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((REPOSITORY / name).read_bytes())
    # The backend itself: building never needs more than setuptools, and nothing is downloaded.
    code = "import sys; out = sys.argv.pop(); from setuptools.build_meta import *; build_wheel(out); build_sdist(out)"
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=source, check=True, capture_output=True)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


@pytest.mark.slow
def test_content_of_the_archives(built):
    wheel, sdist = built
    names = zipfile.ZipFile(wheel).namelist()
    assert "alignment_jax/py.typed" in names
    assert any(name.endswith("share/alignment_jax/configs/quickstart.py") for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests/", "docs/", "benchmarks/"))]
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert {"setup.cfg", "pyproject.toml", "LICENSE", "README.md", "configs/quickstart.py"} <= inside


@pytest.mark.slow
def test_the_wheel_works_from_outside(built, tmp_path):
    """In a new environment with only the packages that the wheel requires."""
    wheel, _ = built
    home = tmp_path / "environment"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    own = subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True)
    packages = pathlib.Path(own.stdout.decode().strip())
    # The dependencies come from the environment that runs the tests; the package itself must come from the wheel.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([*install, "--force-reinstall", "--quiet"], check=True, capture_output=True)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}

    def run(*arguments):
        command = [str(home / "bin" / "alignment-jax"), *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    where = subprocess.run(
        [python, "-c", "import alignment_jax; print(alignment_jax.__file__)"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert where.stdout.strip().startswith(str(home))
    version = run("--version")
    assert version.stdout.strip() == alignment_jax.__version__, version.stderr
    # The shipped configuration is found by its name; the mistake is in the setting, and it alone is named.
    found = run("train", "--config", "configs/quickstart.py", "--workdir", "runs", "--config.nothing=1")
    assert found.returncode == 2
    assert "nothing" in found.stderr
    unknown = run("train", "--config", "configs/unknown.py", "--workdir", "runs")
    assert unknown.returncode == 2
    assert "quickstart.py" in unknown.stderr
