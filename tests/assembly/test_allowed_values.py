"""Unknown names are errors before data is read, in every setting and task."""

import dataclasses

import mock_paper_sets as paper
import numpy as np
import pytest

from alignment_jax import config as configs
from alignment_jax import data
from alignment_jax.assembly.allowed_values import DURATIONS, allowed_values, check_settings
from alignment_jax.assembly.build import build
from alignment_jax.assembly.tasks import GRADED, RECALLS
from alignment_jax.cli.main import main
from alignment_jax.core.errors import ConfigError
from alignment_jax.core.nested import flatten_config
from alignment_jax.train.loop import evaluation_variables, initial_state


def aligner():
    config = configs.default()
    config.train.devices = 1
    return config


def raw():
    config = aligner()
    config.model = configs.two_tower("convnet", "lstm")
    return config


def classifier():
    config = aligner()
    config.model = configs.fusion_classifier({"name": "mlp", "widths": (8,)}, {"name": "mlp", "widths": (8,)})
    config.eval.metric = "val/accuracy"
    return config


TASKS = {"aligner": aligner, "raw": raw, "classifier": classifier}
make = pytest.mark.parametrize("make", TASKS.values(), ids=TASKS)


@pytest.fixture
def unread(monkeypatch):
    """No data can be read."""

    def load(*arguments, **options):
        raise AssertionError("data was read")

    monkeypatch.setattr(data, "load", load)


@make
def test_every_name_is_refused_by_its_setting_before_data_is_read(make, unread):
    check_settings(make())
    for setting, known in allowed_values(make()).items():
        config = make()
        config.update_from_flattened_dict({setting: known[0] + "x"})
        with pytest.raises(ConfigError, match=rf"^{setting} is '{known[0]}x'.*{known[0]}"):
            build(config)


@make
def test_every_known_name_is_accepted(make):
    for setting, known in allowed_values(make()).items():
        if setting == "model.name" or setting.startswith("model.encoder"):  # they differ in their attributes
            continue
        for name in known:
            config = make()
            config.update_from_flattened_dict({setting: name})
            check_settings(config)


@make
def test_no_setting_that_is_a_word_is_left_out(make):
    free = {"name", "data", "model.dtype", "model.encoder_a.norm", "model.encoder_b.norm", "model.encoder_b.pooling"}
    free |= {
        "model.input_norm",
        "model.fusion",
        "classification.predict",
        "loss.similarity",
        "input.pixel_range",
        *DURATIONS,
    }
    free |= {
        "init.shrinkage",
        "init.dim",
        "init.power",
        "eval.hubness",
        "eval.control",
        "eval.control_prompts",
        "train.profile",
    }
    words = {setting for setting, value in flatten_config(make().to_dict()).items() if isinstance(value, str)}
    assert words - free - set(allowed_values(make())) == set()


@pytest.mark.parametrize(
    ("make", "setting", "value"),
    [
        *((aligner, setting, "3 epochz") for setting in DURATIONS),
        (aligner, "loss.similarity", "tild"),
        (aligner, "model.input_norm", "l3"),
        (aligner, "train.profile", "20"),
        (aligner, "train.profile", "20-10"),
        (aligner, "model.dtype", "float23"),
        (aligner, "init.shrinkage", "much"),
        (aligner, "init.dim", "half"),
        (aligner, "init.power", "strong"),
        (raw, "model.encoder_a.norm", "layers"),
        (raw, "model.encoder_b.pooling", "maximal"),
        (classifier, "model.fusion", "product"),
        (classifier, "classification.predict", "a+video"),
    ],
)
def test_other_words_are_refused_before_data_is_read_too(make, setting, value, unread):
    config = make()
    config.update_from_flattened_dict({setting: value})
    with pytest.raises(ConfigError, match=value.replace("+", r"\+")):
        build(config)


def test_an_encoder_may_be_its_name_alone(unread):
    config = raw()
    config.model = configs.ConfigDict({**config.model.to_dict(), "encoder_a": "vit9"})
    with pytest.raises(ConfigError, match=r"model\.encoder_a\.name is 'vit9'"):
        check_settings(config)


@pytest.mark.slow
def test_the_metrics_of_a_task_are_those_that_it_gives(embeddings, tmp_path):
    config = aligner()
    config.data, config.model.dim = f"embeddings:{embeddings}", 8
    experiment = build(config).experiment
    val = experiment.evaluations["val"]
    assert given(experiment, val) == set(RECALLS)
    graded = dataclasses.replace(val, relevancy=lambda: (np.arange(4), np.ones((10, 4))))
    assert given(experiment, graded) == {*RECALLS, *GRADED}
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "f.npz", label=np.arange(40) % 2, a=rng.normal(size=(40, 6)), b=rng.normal(size=(40, 5)))
    config = classifier()
    config.data = f"features:{tmp_path / 'f.npz'}"
    experiment = build(config).experiment
    found = given(experiment, experiment.evaluations["val"])
    assert {f"val/{name}" for name in found} == set(allowed_values(config)["eval.metric"])


def given(experiment, split):
    return set(experiment.evaluate(evaluation_variables(initial_state(experiment)), split))


def test_a_metric_that_only_graded_data_has_is_refused_on_other_data(embeddings):
    config = aligner()
    config.data, config.eval.metric = f"embeddings:{embeddings}", "val/mAP"
    with pytest.raises(ConfigError, match=r"eval\.metric.*val/mAP.*embeddings:.*val/a2b_R@1"):
        build(config)


@pytest.mark.parametrize(
    ("make", "metric", "message"),
    [
        (aligner, "val/rsumm", "'val/rsum'"),
        (aligner, "rsum", "'val/rsum'"),
        (aligner, "test/rsum", "val/rsum"),
        (aligner, "val/accuracy", "val/a2b_R@1"),
        (aligner, "val/accuracy@5", "evaluate --zero_shot"),
        (aligner, "val/nDCG_a2a", "'val/nDCG_"),
        (classifier, "val/rsum", "val/accuracy"),
        (classifier, "val/accuracy_c", "'val/accuracy_"),
    ],
)
def test_a_metric_of_another_task_is_refused(make, metric, message):
    config = make()
    config.eval.metric = metric
    with pytest.raises(ConfigError, match=message):
        check_settings(config)


@dataclasses.dataclass(frozen=True)
class Command:
    config: str
    wrong: str
    right: str


COMMANDS = {
    "retrieval": Command("flickr8k_frozen.py:runlocal,method=baseline,data=embeddings:{latents}", "rsumm", "rsum"),
    "multi-instance": Command("epic_mir_mm_ts.py:runlocal,data={epic}", "nDGC", "nDCG"),
    "no graded relevancy": Command("flickr8k_frozen.py:method=baseline,data=embeddings:{latents}", "mAP", "b2a_R@1"),
    "classification": Command("av_digits_bss.py:runlocal,inputs=features,data=features:{features}", "f1", "macro_f1"),
    "zero-shot": Command("flickr8k_frozen.py:method=baseline,data=embeddings:{latents}", "accuracy@1", "rsum"),
}


@pytest.mark.parametrize("task", COMMANDS)
def test_a_mistaken_metric_costs_nothing(task, tmp_path, embeddings, repository, capsys, monkeypatch):
    """Status 2, and the workdir is unchanged; the corrected command then trains there."""
    trained = []
    monkeypatch.setattr("alignment_jax.cli.train._train", lambda *arguments, **options: trained.append(1) or 0)
    rng = np.random.default_rng(0)
    features = {"a": rng.normal(size=(60, 6)), "b": rng.normal(size=(60, 5))}
    np.savez(tmp_path / "f.npz", label=np.arange(60) % 2, **features)
    (tmp_path / "epic").mkdir()
    known = {"latents": embeddings, "features": tmp_path / "f.npz"}
    known["epic"] = paper.MOCKS["epic"].write(tmp_path / "epic") if task == "multi-instance" else ""
    command = COMMANDS[task]
    workdir = tmp_path / "run"
    start = ["train", "--config", f"{repository}/configs/{command.config.format(**known)}", "--workdir", str(workdir)]
    start += ["--config.train.devices=1"]
    assert main([*start, f"--config.eval.metric=val/{command.wrong}"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"eval.metric is 'val/{command.wrong}'" in line
    assert f"val/{command.right}" in line
    assert not workdir.exists()
    assert trained == []
    assert main([*start, f"--config.eval.metric=val/{command.right}"]) == 0
    assert trained == [1]
    # The same in the workdir of a run.
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    assert main([*start, f"--config.eval.metric=val/{command.wrong}"]) == 2
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*")} == before


def test_a_comparison_reads_no_data_for_a_name_that_nothing_has(tmp_path, embeddings, repository, unread, capsys):
    config = f"{repository}/configs/flickr8k_frozen.py:data=embeddings:{embeddings}"
    command = ["compare", "--config", config, "--methods", "baseline,vals", "--workdir", str(tmp_path / "c")]
    assert main([*command, "--config.eval.metric=val/rsumm"]) == 2
    assert "'val/rsum'" in capsys.readouterr().err
    assert not (tmp_path / "c").exists()
