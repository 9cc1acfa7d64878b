"""Every file in configs/: it loads, unknown arguments are errors, and its `runlocal` variant trains."""

import pathlib

import mock_paper_sets as paper
import numpy as np
import pytest

from alignment_jax import config as configs
from alignment_jax.assembly.build import build
from alignment_jax.core.errors import ConfigError
from alignment_jax.train.loop import fit

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "configs"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))
# Data for each in this test, because a clone has no data sets.
DATA = {
    "quickstart": "synthetic:train=64,val=16,test=16,size=16",
    "flickr8k_raw": "synthetic:train=64,val=16,test=16,size=16",
    "flickr8k_frozen": "embeddings:{latents}",
    "finetune": "embeddings:{latents}",
    "audio_text": "pairs:{recordings},audio=audio,caption=label",
    "audio_image": "pairs:{recordings}",
    "av_digits_bss": "av:{recordings}",
    "classify": "{sarcasm}",
    "classify_features": "features:{labelled}",
    "cremad_bss": "{cremad}",
    "kinetics_sounds_bss": "{kinetics_sounds}",
    "vggsound_bss": "{vggsound}",
    "tweets_bss": "{sarcasm}",
    "nvgesture_bss": "{nvgesture}",
    "epic_mir_mm_ts": "{epic}",
    "youcook2_mm_ts": "{youcook2}",
}


@pytest.fixture(scope="session")
def latents(tmp_path_factory):
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("latents") / "pairs.npz"
    splits = np.array(["train"] * 32 + ["val"] * 8 + ["test"] * 8)
    np.savez(path, image=rng.normal(size=(48, 12)), text=rng.normal(size=(48, 10)), split=splits)
    return path


@pytest.fixture(scope="session")
def labelled(tmp_path_factory):
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("labelled") / "features.npz"
    splits = np.array(["train"] * 32 + ["val"] * 8 + ["test"] * 8)
    a, b = (rng.normal(size=(48, width)).astype(np.float32) for width in (12, 10))
    np.savez(path, a=a, b=b, label=np.arange(48) % 3, split=splits)
    return path


@pytest.fixture(scope="session")
def paper_sets(tmp_path_factory):
    """The papers' data sets in miniature: name -> SPEC."""
    folder = tmp_path_factory.mktemp("papers")
    for name in paper.MOCKS:
        (folder / name).mkdir()
    return {name: found.write(folder / name) for name, found in paper.MOCKS.items()}


def get_config(name, arg=None):
    return configs.load(f"{name}.py:{arg or ''}")


def test_there_are_configs_and_each_has_data_for_this_test():
    assert set(NAMES) == set(DATA)


@pytest.mark.parametrize("name", NAMES)
def test_a_config_loads_and_has_the_sections_of_the_default(name):
    assert set(get_config(name).keys()) == set(configs.default().keys())


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_argument_is_refused(name):
    with pytest.raises(ConfigError, match="'nonsense'"):
        get_config(name, "nonsense")


@pytest.mark.parametrize("name", NAMES)
def test_data_is_an_argument(name):
    assert get_config(name, "data=pairs:x.csv").data == "pairs:x.csv"


@pytest.mark.parametrize("name", NAMES)
def test_a_run_is_called_by_the_data_it_reads(name):
    published, own = get_config(name), get_config(name, "data=pairs:somewhere/birds.csv")
    assert own.name.startswith("somewhere/birds.csv")
    assert own.name.partition(", ")[2] == published.name.partition(", ")[2]
    assert get_config(name, f"data={published.data}").data == published.data


@pytest.mark.parametrize("name", NAMES)
def test_configs_import_the_subpackage_config_only(name):
    source = (FOLDER / f"{name}.py").read_text()
    imports = [line for line in source.splitlines() if line.startswith(("import ", "from "))]
    assert imports == ["from alignment_jax import config"]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_runlocal_trains(name, tmp_path, latents, labelled, recordings, paper_sets):
    spec = DATA[name].format(latents=latents, labelled=labelled, recordings=recordings, **paper_sets)
    config = get_config(name, f"runlocal,data={spec}")
    config.train.duration, config.eval.interval, config.input.batch_size = "2 steps", "2 steps", 16
    config.train.devices = 1
    config.init.training = "always"
    built = build(config)
    finished = fit(built.experiment, tmp_path, quiet=True)
    assert finished.position.step == 2
    assert np.isfinite(finished.position.best_value)


def test_cremad_has_the_settings_of_the_paper():
    config = get_config("cremad_bss", "method=curriculum")
    weights = [config.classification[f"weight_{head}"] for head in ("a", "b", "fused")]
    assert (weights, config.classification.predict) == ([0.9, 0.9, 0.1], "a+b")
    assert (config.sampling.name, config.sampling.rescore_every) == ("curriculum", 0)
    assert (config.optimizer.name, config.optimizer.momentum, config.optimizer.weight_decay) == ("sgd", 0.9, 1e-4)
    assert (config.optimizer.schedule, config.optimizer.drop_every, config.input.batch_size) == (
        "staircase", "70 epochs", 32,
    )  # fmt: skip
    assert (config.optimizer.learning_rate, config.train.duration) == (0.01, "120 epochs")
    assert (config.sampling.start, config.sampling.epochs, config.sampling.floor) == (0.1, 40, 0.01)
    assert get_config("cremad_bss", "method=probabilistic").sampling.rescore_every == 1


def test_features_have_two_or_three_modalities():
    assert "encoder_c" in get_config("classify_features", "modalities=3").model
    with pytest.raises(ConfigError, match=r"modalities=4: expected 2 or 3"):
        get_config("classify_features", "modalities=4")


@pytest.mark.parametrize("image", ["vit", "convnet", "resnet18"])
@pytest.mark.parametrize("text", ["transformer", "lstm"])
def test_tweets_take_any_pair_of_encoders(image, text):
    model = get_config("tweets_bss", f"image={image},text={text}").model
    assert (model.encoder_a.name, model.encoder_b.name) == (image, text)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "argument", "spec"),
    [
        ("tweets_bss", "text=lstm,image=convnet,method=curriculum", "twitter2015"),
        ("nvgesture_bss", "inputs=frames,method=vanilla", "nvgesture, frames"),
    ],
)
def test_other_inputs_of_the_papers_sets_train(name, argument, spec, tmp_path, paper_sets):
    train_two_steps(get_config(name, f"runlocal,{argument},data={paper_sets[spec]}"), tmp_path)


@pytest.mark.parametrize(
    ("name", "argument", "sides"), [("av_digits_bss", "inputs=features,", "ab"), ("nvgesture_bss", "", "abc")]
)
def test_vectors_of_two_and_of_three_modalities_can_be_read(name, argument, sides, tmp_path):
    rng = np.random.default_rng(0)
    arrays = {side: rng.normal(size=(40, 6 + k)) for k, side in enumerate(sides)}
    np.savez(tmp_path / "f.npz", label=np.arange(40) % 2, **arrays)
    build(get_config(name, f"runlocal,{argument}data=features:{tmp_path / 'f.npz'}"))


def test_an_encoder_that_cannot_read_a_column_is_named(paper_sets):
    config = get_config("tweets_bss", f"runlocal,data={paper_sets['twitter2015']}")
    config.model.encoder_b.name = "convnet"
    with pytest.raises(ConfigError, match=r"twitter2015:.*image and text.*transformer"):
        build(config)
    config = get_config("nvgesture_bss", f"runlocal,inputs=frames,data={paper_sets['nvgesture']}")
    with pytest.raises(ConfigError, match=r"embedding, embedding and embedding.*mlp"):
        build(config)
    with pytest.raises(ConfigError, match=r"inputs='video'.*features, frames"):
        get_config("nvgesture_bss", "inputs=video")
    with pytest.raises(ConfigError, match=r"inputs='video'.*recordings, features"):
        get_config("av_digits_bss", "inputs=video")


@pytest.mark.parametrize("image", ["vit", "convnet", "resnet18"])
@pytest.mark.parametrize("text", ["transformer", "lstm"])
def test_raw_encoders_are_arguments(image, text):
    config = get_config("flickr8k_raw", f"image={image},text={text}")
    assert (config.model.encoder_a.name, config.model.encoder_b.name) == (image, text)


CHANGES = {
    "dynamic smoothing": {"smoothing.schedule": "cosine", "smoothing.start": 0.2, "smoothing.end": 0.0},
    "cosine temperature": {"temperature.schedule": "cosine"},
    "entropy weights": {"weighting.signal": "entropy", "weighting.mode": "inverse", "weighting.warmup": "1 steps"},
    "max_margin": {"loss.name": "max_margin"},
    "max_margin, oscillating": {"loss.name": "max_margin", "margin.schedule": "cosine"},
    "sizes by K-Means": {"temperature.schedule": "mm_ts", "clusters.source": "kmeans", "clusters.count": 3},
}


def train_two_steps(config, workdir):
    config.train.duration, config.input.batch_size, config.train.devices = "2 steps", 16, 1
    assert fit(build(config).experiment, workdir, quiet=True).position.step == 2


def test_the_steps_of_frozen_latents_are_an_argument():
    config = get_config("flickr8k_frozen", "method=baseline,steps=400,data=embeddings:x.npz")
    assert (config.train.duration, config.eval.interval) == ("400 steps", "25 steps")
    assert get_config("flickr8k_frozen", "method=baseline").train.duration == "150 epochs"
    assert get_config("flickr8k_frozen", "method=cca,steps=400").train.duration == "0 steps"


@pytest.mark.slow
@pytest.mark.parametrize("changes", CHANGES)
def test_methods_are_switched_on_by_their_section(changes, tmp_path, latents):
    config = get_config("flickr8k_frozen", f"runlocal,method=baseline,data=embeddings:{latents}")
    config.update_from_flattened_dict(CHANGES[changes])
    train_two_steps(config, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["vals+mm_ts+smoothing", "mm_ts_margin", "sigmoid"])
def test_methods_train_from_pixels(method, tmp_path):
    """From latents: tests/train/test_composition.py."""
    config = get_config("quickstart", f"runlocal,method={method},data={DATA['quickstart']}")
    config.model.encoder_a.widths, config.model.encoder_b.depth = (8,), 1
    train_two_steps(config, tmp_path)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("clip", "'clip'"),
        ("sigmoid+mm_ts_margin", "contradict"),
        ("vals+cca", "cca trains nothing"),
        ("cca+csa", "cca and csa"),
        ("vals+", None),
    ],
)
def test_unknown_and_contradicting_methods_are_refused(method, message):
    if message is None:
        assert get_config("flickr8k_frozen", f"method={method}").weighting.signal == "variance"
        return
    with pytest.raises(ConfigError, match=message):
        get_config("flickr8k_frozen", f"method={method}")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss.name": "clip"}, "loss.name"),
        ({"temperature.schedule": "sine"}, "temperature.schedule"),
        ({"temperature.schedule": "mm_ts", "clusters.source": "guess"}, "clusters.source"),
        ({"temperature.schedule": "mm_ts", "clusters.source": "label"}, "no labels"),
        ({"temperature.schedule": "mm_ts", "temperature.alpha": 0.9}, "alpha"),
        ({"smoothing.start": 1.0}, "smoothing.start"),
        ({"smoothing.start": 0.1, "loss.name": "sigmoid"}, "smoothing"),
        ({"smoothing.schedule": "quadratic"}, "smoothing.schedule"),
        ({"perturb.sigma": -1.0}, "perturb.sigma"),
        ({"structure.weight": -1.0}, "structure.weight"),
        ({"structure.weight": 1.0, "structure.temperature": 0.0}, "structure.temperature"),
        ({"weighting.signal": "mean"}, "signal"),
        ({"weighting.signal": "variance", "loss.name": "sigmoid"}, "weighting"),
        ({"margin.value": -0.1, "loss.name": "max_margin"}, "margin.value"),
        ({"optimizer.name": "adam"}, "optimizer.name"),
        ({"optimizer.schedule": "step"}, "optimizer.schedule"),
        ({"optimizer.accumulate": 0}, "optimizer.accumulate"),
        ({"optimizer.warmup": "200 percent"}, "optimizer.warmup"),
        ({"optimizer.weight_decay": -1.0}, "weight_decay"),
        ({"input.batch_size": 0}, "input.batch_size"),
        ({"train.duration": "0 epochs"}, "train.duration"),
        ({"sampling.name": "random"}, "sampling.name"),
        ({"model.name": "clip"}, "model.name"),
    ],
)
def test_settings_out_of_range_are_named(changes, message, latents):
    config = get_config("flickr8k_frozen", f"runlocal,method=baseline,data=embeddings:{latents}")
    config.update_from_flattened_dict(changes)
    with pytest.raises(ConfigError, match=message):
        build(config)


def test_classify_takes_the_encoders_of_its_modalities():
    model = get_config("classify", "modalities=audio+image+text,image_encoder=vit,text_encoder=transformer").model
    assert [model[f"encoder_{side}"].name for side in "abc"] == ["convnet", "vit", "transformer"]
    config = get_config("classify", "data=samples:x.csv,text=tweet,method=class_balanced,weights=balanced")
    assert config.data == "samples:x.csv,text=tweet"
    assert (config.sampling.name, config.classification.class_weights) == ("class_balanced", "balanced")
    for modalities in ("text", "text+image", "image+smell"):
        with pytest.raises(ConfigError, match=r"modalities=.*audio, image, text"):
            get_config("classify", f"modalities={modalities}")


def test_a_file_is_loaded_as_the_command_line_does(tmp_path):
    own = tmp_path / "own.py"
    own.write_text(
        "from ml_collections import ConfigDict\n\n\ndef get_config(arg):\n    return ConfigDict({'name': arg})\n"
    )
    assert configs.load(f"{own}:batch=2").name == "batch=2"
    (tmp_path / "empty.py").write_text("")
    for path, named in ((f"{tmp_path}/nowhere.py", "nowhere.py"), (f"{tmp_path}/empty.py", "get_config")):
        with pytest.raises(configs.ConfigError, match=named):
            configs.load(path)
