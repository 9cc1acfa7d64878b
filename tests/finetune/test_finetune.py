"""Fine-tuning of checkpoints: where a run starts, what it trains, what its checkpoints hold."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from alignment_jax import data
from alignment_jax.assembly.build import build
from alignment_jax.assembly.saved_run import BASES, SIGNATURE, read_run
from alignment_jax.config import load
from alignment_jax.core import ConfigError, DataError, l2_normalize
from alignment_jax.core.nested import flatten
from alignment_jax.inference.forgetting import before_and_after, comparison_lines
from alignment_jax.inference.trained_model import TrainedModel, signature
from alignment_jax.models import pretrained
from alignment_jax.models.pretrained import tiny_folder
from alignment_jax.train import checkpoint
from alignment_jax.train.loop import evaluation_variables, fit, initial_state, placement_of
from alignment_jax.train.state import FROZEN, without_frozen

DATA = "synthetic:train=16,val=8,test=8,size=16"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("checkpoints")
    return {family: str(tiny_folder(root / family, family=family)) for family in ("clip", "bert")}


@pytest.fixture(scope="module")
def config_of(folders):
    """(arguments of configs/finetune.py, settings by dotted name) -> configuration of two steps."""

    def make(arguments="", *, image="hf:{clip}", text="hf:{clip}", data=DATA, **settings):
        names = f"image={image.format(**folders)},text={text.format(**folders)}"
        config = load(f"finetune.py:{names}{',' if arguments else ''}{arguments},data={data}")
        small = {"input.batch_size": 8, "train.duration": "2 steps", "eval.interval": "2 steps", "train.devices": 1}
        small["eval.batch_size"] = 3
        with config.unlocked():
            for name, value in {**small, "checkpoint.interval": "1 steps", **settings}.items():
                config.update_from_flattened_dict({name: value})
        return config

    return make


def towers(variables, side):
    """Leaf by path of one tower, trained and frozen ones together."""
    parts = (variables["params"], variables["model_state"][FROZEN])
    return {path: leaf for part in parts for path, leaf in flatten(part.get(f"encoder_{side}", {}).get("tower", {}))}


def test_a_run_starts_as_the_checkpoint(config_of, folders):
    built = build(config_of(tune_image="none"))
    state = initial_state(built.experiment)
    module, variables, preprocess = pretrained.load(folders["clip"])
    test = built.splits["test"]
    rows = np.arange(len(test.a))
    images = preprocess.images([np.asarray(image) for image in test.a.read(rows)])
    texts = preprocess.texts(list(test.b.read(np.arange(len(test.b)))))
    expected = [
        l2_normalize(module.apply(variables, images, method="encode_image")),
        l2_normalize(module.apply(variables, **texts, method="encode_text")),
    ]
    found = built.evaluator(evaluation_variables(state), built.experiment.evaluations["test"])
    # The same operations in programs of other batch sizes: a few units in the last place of unit vectors.
    np.testing.assert_allclose(found.a, expected[0], atol=2e-6)
    np.testing.assert_allclose(found.b, expected[1], atol=2e-6)
    scale = state.params["logit_scale"]["log_temperature"]
    np.testing.assert_allclose(scale, -variables["params"]["logit_scale"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tune", "trained"),
    [
        ("none", []),
        ("last:1", ["norm/", "projection/", "layers/above/"]),
        ("lora:2", ["lora_a", "lora_b"]),
    ],
)
def test_what_is_trained_changes_and_the_rest_keeps_its_bits(config_of, tune, trained, tmp_path):
    experiment = build(config_of(f"tune={tune}")).experiment
    start = evaluation_variables(initial_state(experiment))
    before = {side: {k: np.asarray(v) for k, v in towers(start, side).items()} for side in "ab"}
    # The last step's model, not the best on val: that may be the start.
    plain = dataclasses.replace(experiment, evaluations={})
    finished = fit(plain, tmp_path, quiet=True, tensorboard=False)
    for side in "ab":
        after = towers(finished.variables, side)
        assert after.keys() == before[side].keys()
        changed = {path for path, leaf in after.items() if not np.array_equal(leaf, before[side][path])}
        wanted = {path for path in after if any(part in path for part in trained)}
        assert changed <= wanted
        if wanted:
            # Keys' biases have no gradient; LoRA's A has none in the first step, as B is zero.
            assert len(changed) >= 0.5 * len(wanted)
    kept = without_frozen(initial_state(experiment))
    assert FROZEN not in kept.model_state
    moments = [path for path, _ in jax.tree_util.tree_leaves_with_path(kept.opt_state)]
    assert len(moments) < 4 * (len(jax.tree.leaves(kept.params)) + 2), "no optimizer state of frozen parameters"


@pytest.mark.slow
def test_a_resumed_run_has_the_same_bits_and_its_checkpoints_no_frozen_parameters(config_of, tmp_path):
    experiment = build(config_of("tune=lora:2", **{"train.duration": "4 steps"})).experiment
    placement = placement_of(experiment)
    whole = fit(experiment, tmp_path / "whole", quiet=True, tensorboard=False, placement=placement)
    half = dataclasses.replace(experiment, plan=dataclasses.replace(experiment.plan, total_steps=2))
    fit(half, tmp_path / "parts", quiet=True, tensorboard=False, placement=placement)
    resumed = fit(experiment, tmp_path / "parts", quiet=True, tensorboard=False, placement=placement)
    for one, other in zip(jax.tree.leaves(whole.variables), jax.tree.leaves(resumed.variables), strict=True):
        np.testing.assert_array_equal(one, other)
    state = initial_state(experiment)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(without_frozen(state).params))
    frozen = sum(leaf.nbytes for leaf in jax.tree.leaves(state.model_state[FROZEN]))
    assert frozen > size
    checkpoints = checkpoint.Checkpoints(tmp_path / "whole" / "checkpoints")
    target = checkpoint.abstract(without_frozen(evaluation_variables(state)), placement.replicated)
    assert checkpoints.restore(target, kind=checkpoint.BEST) is not None
    checkpoints.close()


@pytest.mark.slow
def test_a_finished_run_opens_with_its_base_and_refuses_another(folders, tmp_path, monkeypatch):
    import alignment_jax as aj
    from alignment_jax.cli.main import main

    base = tmp_path / "base"
    shutil.copytree(folders["clip"], base)
    monkeypatch.chdir(tmp_path)  # the run names its base relative to this folder and is read from another
    arguments = f"image=hf:base,text=hf:base,data={DATA},runlocal"
    command = ["train", f"--config=finetune.py:{arguments}", f"--workdir={tmp_path / 'run'}", "--quiet"]
    control = "--config.eval.control=synthetic:train=8,val=4,test=6,size=16"
    assert main([*command, control, "--config.optimizer.learning_rate=0.3"]) == 0
    compared = json.loads((tmp_path / "run" / "before_and_after.json").read_text())
    assert set(compared) == {"val", "test", "control"}
    # The start is a candidate: a learning rate that destroys the model cannot make val worse.
    assert compared["val"]["after"]["rsum"] >= compared["val"]["before"]["rsum"]
    assert main(["train", f"--config=finetune.py:{arguments}", f"--workdir={tmp_path}/x", f"{control},x=1"]) == 2
    recorded = json.loads((tmp_path / "run" / SIGNATURE).read_text())[BASES]
    assert set(recorded) == {"encoder_a", "encoder_b"}
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    aligner = aj.load(tmp_path / "run")
    found = aligner.embed_texts(["a red dog"])
    assert found.shape == (1, 6)
    np.testing.assert_allclose(np.linalg.norm(found), 1.0, rtol=1e-6)
    tiny_folder(tmp_path / "other", family="clip", seed=1)
    shutil.copy(tmp_path / "other" / "model.safetensors", base / "model.safetensors")
    with pytest.raises(ConfigError, match=r"model\.encoder_a\.model"):
        read_run(tmp_path / "run").best()
    monkeypatch.chdir(tmp_path)
    assert main([*command, "--config.optimizer.learning_rate=0.3", "--config.train.duration=6 steps"]) == 2


def test_zero_shot_classification_before_and_after(config_of, tmp_path):
    """The control set is labelled; the models are the start and one whose image tower is negated."""
    rng, labels = np.random.default_rng(0), ["cat", "dog", "bird"] * 4
    for k in range(len(labels)):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(tmp_path / f"{k}.png")
    rows = "".join(f"{k}.png,{label}\n" for k, label in enumerate(labels))
    (tmp_path / "animals.csv").write_text(f"image,label\n{rows}")
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a photo of a {}\ncat\ndog\nbird\n")
    control = {"eval.control": f"labelled:{tmp_path}/animals.csv", "eval.control_prompts": str(prompts)}
    config = config_of("tune=all", **control)
    built = build(config)
    start = evaluation_variables(initial_state(built.experiment))
    changed = jax.tree.map(lambda x: x, start)
    projection = changed["params"]["encoder_a"]["tower"]["projection"]
    projection["kernel"] = -projection["kernel"]
    found = before_and_after(built, config, changed)

    names = ["cat", "dog", "bird"]
    reads = signature(built.splits["train"], built.experiment.first_batch)
    trained = TrainedModel(config, 0, built.inputs, start, built.experiment.model, reads=reads)
    (split,) = data.load(control["eval.control"]).splits.values()
    images, classes = trained.embed(split).a, trained.embed_texts([f"a photo of a {name}" for name in names])
    number = np.array([names.index(label) for label in labels])
    for when, sign in (("before", 1), ("after", -1)):
        expected = 100 * np.mean(np.argmax(sign * images @ classes.T, axis=1) == number)
        assert found["control"][when]["accuracy@1"] == pytest.approx(expected)
    assert comparison_lines(found, config.eval.metric)[-1].startswith("control: accuracy@1 ")
    prompts.write_text("cat\ndog\n")
    with pytest.raises(DataError, match=r"eval\.control_prompts: class 'bird'"):
        before_and_after(built, config, start)
    config.eval.control = ""
    with pytest.raises(ConfigError, match=r"eval\.control_prompts.*no labelled data"):
        before_and_after(built, config, start)


@pytest.mark.parametrize(
    ("arguments", "settings", "named"),
    [
        ("", {"model.encoder_a.image_size": 10}, r"model\.encoder_a: image_size is 10.*4"),
        ("", {"input.max_length": 13}, r"input\.max_length is 13.*12"),
        ("tune=last:3", {}, r"model\.encoder_a: .*last:3.*2 layers"),
        ("tune=lora", {}, r"model\.encoder_a: tune must be.*lora:RANK"),
        ("tune_text=lora:2", {"model.encoder_b.lora_targets": "atention/*"}, r"model\.encoder_b: .*'atention/\*'"),
        ("", {"model.encoder_b.model": "clip"}, r"hf:NAME_OR_PATH"),
    ],
)
def test_wrong_settings_are_one_line(config_of, arguments, settings, named):
    with pytest.raises(ConfigError, match=named) as caught:
        build(config_of(arguments, **settings))
    assert "\n" not in str(caught.value)


def test_towers_of_different_width_need_projections(config_of):
    with pytest.raises(ConfigError, match=r"6 and 8 dimensions.*model\.projection"):
        build(config_of(text="st:{bert}", **{"model.projection": "none", "init.name": "random"}))


def test_a_tokenizer_of_another_vocabulary_is_one_line(config_of, folders, tmp_path):
    base = tmp_path / "base"
    shutil.copytree(folders["clip"], base)
    file = base / "tokenizer.json"
    content = json.loads(file.read_text())
    content["model"]["vocab"] = {word: 50 + k for k, word in enumerate(content["model"]["vocab"])}
    file.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"tokenizer\.json: token id"):
        build(config_of(image=f"hf:{base}", text=f"hf:{base}"))


@pytest.mark.slow
def test_interpolation_is_exact_at_both_ends_and_never_worse_on_val(config_of, tmp_path):
    from alignment_jax.inference.wise_ft import interpolated

    built = build(config_of("tune=lora:2", **{"optimizer.learning_rate": 0.05}))
    finished = fit(dataclasses.replace(built.experiment, evaluations={}), tmp_path, quiet=True, tensorboard=False)
    ends = [interpolated(built, finished.variables, alphas=(alpha,))[0] for alpha in (0.0, 1.0)]
    start = evaluation_variables(initial_state(built.experiment))
    test = built.experiment.evaluations["test"]
    for found, expected in zip(ends, (start, finished.variables), strict=True):
        np.testing.assert_array_equal(built.evaluator(found, test).a, built.evaluator(expected, test).a)
    variables, chosen = interpolated(built, finished.variables)
    assert chosen.values[chosen.alpha] == max(chosen.values.values())
    assert set(chosen.values) == {0.0, 0.25, 0.5, 0.75, 1.0}
    found = built.experiment.evaluate(variables, built.experiment.evaluations["val"])
    assert found["rsum"] == pytest.approx(chosen.values[chosen.alpha])


@pytest.mark.slow
def test_gradient_caching_gives_the_same_step(config_of, tmp_path):
    """Sums over micro-batches have another order of additions."""
    results = []
    for micro_batch in (0, 3):
        experiment = build(config_of("tune=all", **{"optimizer.micro_batch": micro_batch})).experiment
        finished = fit(
            dataclasses.replace(experiment, evaluations={}), tmp_path / str(micro_batch), quiet=True, tensorboard=False
        )
        results.append(finished.variables["params"])
    for one, other in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)  # two steps of Adam of at most 1e-5 each


@pytest.mark.slow
@pytest.mark.parametrize("method", ["mm_ts_margin", "sigmoid", "all"])
def test_every_loss_and_all_methods_together_train_a_checkpoint(config_of, method, tmp_path):
    """`all`: VALS, Modest-Align (noise, FuseMix, smoothed targets), MM-TS and BSS."""
    experiment = build(config_of(f"tune=lora:2,method={method}")).experiment
    finished = fit(experiment, tmp_path, quiet=True, tensorboard=False)
    assert finished.position.step == 2
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(finished.variables["params"]))


@pytest.mark.slow
def test_one_tower_against_frozen_latents(config_of, tmp_path):
    """A file of latents whose captions are read by an encoder."""
    texts = [f"a {color} {animal}" for color in ("red", "[UNK]") for animal in ("dog", "cat")] * 4
    latents = np.random.default_rng(0).normal(size=(16, 5)).astype(np.float32)
    split = np.array(["train"] * 12 + ["val"] * 2 + ["test"] * 2)
    np.savez(tmp_path / "f.npz", image=latents, text=latents[:, :2], caption=np.array(texts), split=split)
    config = config_of(
        "tune=last:1", image="latents", text="st:{bert}", data=f"embeddings:{tmp_path}/f.npz,text=caption"
    )
    experiment = build(config).experiment
    finished = fit(experiment, tmp_path / "run", quiet=True, tensorboard=False)
    assert finished.position.step == 2
    assert set(finished.variables["params"]) == {"encoder_b", "project_a", "project_b", "logit_scale"}
    assert set(finished.variables["model_state"][FROZEN]) == {"encoder_b"}


@pytest.mark.slow
def test_a_classifier_of_pretrained_encoders(folders, tmp_path):
    from PIL import Image

    rng, rows = np.random.default_rng(0), ["image,text,label,split"]
    for k in range(16):
        Image.fromarray(rng.integers(0, 255, (9, 9, 3), np.uint8)).save(tmp_path / f"{k}.png")
        rows.append(f"{k}.png,a {'red' if k % 2 else 'dog'},{k % 2},{'train' if k < 12 else 'val'}")
    (tmp_path / "posts.csv").write_text("\n".join(rows))
    encoders = f"image_encoder=hf:{folders['clip']},text_encoder=st:{folders['bert']},tune=last:1"
    config = load(f"classify.py:runlocal,{encoders},data=posts:{tmp_path}/posts.csv")
    config.train.duration, config.eval.interval, config.input.batch_size = "2 steps", "2 steps", 8
    config.train.devices = 1
    experiment = build(config).experiment
    finished = fit(experiment, tmp_path / "run", quiet=True, tensorboard=False)
    assert set(finished.variables["model_state"][FROZEN]) == {"encoder_a", "encoder_b"}
    assert np.isfinite(finished.position.best_value)


@pytest.mark.slow
def test_projections_start_from_the_closed_form_on_the_towers(config_of, tmp_path):
    """A run with a frozen tower starts as the recipe does on the vectors of that tower."""
    rng = np.random.default_rng(0)
    texts = [f"a {a} {b}" for a in ("red", "[UNK]", "dog") for b in ("dog", "cat", "red", "a")] * 5
    module, variables, preprocess = pretrained.load(config_of().model.encoder_b.model.removeprefix("hf:"))
    vectors = np.asarray(module.apply(variables, **preprocess.texts(texts), method="encode_text"))
    latents = (vectors @ rng.normal(size=(6, 5)) + 0.1 * rng.normal(size=(60, 5))).astype(np.float32)
    split = np.array(["train"] * 40 + ["val"] * 10 + ["test"] * 10)
    np.savez(tmp_path / "f.npz", image=latents, text=vectors, caption=np.array(texts), split=split)
    numbers = {"init.shrinkage": "0.5", "init.dim": "5", "init.power": "1.0", "train.duration": "0 steps"}
    numbers |= {"eval.hubness": "none", "eval.views": "first"}
    tuned = build(
        config_of("tune=lora:2", image="latents", data=f"embeddings:{tmp_path}/f.npz,text=caption", **numbers)
    )
    frozen = load(f"flickr8k_frozen.py:data=embeddings:{tmp_path}/f.npz")
    frozen.update_from_flattened_dict({**numbers, "init.training": "always"})
    frozen = build(frozen)
    each = [
        built.evaluator(evaluation_variables(initial_state(built.experiment)), built.experiment.evaluations["test"])
        for built in (tuned, frozen)
    ]
    # Vectors of the tower in batches of other sizes; the closed form divides by their small covariances.
    for side in ("a", "b"):
        width = getattr(each[1], side).shape[1]
        np.testing.assert_allclose(getattr(each[0], side)[:, :width], getattr(each[1], side), atol=1e-3)


@pytest.mark.slow
def test_two_devices_sharded_or_not_take_the_same_steps(config_of, tmp_path, monkeypatch):
    from alignment_jax.train import parameter_sharding

    results = {}
    for devices, shard in ((1, "none"), (2, "none"), (2, "parameters")):
        # The arrays of the tiny checkpoint are smaller than what is worth sharding.
        monkeypatch.setattr(parameter_sharding.sharded_dimension, "__kwdefaults__", {"smallest": 16})
        settings = {"train.devices": devices, "train.shard": shard, "optimizer.name": "sgd"}
        settings |= {"optimizer.learning_rate": 0.1}
        experiment = build(config_of("tune=last:1", **settings)).experiment
        plain = dataclasses.replace(experiment, evaluations={})
        finished = fit(plain, tmp_path / f"{devices}{shard}", quiet=True, tensorboard=False)
        results[devices, shard] = finished.variables["params"]
    one, *others = results.values()
    for other in others:
        for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            # Two steps of 0.1 times a gradient of length at most 1 (optimizer.clip), summed in another order over
            # some hundred terms.
            np.testing.assert_allclose(x, y, atol=0.2 * 300 * 6e-8)
