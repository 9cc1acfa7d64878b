"""Every command and every code block of the README runs on small data."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib

import numpy as np
import pytest

from alignment_jax.config import apply_methods, default
from alignment_jax.config.recipes import METHODS

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, flags=re.S | re.M)
SCRIPTS = ("./quickstart.sh", "./test.sh --quick", "source .venv/bin/activate")
# Models come from the network; tests/extract runs the same command on models that it makes.
NETWORK = "--download"
COMMANDS = [
    text.strip()
    for language, text in BLOCKS
    if language == "bash" and text.strip() not in SCRIPTS and NETWORK not in text
]
# The README's commands train for minutes; these replacements make it seconds.
SHORTER = [
    ("configs/flickr8k_raw.py:data=", "configs/flickr8k_raw.py:runlocal,data="),
    ("configs/flickr8k_frozen.py:data=", "configs/flickr8k_frozen.py:runlocal,data="),
    ("method=probabilistic", "method=probabilistic,runlocal"),
    ("--seeds 5", "--seeds 2 --stress none"),
    ('--config.train.duration="20 epochs"', '--config.train.duration="2 steps"'),
    ("--config.model.encoder_a.width=32", "--config.model.encoder_a.width=4"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the configs, CSV files of pairs and recordings, and two files of latents."""
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(REPOSITORY / "configs", folder / "configs")
    from PIL import Image

    rng = np.random.default_rng(0)
    (folder / "pictures").mkdir()
    lines = ["image,caption"]
    for i in range(40):
        color = ("red", "green", "blue")[i % 3]
        pixels = np.zeros((20, 24, 3), np.uint8)
        pixels[..., i % 3] = 200
        Image.fromarray(pixels + rng.integers(0, 40, pixels.shape).astype(np.uint8)).save(folder / f"pictures/{i}.png")
        lines += [f"pictures/{i}.png,a {color} picture", f'pictures/{i}.png,"{color}, mostly"']
    (folder / "my_pairs.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    import soundfile

    lines = ["audio,image,label"]
    for i in range(40):
        tone = 0.3 * np.sin(np.arange(4000) * (0.1, 0.2, 0.4)[i % 3])
        soundfile.write(folder / f"pictures/{i}.wav", tone + 0.02 * rng.normal(size=4000), 8000)
        lines.append(f"pictures/{i}.wav,pictures/{i}.png,{('low', 'middle', 'high')[i % 3]}")
    (folder / "my_recordings.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name, n in (("my_latents", 60), ("other_latents", 24)):
        code, owner = rng.normal(size=(n, 4)), np.repeat(np.arange(n), 2)
        np.savez(
            folder / f"{name}.npz",
            image=np.tile(code, 3),
            text=np.tile(code[owner], 2),
            text_to_image=owner,
            caption=np.array([f"caption {j}" for j in range(2 * n)]),
            image_id=np.array([f"{name}/{i}" for i in range(n)]),
            split=np.array((["train"] * 4 + ["val", "test"]) * (n // 6)),
        )
    return folder


def changed_by(names):
    config = default()
    apply_methods(config, names)
    return config.to_dict()


def run(text, folder):
    for long, short in SHORTER:
        text = text.replace(long, short)
    binaries = pathlib.Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}", "JAX_NUM_CPU_DEVICES": "1"}
    command = ["bash", "-euo", "pipefail", "-c", text]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.optimized
def test_every_command_runs(folder):
    assert len(COMMANDS) >= 6
    for command in COMMANDS:
        found = run(command, folder)
        assert found.returncode == 0, f"{command}\n{found.stdout}\n{found.stderr}"


@pytest.mark.slow
@pytest.mark.optimized
def test_code_runs_after_the_commands(folder):
    blocks = [text for language, text in BLOCKS if language == "python"]
    assert len(blocks) == 3
    if not (folder / "embeddings.npz").exists():
        test_every_command_runs(folder)
    for block in blocks:
        found = subprocess.run([sys.executable, "-c", block], cwd=folder, capture_output=True, text=True)
        assert found.returncode == 0, f"{block}\n{found.stderr}"
        assert found.stdout.strip()


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "colab/README.md"])
def test_every_path_exists(document):
    text = (REPOSITORY / document).read_text(encoding="utf-8")
    links = {link for link in re.findall(r"\]\(([^)#\s]+)", text) if not link.startswith("http")}
    beside = (REPOSITORY / document).parent
    linked = {(beside / link).relative_to(REPOSITORY).as_posix() for link in links}
    named = set(re.findall(r"`((?:alignment_jax|tests|configs|docs|benchmarks|scripts)/[\w/.*-]*)`", text))
    missing = [path for path in sorted(linked | named) if not (REPOSITORY / path).exists()]
    assert missing == []


def test_every_method_is_listed():
    (sentence,) = re.findall(r"The words are (.*?)\.\s", README, flags=re.S)
    assert sorted(re.findall(r"`(\w+)`", sentence)) == sorted([*METHODS, "all"])
    assert changed_by("all") == changed_by("vals+modest_align+mm_ts+bss")


def rows_of(text):
    """Cells of every row of a Markdown table."""
    lines = [line for line in text.splitlines() if line.startswith("|") and "---" not in line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_evidence_equals_the_page_on_methods():
    part = re.compile("<!-- begin gains -->(.*?)<!-- end gains -->", re.DOTALL)
    (shown,) = part.findall(README)
    (gains,) = part.findall((REPOSITORY / "docs" / "choose.md").read_text(encoding="utf-8"))
    assert len(rows_of(shown)) > 5
    assert [row for row in rows_of(shown) if row not in rows_of(gains.split("With the same", 1)[1])] == []


def test_layers_in_contributing_equal_the_contract():
    page = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = [set(re.findall(r"\w+", names)) for names in settings["contracts"][0]["layers"]]
    shown = [set() for _ in layers]
    for number, names in re.findall(r"^\| (\d+) \| (.+?) \|", page, flags=re.M):
        shown[-int(number)] |= set(re.findall(r"`(\w+)`", names))
    assert shown == layers


def test_config_files_in_the_readme_exist():
    assert {path for path in re.findall(r"configs/\w+\.py", README) if not (REPOSITORY / path).is_file()} == set()


@pytest.mark.parametrize("script", ["quickstart.sh", "test.sh", ".ci/run", "scripts/venv.sh"])
def test_scripts_are_valid_and_can_be_run(script):
    path = REPOSITORY / script
    assert subprocess.run(["bash", "-n", str(path)]).returncode == 0
    assert script == "scripts/venv.sh" or os.access(path, os.X_OK)
