"""The soak scripts in small: a few kills, a short long run."""

import pathlib
import subprocess
import sys

import pytest

SOAK = pathlib.Path(__file__).resolve().parent.parent.parent / "benchmarks" / "soak"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("only", "seed"),  # seeds whose first three deaths are SIGKILLs that a run reaches: one run is enough
    [
        ("alignment, every method, batches sent", 21),
        pytest.param("classification, BSS probabilistic", 18, marks=pytest.mark.optimized),
    ],
)
def test_killed_runs_end_with_the_same_bits(only, seed, tmp_path):
    """In new processes, so this also shows that the same seed gives the same bits in a new process."""
    page = tmp_path / "page.md"
    page.write_text("# Page\n")
    command = [sys.executable, SOAK / "kills.py", "--kills", "3", "--per-run", "3", "--seed", str(seed)]
    done = subprocess.run([*command, "--only", only, "--page", page], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kills in 1 runs; 1 runs ended with the same bits" in page.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("resident", ["on", "off"])
def test_nothing_grows_and_nothing_is_compiled_again(resident, tmp_path):
    from long_run import watched_run

    options = dict(steps=280, looks=14, folder=tmp_path, trace_from=5)
    samples, epoch = watched_run("alignment", {"input.resident": resident}, **options)
    # Files of checkpoints and events are opened in the first evaluations; the last one also has the effective rank.
    late = samples[5:-1]
    assert samples[0].step >= epoch
    assert [sample.compiled for sample in late] == [late[0].compiled] * len(late)
    first, second = late[: len(late) // 2], late[len(late) // 2 :]
    files = [min((sample.files for sample in part), key=len) for part in (first, second)]
    assert len(files[1]) <= len(files[0]) + 2, files
    # Counts allocations, not resident memory, which also depends on the allocator and other programs.
    assert min(sample.held for sample in second) <= min(sample.held for sample in first) + 2
    assert min(sample.arrays for sample in second) <= min(sample.arrays for sample in first) + 2


@pytest.mark.slow
def test_fuzzing_finds_nothing(tmp_path):
    command = [sys.executable, SOAK / "fuzz_readers.py", "--minutes", "0.1", "--seed", "11", "--kept", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
