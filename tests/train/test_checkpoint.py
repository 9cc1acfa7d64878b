import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import SingleDeviceSharding

from alignment_jax.core.errors import RunError
from alignment_jax.train.checkpoint import BEST, Checkpoints, abstract, checksums


def state_of(value):
    return {"w": jnp.full((64, 8), value), "step": jnp.int32(value), "key": jax.random.key(value), "none": ()}


@pytest.fixture
def target():
    return abstract(state_of(0), SingleDeviceSharding(jax.devices()[0]))


def saved(folder, steps, **options):
    checkpoints = Checkpoints(folder, **options)
    for step in steps:
        checkpoints.save(step, state_of(step), {"epoch": step, "best": None})
    checkpoints.wait()
    return checkpoints


def test_what_is_saved_comes_back_bit_for_bit(tmp_path, target):
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


def test_nothing_saved_is_none(tmp_path, target):
    assert Checkpoints(tmp_path).restore(target) is None


def damage(folder, step, how):
    """Flips or cuts the largest file of a checkpoint: the arrays."""
    largest = max((p for p in (folder / "last" / str(step)).rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(largest.read_bytes())
    if how == "flip":
        content[len(content) // 2] ^= 0x10
    else:
        del content[len(content) // 2 :]
    largest.write_bytes(bytes(content))


@pytest.mark.parametrize("how", ["flip", "cut"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_used(tmp_path, target, how):
    saved(tmp_path, [1, 2]).close()
    damage(tmp_path, 2, how)
    messages = []
    checkpoints = Checkpoints(tmp_path, message=messages.append)
    restored = checkpoints.restore(target)
    assert restored.step == 1
    assert checksums(restored.state) == checksums(state_of(1))
    assert len(messages) == 1
    assert "last/2" in messages[0]
    assert (tmp_path / "last" / "damaged-2").is_dir()
    # Training goes on and may save the same step again.
    checkpoints.save(2, state_of(2), {})
    checkpoints.wait()
    assert checkpoints.restore(target).step == 2


def test_when_all_are_damaged_the_error_says_so(tmp_path, target):
    saved(tmp_path, [1, 2]).close()
    damage(tmp_path, 1, "flip")
    damage(tmp_path, 2, "cut")
    with pytest.raises(RunError, match="all of steps"):
        Checkpoints(tmp_path).restore(target)


def test_checksums_see_value_shape_and_type():
    base = np.arange(4, dtype=np.float32)
    different = [base + 1, base.reshape(2, 2), base.astype(np.float64)]
    assert len({checksums({"w": x})["['w']"] for x in [base, *different]}) == 4
