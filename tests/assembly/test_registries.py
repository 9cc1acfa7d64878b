"""A run reads the properties of a loss or an order from its registry entry, not from its name."""

import ast
import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import alignment_jax
from alignment_jax import config as configs
from alignment_jax.assembly.build import build
from alignment_jax.assembly.methods import LOSSES, Loss, learns_temperature
from alignment_jax.assembly.sampling import order_has_no_effect
from alignment_jax.assembly.step_counts import epoch_lengths
from alignment_jax.core.errors import ConfigError
from alignment_jax.inference.analysis import softmax_temperature
from alignment_jax.sampling.orders import ORDERS, Order
from alignment_jax.sampling.sampler import Sampler

SIZE = 20


@pytest.fixture
def config(embeddings):
    config = configs.default()
    config.data = f"embeddings:{embeddings}"
    config.model.dim, config.model.blocks_a, config.model.blocks_b = 8, 0, 0
    config.input.batch_size, config.train.devices, config.train.duration = 16, 1, "3 epochs"
    return config


@pytest.fixture(params=LOSSES)
def renamed(request, monkeypatch, config):
    """(configuration, the loss's own name): our loss, registered under a new name."""
    monkeypatch.setitem(LOSSES, "renamed", LOSSES[request.param])
    config.loss.name = "renamed"
    return config, request.param


def learned(config):
    """Learned scalars of the model: some of "log_temperature" and "bias"."""
    built = build(config)
    params, _ = jax.eval_shape(built.experiment.model.init, jax.random.key(0), *built.experiment.first_batch)
    return set(params.get("logit_scale", {}))


def refused(config, **changes):
    changed = config.copy_and_resolve_references()
    changed.update_from_flattened_dict(changes)
    try:
        build(changed)
    except ConfigError:
        return True
    return False


@pytest.mark.costly
def test_the_name_of_a_loss_decides_nothing(renamed):
    config, own = renamed
    same = config.copy_and_resolve_references()
    same.loss.name = own
    assert learned(config) == learned(same)
    for changes in (
        {"smoothing.start": 0.1},
        {"weighting.signal": "variance"},
        {"weighting.signal": "probability"},
        {"weighting.signal": "loss"},
        {"temperature.schedule": "cosine"},
        {"margin.value": -1.0},
    ):
        assert refused(config, **changes) == refused(same, **changes), changes
    sizes = np.ones(3, np.float32)
    assert softmax_temperature(config, {}, sizes) == softmax_temperature(same, {}, sizes)


def test_a_new_loss_with_a_margin_learns_no_temperature(config, monkeypatch):
    monkeypatch.setitem(LOSSES, "new", Loss(LOSSES["max_margin"].pair_loss, "margin"))
    config.loss.name = "new"
    assert not learns_temperature("new", config.temperature)
    assert softmax_temperature(config, {}, np.ones(3, np.float32)) is None
    assert learned(config) == set()


def test_a_loss_without_an_anchor_scale(config, monkeypatch):
    monkeypatch.setitem(LOSSES, "new", Loss(LOSSES["sigmoid"].pair_loss, None, bias=True))
    config.loss.name = "new"
    assert learned(config) == {"bias"}
    config.margin.value = -1.0  # unused by this loss
    build(config)
    with pytest.raises(ValueError, match=r"anchor_scale.*'bias'"):
        Loss(LOSSES["sigmoid"].pair_loss, "bias")


def test_a_missing_feature_of_a_loss_is_refused_with_the_losses_that_have_it(config, monkeypatch):
    monkeypatch.setitem(LOSSES, "new", Loss(LOSSES["max_margin"].pair_loss, "margin"))
    config.loss.name, config.weighting.signal = "new", "variance"
    with pytest.raises(ConfigError, match=r"loss\.name=new.*use infonce or max_margin"):
        build(config)


def test_the_old_name_of_the_anchor_scale_is_accepted():
    with pytest.warns(DeprecationWarning, match="anchor_scale"):
        assert Loss(LOSSES["max_margin"].pair_loss, strength="margin") == Loss(
            LOSSES["max_margin"].pair_loss, anchor_scale="margin"
        )


def counted(sampler, epochs, *, batch_size):
    """Steps of whole epochs, one by one."""
    return sum(max(1, sampler.shown(epoch) // min(batch_size, sampler.shown(epoch))) for epoch in range(epochs))


def waves(settings, since):
    return settings.size if since % 3 == 0 else settings.size // 2


NEW = {
    "a cycle": Order(lambda *_: None, waves, lambda settings: (0, 3)),
    "a cycle that is not declared": Order(lambda *_: None, waves),
    "a cycle after a start": Order(
        lambda *_: None, lambda s, since: 7 if since < 2 else waves(s, since - 2), lambda settings: (2, 3)
    ),
    "growing for longer than sampling.epochs": Order(
        lambda *_: None, lambda s, since: min(s.size, 1 + since), lambda settings: (settings.size, 1)
    ),
}


@pytest.mark.parametrize("scores", ["fresh", "recycled"])
@pytest.mark.parametrize("name", [*ORDERS, *NEW])
def test_a_duration_in_epochs_equals_the_shown_epochs(name, scores, monkeypatch):
    if name in NEW:
        monkeypatch.setitem(ORDERS, name, NEW[name])
    sampler = Sampler(size=SIZE, seed=0, method=name, epochs=3, scores=scores, criteria={"difficulty": "loss"})
    of_epochs = epoch_lengths(sampler, batch_size=4, halves=False)
    for epochs in range(4 * SIZE):
        assert of_epochs(epochs) == counted(sampler, epochs, batch_size=4)
    half = 0.5 * (of_epochs(8) - of_epochs(7))
    assert of_epochs(7.5) == of_epochs(7) + half


@pytest.mark.parametrize("name", ORDERS)
def test_very_many_epochs_are_counted_at_once(name):
    sampler = Sampler(size=SIZE, seed=0, method=name, criteria={"difficulty": "loss"})
    assert epoch_lengths(sampler, batch_size=4, halves=False)(1e9) == pytest.approx(5e9)


def test_an_order_that_permutes_changes_nothing_in_one_batch(config, monkeypatch):
    monkeypatch.setitem(ORDERS, "new", dataclasses.replace(ORDERS["probabilistic"]))
    config.sampling.name = "new"
    assert order_has_no_effect(config, 16)
    assert not order_has_no_effect(config, 17)
    config.sampling.replacement = True
    assert not order_has_no_effect(config, 16)
    monkeypatch.setitem(ORDERS, "new", Order(lambda *_: None, scored=False, permutes=lambda settings: True))
    assert not order_has_no_effect(config, 16)  # nothing is lost beside a shuffle


def test_an_order_without_scores_may_be_combined_with_mixing(config, monkeypatch):
    order = Order(lambda settings, epoch, *_: np.roll(np.arange(settings.size), epoch), scored=False)
    monkeypatch.setitem(ORDERS, "new", order)
    config.sampling.name, config.sampling.scores, config.perturb.fusemix = "new", "recycled", 1.0
    build(config)


@pytest.mark.slow
def test_a_loss_gets_the_anchor_scale_of_its_section(config, monkeypatch):
    seen = []

    def make(similarity):
        def pair_loss(outputs, anchor_scale, smoothing, where, axis_name, temperature):
            seen.append(anchor_scale)
            return jnp.zeros(outputs["a"].shape[0]), None, None

        return pair_loss

    monkeypatch.setitem(LOSSES, "new", Loss(make, "margin"))
    config.loss.name, config.margin.value = "new", 0.375
    built = build(config)
    experiment = built.experiment
    params, state = experiment.model.init(jax.random.key(0), *experiment.first_batch)
    a, b = experiment.first_batch
    batch = {"a": a, "b": b, "index": np.arange(len(a)), "where": np.ones(len(a), bool)}
    experiment.objective(
        experiment.model.apply, params, state, (), batch, step=jnp.int32(0), key=jax.random.key(1), axis_name=None
    )
    assert [float(value) for value in seen] == [0.375]


@pytest.mark.slow
def test_no_code_asks_for_a_loss_or_an_order_by_its_name():
    names = {*LOSSES, *ORDERS} - {"shuffle"}  # the order of a run without any method
    found = []
    package = pathlib.Path(alignment_jax.__file__).parent
    for path in set(package.rglob("*.py")) - {package / "config" / "papers.py"}:  # settings from papers
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Compare):
                found += [
                    f"{path}:{node.lineno}"
                    for part in ast.walk(node)
                    if isinstance(part, ast.Constant) and part.value in names
                ]
    assert found == []


@pytest.mark.parametrize(("entry", "main"), [(Loss, "pair_loss"), (Order, "order")])
def test_the_checklists_ask_for_every_field(entry, main, repository):
    page = (repository / "docs" / "extend.md").read_text(encoding="utf-8")
    asked = [field.name for field in dataclasses.fields(entry) if field.name != main]
    assert [name for name in asked if f"| `{name}` |" not in page] == []
