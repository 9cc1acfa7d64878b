"""Partners of equal content in one batch: masked, positives, or negatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alignment_jax import config as configs
from alignment_jax import losses
from alignment_jax.assembly.build import build
from alignment_jax.assembly.methods import LOSSES, Loss
from alignment_jax.core.errors import ConfigError

N = 12


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Latents of which some repeat, and of which none does: image 3 is image 1, texts 0, 4 and 5 are one."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    image, text = rng.normal(size=(2 * N, 6)), rng.normal(size=(2 * N, 5))
    names = dict(text_to_image=np.arange(2 * N), split=np.repeat(["train", "val"], N))
    np.savez(folder / "distinct.npz", image=image, text=text, **names)
    image[3], text[[4, 5]] = image[1], text[0]
    np.savez(folder / "repeats.npz", image=image, text=text, **names)
    return folder


def make_config(files, name="repeats", **changes):
    config = configs.default()
    config.data = f"embeddings:{files}/{name}.npz"
    config.model.dim, config.model.blocks_a, config.model.blocks_b, config.model.dropout = 4, 0, 0, 0.0
    config.input.batch_size, config.input.resident, config.train.devices = N, "off", 1
    config.train.duration = "2 epochs"
    config.update_from_flattened_dict(changes)
    return config


def first_step(built, rows=None):
    """(batch, its loss as training has it, the model's outputs)."""
    experiment = built.experiment
    params, state = experiment.model.init(jax.random.key(0), *experiment.first_batch)
    (batch,) = experiment.batches(np.arange(N)[None] if rows is None else rows, 0, 0)
    options = dict(step=jnp.int32(0), key=jax.random.key(1), axis_name=None)
    loss, _ = experiment.objective(experiment.model.apply, params, state, experiment.objective.init(), batch, **options)
    measured = experiment.objective.score(
        experiment.model.apply, params, state, batch, step=jnp.int32(0), axis_name=None
    )
    outputs, _ = experiment.model.apply(
        params, state, batch["a"], batch["b"], train=False, rows=np.arange(N), where=batch["where"], key=None
    )
    return batch, float(loss), measured, outputs


@pytest.mark.slow
def test_the_loss_of_a_step_is_the_function_with_ids(files):
    image, text = np.arange(N), np.arange(N)
    image[3], text[[4, 5]] = 1, 0
    ids, found = dict(ids_a=image, ids_b=text), {}
    for duplicates in ("mask", "positive", "negative"):
        built = build(
            make_config(files, **{"loss.duplicates": duplicates, "smoothing.start": 0.1, "smoothing.end": 0.1})
        )
        batch, loss, measured, outputs = first_step(built)
        common = dict(temperature=outputs["temperature"], duplicates=duplicates, **ids)
        both = losses.infonce(outputs["a"], outputs["b"], smoothing=0.1, **common)
        assert loss == pytest.approx(float(losses.reduce(*both)), rel=1e-5)
        plain = losses.infonce(outputs["a"], outputs["b"], **common)
        np.testing.assert_allclose(measured["loss"], 0.5 * sum(plain), rtol=1e-5)
        assert ("id_a" in batch) == (duplicates != "negative")
        found[duplicates] = np.asarray(measured["loss"])
    repeated = np.isin(np.arange(N), [0, 1, 3, 4, 5])
    assert np.all((found["mask"] < found["negative"])[repeated])
    assert np.all(found["mask"][~repeated] == pytest.approx(found["negative"][~repeated]))
    # Equal embeddings make the mean over a group of positives that of its members: anchors differ.
    assert np.abs(found["positive"] - found["negative"]).max() > 1e-3


@pytest.mark.slow
def test_mixed_samples_are_equal_where_both_parts_are(files):
    """Rows 0 and 4 have one text; with mixed ones they have it only where the other halves agree too."""
    for rows, equal in (([0, 4, 5, 6, 7, 8], False), ([0, 4, 6, 5, 0, 8], True)):
        changes = {"perturb.fusemix": 1.0, "input.batch_size": 6, "sampling.replacement": True}
        experiment = build(make_config(files, **changes)).experiment
        (batch,) = experiment.batches(np.array([rows]), 0, 0)
        mixed = experiment.objective.perturb(jax.random.key(0), batch, None)
        assert mixed["id_b"].shape == (3, 2)
        assert bool(jnp.all(mixed["id_b"][0] == mixed["id_b"][1])) == equal


def test_nothing_is_carried_where_nothing_can_repeat(files):
    def carried(name, **changes):
        built = build(make_config(files, name, **changes))
        (batch,) = built.experiment.batches(np.arange(N)[None], 0, 0)
        return sorted(batch.keys() & {"id_a", "id_b"})

    assert carried("distinct") == []
    assert carried("repeats") == ["id_a", "id_b"]
    # An order that draws with replacement shows a sample beside itself.
    assert carried("distinct", **{"sampling.name": "probabilistic", "sampling.replacement": True}) == ["id_a"]


def test_a_loss_without_several_positives_is_an_error(files, monkeypatch):
    with pytest.raises(ConfigError, match=r"loss\.name=max_margin .*loss\.duplicates=mask"):
        build(make_config(files, **{"loss.name": "max_margin", "loss.duplicates": "positive"}))
    with pytest.raises(ConfigError, match=r"loss\.duplicates is 'positives', .*'positive'"):
        build(make_config(files, **{"loss.duplicates": "positives"}))
    monkeypatch.setitem(LOSSES, "own", Loss(LOSSES["max_margin"].pair_loss, "margin"))
    notes = [
        [note for note in build(make_config(files, name, **{"loss.name": "own"})).notes if "loss.duplicates" in note]
        for name in ("repeats", "distinct")
    ]
    assert [len(lines) for lines in notes] == [1, 0]
