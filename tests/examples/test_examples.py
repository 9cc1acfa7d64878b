"""Every example trains, and finds the partner in held-out pairs far more often than by chance (0.8 %)."""

import importlib
import pathlib
import re
import sys

import jax
import numpy as np
import pytest

pytestmark = pytest.mark.costly

EXAMPLES = pathlib.Path(__file__).resolve().parent.parent.parent / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem != "toy_latents")


@pytest.fixture
def example(monkeypatch):
    """Imports an example as `python examples/NAME.py` would find it."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield importlib.import_module
    for name in (*NAMES, "toy_latents"):
        sys.modules.pop(name, None)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_learns(name, example, capsys):
    assert example(name).main(steps=60) > 60
    assert re.search(r"R@1 on new pairs: \d", capsys.readouterr().out)


@pytest.mark.slow
def test_pmap_and_shard_map_are_the_same_training(example):
    assert example("pmap_step").main(steps=3) == pytest.approx(example("shard_map_step").main(steps=3))


@pytest.mark.slow
@pytest.mark.parametrize("similarity", ["gathered", "ring"])
def test_the_sharded_step_is_that_of_one_device(similarity, example):
    """The example computes gradients of the whole batch, however the batch is stored."""
    import optax

    module = example("shard_map_step")
    params, a, b = module.start()
    solver = optax.sgd(1.0)

    def run(devices):
        mesh = jax.sharding.Mesh(np.asarray(devices), (module.AXIS,))
        spec = jax.sharding.PartitionSpec
        step = jax.shard_map(
            module.make_step(solver, similarity),
            mesh=mesh,
            in_specs=(spec(), spec(), spec(module.AXIS), spec(module.AXIS)),
            out_specs=(spec(), spec(), spec()),
        )
        new, _, value = jax.jit(step)(params, solver.init(params), a, b)
        return jax.device_get((new, value))

    one, eight = run(jax.devices()[:1]), run(jax.devices())
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5), one, eight)


@pytest.mark.slow
def test_with_haiku_itself(example):
    hk = pytest.importorskip("haiku", reason="dm-haiku is not installed (pip install dm-haiku)")
    import alignment_jax as aj

    def towers(a, b):
        return tuple(aj.losses.l2_normalize(hk.Linear(16, name=name)(x)) for name, x in (("a", a), ("b", b)))

    transformed = hk.without_apply_rng(hk.transform(towers))
    assert example("haiku_max_margin").train(transformed.init, transformed.apply, steps=60) > 60
