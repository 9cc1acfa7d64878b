import os
import pathlib
import queue
import re
import shutil
import subprocess
import sys
import threading
import tracemalloc
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
import refused_worker
from jax.sharding import SingleDeviceSharding

from alignment_jax.core.errors import RunError
from alignment_jax.train.checkpoint import BEST, Checkpoints, abstract, checksums


def state_of(value):
    return {
        "w": jnp.full((64, 8), value, jnp.float32),
        "step": jnp.int32(value),
        "key": jax.random.key(value),
        "none": (),
    }


@pytest.fixture
def target():
    return abstract(state_of(0), SingleDeviceSharding(jax.devices()[0]))


def saved(folder, steps, **options):
    checkpoints = Checkpoints(folder, **options)
    for step in steps:
        checkpoints.save(step, state_of(step), {"epoch": step, "best": None})
    checkpoints.wait()
    return checkpoints


def test_saved_states_are_restored_bit_for_bit(tmp_path, target):
    restored = saved(tmp_path, [1, 2, 3]).restore(target)
    assert restored.step == 3
    assert restored.loop == {"epoch": 3, "best": None}
    assert checksums(restored.state) == checksums(state_of(3))


def test_only_the_last_few_are_kept(tmp_path):
    assert saved(tmp_path, [1, 2, 3, 4], keep=2).steps() == [3, 4]


def test_best_and_last_are_apart(tmp_path, target):
    checkpoints = saved(tmp_path, [1, 2])
    checkpoints.save(1, state_of(1), {}, kind=BEST)
    checkpoints.wait()
    assert checkpoints.restore(target, kind=BEST).step == 1
    assert checkpoints.restore(target).step == 2


class Disk:
    """A disk whose writes block until they are released, or fail."""

    def __init__(self, monkeypatch, *, fails=()):
        self.started, self.go = queue.Queue(), threading.Semaphore(0)
        save = ocp.CheckpointManager.save

        def slow(manager, step, **options):
            self.started.put((manager.directory.name, step))
            assert self.go.acquire(timeout=60)
            if (manager.directory.name, step) in fails:
                raise OSError(28, "No space left on device")
            return save(manager, step, **options)

        monkeypatch.setattr(ocp.CheckpointManager, "save", slow)


def test_an_improving_evaluation_does_not_wait_for_the_disk_and_best_comes_before_last(tmp_path, target, monkeypatch):
    checkpoints, disk = Checkpoints(tmp_path), Disk(monkeypatch)
    state, loop = state_of(1), {"best": 1}
    checkpoints.save(1, state, {}, kind=BEST)
    checkpoints.save(1, state, loop)  # returns although nothing has been written
    jax.tree.map(lambda x: x.delete(), state)  # as a donated step does
    loop["best"] = 2
    assert disk.started.get(timeout=60) == ("best", 1)
    assert not (tmp_path / "best" / "1").exists()
    assert disk.started.empty()
    disk.go.release()
    assert disk.started.get(timeout=60) == ("last", 1)
    assert (tmp_path / "best" / "1").is_dir()
    # A third one waits for the first of the two under way, so that copies of the state do not pile up.
    waiting = threading.Thread(target=lambda: [checkpoints.save(step, state_of(step), {}) for step in (2, 3)])
    waiting.start()
    disk.go.release(1)
    assert disk.started.get(timeout=60) == ("last", 2)
    disk.go.release(2)
    waiting.join()
    checkpoints.wait()
    assert disk.started.get(timeout=60) == ("last", 3)
    assert checkpoints.steps() == [2, 3]
    problem, restored = checkpoints.read(1, target, kind=BEST)
    assert not problem
    assert checksums(restored.state) == checksums(state_of(1))


def test_no_state_follows_a_best_model_that_was_refused(tmp_path, monkeypatch):
    checkpoints, disk = Checkpoints(tmp_path), Disk(monkeypatch, fails=[("best", 2)])
    disk.go.release(1)
    checkpoints.save(1, state_of(1), {})
    checkpoints.wait()
    checkpoints.save(2, state_of(2), {}, kind=BEST)
    checkpoints.save(2, state_of(2), {"best": 2})
    disk.go.release(100)
    with pytest.raises(RunError, match=r"step 2 .*No space left"):
        checkpoints.wait()
    assert checkpoints.steps() == [1]
    checkpoints.save(3, state_of(3), {})  # once raised, it is over
    assert checkpoints.steps() == [1, 3]
    checkpoints.close()


def test_a_checkpoint_keeps_its_name_until_it_is_removed_as_a_whole(tmp_path, monkeypatch):
    """A copy made during the deletion has all files or none."""
    checkpoints = saved(tmp_path, [1, 2])
    whole = {path.relative_to(tmp_path / "last" / "1").as_posix() for path in files_of(tmp_path, 1)}
    found = []
    for name in ("unlink", "remove", "rmdir"):
        call = getattr(os, name)

        def watched(*arguments, call=call, **options):
            if (tmp_path / "last" / "1").exists():
                found.append(len(files_of(tmp_path, 1)))
            return call(*arguments, **options)

        monkeypatch.setattr(os, name, watched)
    checkpoints.save(3, state_of(3), {})
    checkpoints.wait()
    assert checkpoints.steps() == [2, 3]
    assert set(found) <= {len(whole)}
    assert sorted(path.name for path in (tmp_path / "last").iterdir()) == ["2", "3"]


def test_nothing_saved_is_none(tmp_path, target):
    assert Checkpoints(tmp_path).restore(target) is None


def files_of(folder, step, kind="last"):
    return sorted(path for path in (folder / kind / str(step)).rglob("*") if path.is_file())


def damage(path, how, rng):
    content = bytearray(path.read_bytes())
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_bytes(content[: int(rng.integers(len(content)))])
    else:
        content[int(rng.integers(len(content)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(content))


def is_record(path):
    return "loop" in path.parts


def is_array(path):
    return "d" in path.parts or "ocdbt.process_0" in path.parts


@pytest.mark.parametrize("how", ["flip", "cut", "gone"])
@pytest.mark.parametrize("which", ["arrays", "record"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_used(tmp_path, target, which, how):
    saved(tmp_path, [1, 2]).close()
    chosen = [path for path in files_of(tmp_path, 2) if (is_record if which == "record" else is_array)(path)]
    # Every one of them: orbax may leave a file of arrays that nothing refers to.
    for path in chosen:
        damage(path, how, np.random.default_rng(0))
    messages = []
    checkpoints = Checkpoints(tmp_path, message=messages.append)
    restored = checkpoints.restore(target)
    assert restored.step == 1
    assert checksums(restored.state) == checksums(state_of(1))
    assert len(messages) == 1
    assert "last/2" in messages[0]
    assert (tmp_path / "last" / "damaged-2").is_dir()
    # The resumed training may save the same step again.
    checkpoints.save(2, state_of(2), {})
    checkpoints.wait()
    assert checkpoints.restore(target).step == 2


def assert_tells_the_truth(folder, target):
    """The newest checkpoint is used only with exactly the saved bits, however it was damaged."""
    restored = Checkpoints(folder).restore(target)
    assert restored.step in (1, 2)
    assert checksums(restored.state) == checksums(state_of(restored.step))
    assert restored.loop == {"epoch": restored.step, "best": None}


@pytest.mark.slow
def test_no_damage_of_any_file_goes_unnoticed(tmp_path, target):
    """Flips, cuts and losses of every file, metadata too: nothing but the saved bits comes back."""
    saved(tmp_path / "good", [1, 2]).close()
    rng = np.random.default_rng(0)
    cases = [(how, path) for path in files_of(tmp_path / "good", 2) for how in ("flip", "cut", "gone")]
    for number, (how, path) in enumerate(cases):
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "good", folder)
        damage(folder / path.relative_to(tmp_path / "good"), how, rng)
        assert_tells_the_truth(folder, target)


def test_all_damaged_is_an_error(tmp_path, target):
    saved(tmp_path, [1, 2]).close()
    for step in (1, 2):
        for path in files_of(tmp_path, step):
            path.write_bytes(b"")
    with pytest.raises(RunError, match=r"last.*\[1, 2\]"):
        Checkpoints(tmp_path).restore(target)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w": jax.ShapeDtypeStruct((64, 8), jnp.bfloat16)}, r"\['w'\] .*float32\[64, 8\].*bfloat16"),
        ({"w": jax.ShapeDtypeStruct((64, 9), jnp.float32)}, r"\['w'\] .*float32\[64, 8\].*float32\[64, 9\]"),
        ({"extra": jax.ShapeDtypeStruct((1,), jnp.float32)}, r"\['extra'\] .*absent"),
    ],
)
def test_another_type_or_shape_is_refused_and_not_converted(tmp_path, target, change, message):
    saved(tmp_path, [1]).close()
    sharding = SingleDeviceSharding(jax.devices()[0])
    with pytest.raises(RunError, match=message):
        Checkpoints(tmp_path).restore({**target, **abstract(change, sharding)})
    assert (tmp_path / "last" / "1").is_dir()  # it is not damaged, and stays where it is
    assert Checkpoints(tmp_path).restore(target).step == 1


def test_a_run_that_restarts_from_an_earlier_step_deletes_later_checkpoints(tmp_path, target):
    checkpoints = Checkpoints(tmp_path)
    for step in (3, 7):
        checkpoints.save(step, state_of(step), {}, kind=BEST)
    checkpoints.delete_after(5, kind=BEST)
    assert checkpoints.steps(BEST) == [3]
    checkpoints.save(7, state_of(8), {}, kind=BEST)
    checkpoints.wait()
    assert checksums(checkpoints.read(7, target, kind=BEST)[1].state) == checksums(state_of(8))
    assert checkpoints.read(5, target, kind=BEST) == ("it is not there", None)


@pytest.fixture
def disk(tmp_path):
    """A disk of 1 MiB, where the system allows a mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("mounting a disk needs rights that this process does not have")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def is_refused_and_used_again(folder, trouble, mend):
    """A failed save is an error of one line; older checkpoints are intact, and the next run resumes from them."""
    worker = pathlib.Path(__file__).parent / "refused_worker.py"
    command = [sys.executable, str(worker), str(folder), trouble]
    found = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert re.fullmatch(r"a checkpoint could not be .*\n", found.stdout)
    assert found.stderr == ""
    mend()
    target = abstract(refused_worker.state_of(0), SingleDeviceSharding(jax.devices()[0]))
    again = Checkpoints(folder / "c")
    restored = again.restore(target)
    assert restored.step == 1
    assert checksums(restored.state) == checksums(refused_worker.state_of(1))
    again.save(2, refused_worker.state_of(2), {})
    again.wait()
    assert again.restore(target).step == 2
    again.close()


@pytest.mark.slow
def test_a_disk_that_refuses_leaves_the_earlier_ones_intact(tmp_path):
    is_refused_and_used_again(tmp_path, "small_files", lambda: None)


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["full", "read_only"])
def test_a_failing_disk_keeps_its_checkpoints_and_is_used_again(trouble, disk):
    def mend():
        if trouble == "full":
            (disk / "filler").unlink()
        else:
            subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)

    is_refused_and_used_again(disk, trouble, mend)


@pytest.mark.parametrize(
    "array",
    [
        np.float32(3.5),
        np.zeros((0, 3), np.int32),
        np.array([[True, False]]),
        np.arange(6, dtype=np.float64).reshape(2, 3).T,
        np.arange(4).astype(jnp.bfloat16),
        np.arange(4).astype(jnp.float8_e4m3fn),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_checksums_are_those_of_older_checkpoints(array):
    """Of the bytes in C order, after type and shape; a number counts as an array of one."""
    whole = np.ascontiguousarray(array)
    crc = zlib.crc32(whole.tobytes(), zlib.crc32(f"{whole.dtype.str}{whole.shape}".encode()))
    assert checksums({"x": array}) == {"['x']": f"{crc:08x}"}


def test_checksums_copy_nothing():
    array = np.zeros(1 << 20, np.float32)
    tracemalloc.start()
    checksums({"x": array})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < array.nbytes // 8


def test_checksums_see_value_shape_and_type():
    base = np.arange(4, dtype=np.float32)
    different = [base + 1, base.reshape(2, 2), base.astype(np.float64)]
    assert len({checksums({"w": x})["['w']"] for x in [base, *different]}) == 4
