"""Whole runs in the order of a sampler: resumed to the same bits, on several devices as on one, every sample scored."""

import dataclasses
import functools
import itertools
import json

import jax
import numpy as np
import pytest
from shared_runs import shared_run

from alignment_jax import config as configs
from alignment_jax import sampling
from alignment_jax.assembly.build import build
from alignment_jax.core.errors import ConfigError
from alignment_jax.train.checkpoint import checksums
from alignment_jax.train.loop import fit
from alignment_jax.train.objective import Aux
from alignment_jax.train.score_tracking import ScoreTracking

pytestmark = pytest.mark.costly

N_TRAIN, CLASSES, BATCH = 44, 3, 8


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """Three modalities of unequal use."""
    rng = np.random.default_rng(0)
    n = 66
    label = rng.integers(0, CLASSES, n)
    centres = [rng.normal(size=(CLASSES, d)) for d in (6, 5, 4)]
    arrays = {
        name: (centre[label] + noise * rng.normal(size=(n, centre.shape[1]))).astype(np.float32)
        for name, centre, noise in zip("abc", centres, (0.5, 1.0, 3.0), strict=True)
    }
    path = tmp_path_factory.mktemp("features") / "f.npz"
    np.savez(path, **arrays, label=label, split=np.array((["train"] * 4 + ["val", "test"]) * 11))
    return path


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    rng = np.random.default_rng(0)
    code = rng.normal(size=(66, 6))
    path = tmp_path_factory.mktemp("pairs") / "p.npz"
    text = code @ rng.normal(size=(6, 10))
    np.savez(
        path, image=code @ rng.normal(size=(6, 12)), text=text, split=np.array((["train"] * 4 + ["val", "test"]) * 11)
    )
    return path


def classifier(features, **changes):
    config = configs.default()
    config.data = f"features:{features}"
    encoder = {"name": "mlp", "widths": (8,), "dropout": 0.2}
    config.model = configs.fusion_classifier(dict(encoder), dict(encoder), dict(encoder))
    config.eval.metric = "val/accuracy"
    return small(config, changes)


def aligner(pairs, **changes):
    config = configs.default()
    config.data = f"embeddings:{pairs}"
    config.model.dim = 8
    config.weighting.signal = "variance"
    return small(config, changes)


def small(config, changes):
    config.input.batch_size = BATCH
    config.optimizer.ema = 0.9
    config.train.duration, config.train.devices = "4 epochs", 1
    config.sampling.epochs = 3
    config.eval.interval, config.checkpoint.interval, config.log.interval = "7 steps", "2 steps", "1 steps"
    config.update_from_flattened_dict(changes)
    return config


def run(config, workdir):
    return shared_run(config).fit(workdir)


def rows_of(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


class _Killed(BaseException):
    pass


RUNS = {
    "curriculum, fresh": (classifier, {"sampling.name": "curriculum"}),
    "probabilistic, recycled": (classifier, {"sampling.name": "probabilistic", "sampling.scores": "recycled"}),
    "alignment, curriculum, recycled": (aligner, {"sampling.name": "curriculum", "sampling.scores": "recycled"}),
    "alignment, probabilistic, fresh": (aligner, {"sampling.name": "probabilistic", "input.resident": "off"}),
}


each_run = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.optimized) if name == "curriculum, fresh" else name for name in RUNS]
)


@pytest.fixture(scope="module")
def undisturbed(request, tmp_path_factory):
    """name -> (the finished run, its workdir); each is trained once."""

    @functools.cache
    def trained(name):
        workdir = tmp_path_factory.mktemp("undisturbed")
        return run(config_of(name, request), workdir), workdir

    return trained


def config_of(name, request, **more):
    make, changes = RUNS[name]
    return make(request.getfixturevalue("features" if make is classifier else "pairs"), **changes, **more)


@pytest.mark.slow
@each_run
def test_an_interrupted_run_ends_with_the_same_bits(name, tmp_path, request, undisturbed):
    expected, whole = undisturbed(name)
    made = shared_run(config_of(name, request))
    for kill_at in (5, 8):  # at the end of an epoch and inside one
        workdir, count = tmp_path / str(kill_at), iter(range(1000))

        def dying(rows, epoch, first, count=count, kill_at=kill_at):
            for batch in made.experiment.batches(rows, epoch, first):
                if next(count) == kill_at:
                    raise _Killed
                yield batch

        with pytest.raises(_Killed):
            made.fit(workdir, batches=dying)
        resumed = made.fit(workdir)
        assert checksums(resumed.variables) == checksums(expected.variables)
        assert (workdir / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()


@pytest.mark.slow
@each_run
def test_eight_devices_train_as_one(name, tmp_path, request, undisturbed):
    run(config_of(name, request, **{"train.devices": 8}), tmp_path)
    losses = [[row["train/loss"] for row in rows_of(workdir)] for workdir in (undisturbed(name)[1], tmp_path)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


def recorded(config, workdir):
    """The orders of a run and the scores that each was made from."""
    experiment = build(config).experiment
    orders, scores = [], []

    class Recorder(type(experiment.sampler)):
        def order(self, given, epoch):
            found = super().order(given, epoch)
            orders.append(found)
            scores.append({name: np.array(value) for name, value in given.items()})
            return found

    recorder = Recorder(**vars(experiment.sampler))
    fit(dataclasses.replace(experiment, sampler=recorder), workdir, quiet=True, tensorboard=False)
    return orders, scores


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, 8])
def test_fresh_scores_are_those_of_the_model_before_the_first_step(devices, tmp_path, features):
    """44 samples in batches of 8 and on 8 devices: the last batch is padded, and every sample is measured once."""
    config = classifier(features, **{"sampling.name": "probabilistic", "train.devices": devices})
    _, scores = recorded(config, tmp_path)
    built = build(config)
    experiment, train = built.experiment, built.splits["train"]
    params, state = experiment.model.init(jax.random.split(jax.random.key(config.seed))[0], *experiment.first_batch)
    inputs = [column.read(np.arange(N_TRAIN)) for column in (train.a, train.b, train.c)]
    logits = {name: np.asarray(value) for name, value in experiment.model.predict(params, state, *inputs).items()}
    heads = [logits[name] for name in ("a", "b", "c", "fused")]
    np.testing.assert_allclose(
        scores[0]["similarity"], sampling.prediction_similarity(heads[:3]), rtol=1e-5, err_msg="similarity"
    )
    np.testing.assert_allclose(scores[0]["difficulty"], sampling.cross_entropy(heads, train.label), rtol=1e-5)
    assert len(scores) == 4
    assert any(not np.array_equal(scores[0]["difficulty"], later["difficulty"]) for later in scores[1:])


@pytest.mark.slow
def test_scores_stay_between_scorings(tmp_path, features):
    changes = {"sampling.name": "probabilistic", "sampling.rescore_every": 2}
    _, scores = recorded(classifier(features, **changes), tmp_path)
    equal = [np.array_equal(a["difficulty"], b["difficulty"]) for a, b in itertools.pairwise(scores)]
    assert equal == [True, False, True]


@pytest.mark.slow
def test_recycled_scores_cost_no_pass(tmp_path, features):
    config = classifier(features, **{"sampling.name": "curriculum", "sampling.scores": "recycled"})
    experiment = build(config).experiment

    def forbidden(rows):
        raise AssertionError("a pass over the training set")

    fit(dataclasses.replace(experiment, scoring_batches=forbidden), tmp_path, quiet=True, tensorboard=False)


@pytest.mark.slow
def test_a_curriculum_shows_its_share_and_an_epoch_lasts_as_long_as_it_has_batches(tmp_path, features):
    orders, _ = recorded(classifier(features, **{"sampling.name": "curriculum"}), tmp_path)
    shown = [sampling.pacing(epoch, n=N_TRAIN, start=0.1, epochs=3) for epoch in range(4)]
    assert [len(order) for order in orders] == shown
    rows = rows_of(tmp_path)
    assert len(rows) == sum(k // BATCH for k in shown)  # the duration of 4 epochs is that of these 4
    assert [row["epoch"] for row in rows] == [e + 1 for e, k in enumerate(shown) for _ in range(k // BATCH)]
    assert [row["train/share_shown"] for row in rows] == [k / N_TRAIN for k in shown for _ in range(k // BATCH)]


class _Fixed:
    """An objective whose scores are fields of its batch."""

    def init(self):
        return ()

    def __call__(self, apply, params, model_state, method_state, batch, *, step, key, axis_name):
        per_sample = {name: batch[name] for name in ("index", "where", "loss")}
        return jax.numpy.float32(0.0), Aux(model_state, method_state, {}, per_sample)


def averages(devices, steps):
    scored = ScoreTracking(_Fixed(), size=6, criteria={"difficulty": "loss"}, recycle=True, decay=0.75)
    axis = "batch" if devices > 1 else None

    def step(state, batch):
        return scored(None, None, {}, state, batch, step=0, key=None, axis_name=axis)[1].method_state

    if devices > 1:
        spec = jax.sharding.PartitionSpec
        mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), ("batch",))
        step = jax.shard_map(step, mesh=mesh, in_specs=(spec(), spec("batch")), out_specs=spec())
    state = scored.init()
    for index, loss in steps:
        where = np.array(index) >= 0
        batch = {"index": np.array(index, np.int32), "where": where, "loss": np.where(where, loss, np.nan)}
        state = jax.jit(step)(state, jax.tree.map(lambda x: x.astype(np.float32) if x.dtype == float else x, batch))
    return state


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_running_averages(devices):
    state = averages(devices, [([4, 2, -1, -1], [1, 2, 0, 0]), ([2, -1, 5, 5], [4, 0, 1, 3])])
    # the first value unchanged, later ones averaged; sample 5 is twice in a batch and counts once, with its mean
    np.testing.assert_allclose(state["running"]["difficulty"], [0, 0, 0.75 * 2 + 0.25 * 4, 0, 1, 2], rtol=1e-6)
    assert np.flatnonzero(state["seen"]).tolist() == [2, 4, 5]
    np.testing.assert_array_equal(state["scores"]["difficulty"], 0.0)


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        ("classifier", {"sampling.name": "random"}, r"sampling\.name"),
        ("classifier", {"sampling.similarity": "pixels"}, r"sampling\.similarity"),
        ("classifier", {"classification.weight_a": -1.0}, "weight_a"),
        ("classifier", {"classification.predict": "a+video"}, r"classification\.predict"),
        ("classifier", {"weighting.signal": "variance"}, r"weighting\.signal"),
        ("classifier", {"perturb.sigma": 0.1}, "perturb"),
        ("classifier", {"input.fraction": 0.0}, "fraction"),
        ("aligner", {"sampling.difficulty": "gradient"}, r"sampling\.difficulty is 'gradient'.*\(for alignment\)"),
        (
            "aligner",
            {"sampling.name": "probabilistic", "sampling.scores": "recycled", "perturb.fusemix": 1.0},
            "use sampling.scores=fresh",
        ),
    ],
)
def test_settings_are_checked(make, changes, message, features, pairs):
    config = classifier(features, **changes) if make == "classifier" else aligner(pairs, **changes)
    with pytest.raises(ConfigError, match=message):
        build(config)


@pytest.mark.slow
def test_features_of_different_widths_are_refused_by_name(tmp_path, features):
    config = classifier(features, **{"sampling.name": "curriculum", "sampling.similarity": "feature"})
    config.model.encoder_a.widths = (9,)
    with pytest.raises(ConfigError, match=r"sampling\.similarity: .*width"):
        run(config, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("similarity", ["prediction", "feature", "none"])
@pytest.mark.parametrize("difficulty", ["loss", "gradient", "none"])
def test_every_combination_of_criteria_trains(similarity, difficulty, tmp_path, features):
    changes = {"sampling.similarity": similarity, "sampling.difficulty": difficulty, "train.duration": "2 steps"}
    config = classifier(features, **{**changes, "sampling.name": "curriculum"})
    if similarity == difficulty == "none":
        with pytest.raises(ConfigError, match="no criterion"):
            build(config)
    else:
        assert run(config, tmp_path).position.step == 2


def test_the_staircase_goes_down_in_the_epochs_that_are_shown(features):
    changes = {
        "sampling.name": "curriculum",
        "optimizer.schedule": "staircase",
        "optimizer.warmup": "0 steps",
        "optimizer.drop_every": "3 epochs",
        "train.duration": "7 epochs",
    }
    experiment = build(classifier(features, **changes)).experiment
    lengths = [sampling.pacing(epoch, n=N_TRAIN, start=0.1, epochs=3) // BATCH for epoch in range(7)]
    rates = [experiment.learning_rate(step) for step in range(sum(lengths))]
    expected = [1e-3 * 0.1 ** (epoch // 3) for epoch, length in enumerate(lengths) for _ in range(length)]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)
