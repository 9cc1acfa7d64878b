"""Every method and their combinations through the same step and loop: on eight devices as on one, resumed to the bit.

The last checkpoint of a run holds checksums of its whole state: the average of the parameters, the sampler's scores and
the random key among them. An interrupted and resumed run must end with all of them equal.
"""

import importlib.util
import json

import numpy as np
import pytest
from shared_runs import shared_run

from alignment_jax.assembly.build import build
from alignment_jax.config.recipes import CLOSED_FORMS, METHODS
from alignment_jax.core.errors import ConfigError

# Methods without an own entry are part of a combination.
_COMBINED = ("vals_loss", "noise", "smoothing", "structure", "sotalign", "curriculum", "anti_curriculum")
TRAINED = [name for name in METHODS if name not in (*CLOSED_FORMS, *_COMBINED)]
COMBINATIONS = (
    "all",
    "vals+mm_ts",
    "mm_ts_margin+vals+bss",
    "modest_align+curriculum",
    "sigmoid+noise+fusemix",
    "vals_loss+smoothing+anti_curriculum",
    "structure+vals+mm_ts+noise",
    "sotalign+structure+noise+fusemix",
)
BATCH, STEPS_PER_EPOCH, STEPS = 16, 3, 6
LOGGED = {
    "train/weight_ab",
    "train/weight_ba",
    "train/temperature_mean",
    "train/temperature_min",
    "train/temperature_max",
    "train/smoothing",
    "train/noise_sigma",
    "train/share_shown",
}


@pytest.fixture(scope="module")
def latents(tmp_path_factory):
    """72 items in clusters of unequal size, two views and two captions each, some repeated; 48 to train on."""
    rng, n = np.random.default_rng(0), 72
    cluster = rng.choice(4, size=n, p=(0.5, 0.3, 0.1, 0.1))
    code = rng.normal(size=(4, 6))[cluster] + rng.normal(size=(n, 6))
    owner = np.repeat(np.arange(n), 2)
    views = [code @ rng.normal(size=(6, 12)) for _ in range(2)]
    text = code[owner] @ rng.normal(size=(6, 10)) + 0.1 * rng.normal(size=(2 * n, 10))
    text[::5] = text[0]  # equal content: batches carry ids
    path = tmp_path_factory.mktemp("data") / "pairs.npz"
    np.savez(
        path,
        image=views[0],
        image_flip=views[1],
        text=text,
        text_to_image=owner,
        cluster_size=np.bincount(cluster)[cluster][owner],
        split=np.array((["train"] * 4 + ["val", "test"]) * 12),
    )
    return path


def get_config(name, argument, repository):
    spec = importlib.util.spec_from_file_location(name, repository / "configs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(argument)


def make_config(methods, latents, repository, **changes):
    config = get_config("flickr8k_frozen", f"method={methods},data=embeddings:{latents}", repository)
    config.model.dim, config.input.batch_size, config.train.devices = 8, BATCH, 1
    if config.init.name == "random":
        config.train.duration = f"{STEPS} steps"
    config.optimizer.ema, config.sampling.epochs, config.sampling.start = 0.9, 2, 1.0
    config.eval.interval, config.checkpoint.interval, config.log.interval = "3 steps", "2 steps", "2 steps"
    config.update_from_flattened_dict(changes)
    return config


def run(made, workdir, **changes):
    made.fit(workdir, **changes)
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    last = max((workdir / "checkpoints" / "last").iterdir(), key=lambda path: int(path.name))
    return rows, json.loads(next((last / "loop").iterdir()).read_text())["checksums"]


class _Killed(BaseException):
    """Simulates the end of the process: no code may catch it."""


def killed_in_the_second_epoch(experiment):
    """Its batches, up to the kill."""

    def batches(rows, epoch, first):
        for number, batch in enumerate(experiment.batches(rows, epoch, first), start=first):
            if epoch * STEPS_PER_EPOCH + number == 4:
                raise _Killed
            yield batch

    return batches


@pytest.mark.slow
@pytest.mark.parametrize("methods", [*TRAINED, *COMBINATIONS])
def test_methods_compose(methods, tmp_path, latents, repository):
    made = shared_run(make_config(methods, latents, repository))
    rows, state = run(made, tmp_path / "undisturbed")
    assert [row["step"] for row in rows] == [2, 3, 4, 6]
    assert all(row.keys() >= LOGGED for row in rows if "train/loss" in row)

    # Resumed in the middle of an epoch: the same log and the same bits, of everything.
    with pytest.raises(_Killed):
        run(made, tmp_path / "interrupted", batches=killed_in_the_second_epoch(made.experiment))
    assert run(made, tmp_path / "interrupted") == (rows, state)
    assert ".key" in state
    assert any(name.startswith(".average") for name in state)
    assert any("scores" in name for name in state) == (made.experiment.sampler.method != "shuffle")

    eight = shared_run(make_config(methods, latents, repository, **{"train.devices": 8}))
    for found, expected in zip(run(eight, tmp_path / "eight")[0], rows, strict=True):
        assert found.keys() == expected.keys()
        for name in (name for name in expected if name.startswith("train/")):
            assert found[name] == pytest.approx(expected[name], rel=2e-3, abs=1e-5), name


def test_no_method_is_left_out():
    tested = {name for methods in (*TRAINED, *COMBINATIONS, *CLOSED_FORMS) for name in methods.split("+")}
    assert tested >= {*METHODS}


@pytest.mark.slow
@pytest.mark.parametrize("method", CLOSED_FORMS)
def test_a_closed_form_is_the_same_on_any_number_of_devices_and_again(method, tmp_path, latents, repository):
    runs = []
    for number, devices in enumerate((1, 8, 1)):
        config = make_config(method, latents, repository, **{"train.devices": devices})
        runs.append(run(shared_run(config), tmp_path / str(min(number, 1 - number % 2))))
    (row,), _ = runs[0]
    assert row["step"] == 0
    assert runs == [runs[0]] * 3


@pytest.mark.parametrize("config", ["flickr8k_frozen", "flickr8k_raw", "quickstart"])
@pytest.mark.parametrize("methods", [*METHODS, *COMBINATIONS])
def test_every_alignment_config_takes_every_method(config, methods, repository):
    found = get_config(config, f"runlocal,method={methods}", repository)
    for setting, value in METHODS.get(methods, {}).items():
        section, name = setting.split(".")
        assert found[section][name] == value


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ("cca", "run `alignment-jax extract`"),
        ("noise", "perturb"),
        ("fusemix", "perturb"),
        ("structure", r"structure\.weight"),
        ("sotalign", r"transport\.weight"),
        ("sigmoid+vals", r"loss\.name=sigmoid.*use infonce or max_margin"),
        ("sigmoid+vals_loss", r"weighting\.signal=loss.*loss\.name=sigmoid.*use infonce or max_margin"),
        ("mm_ts_margin+vals_probability", r"weighting\.signal=probability.*loss\.name=max_margin.*use infonce$"),
        ("sigmoid+smoothing", "smoothing"),
    ],
)
def test_methods_that_cannot_apply_to_pixels_or_to_a_loss_are_errors(methods, message, repository):
    config = get_config(
        "quickstart", f"runlocal,method={methods},data=synthetic:train=16,val=8,test=8,size=16", repository
    )
    with pytest.raises(ConfigError, match=message):
        build(config)
