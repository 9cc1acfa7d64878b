"""The pass of fresh scores: every sample once, on any number of devices, and the numbers are those of the formulas."""

import pathlib

import jax
import numpy as np
import pytest
from score_worker import MAKE, N, experiment_of, pairs, scores, three_modalities
from several_processes import Processes

from alignment_jax import sampling
from alignment_jax.train.loop import initial_state

pytestmark = pytest.mark.costly


def assert_same(found, expected):
    for name in ("similarity", "difficulty"):
        assert found[name].shape == (N,)
        np.testing.assert_allclose(found[name], expected[name], rtol=2e-5, atol=1e-6, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", MAKE)
def test_scores_do_not_depend_on_the_devices(kind, tmp_path):
    config = MAKE[kind](tmp_path / "data.npz")
    expected = scores(config, 1)
    for devices in (2, 4, 8):
        assert_same(scores(config, devices), expected)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "devices"), [("classification", 2), ("alignment", 1)])
def test_two_processes_measure_every_sample_once_and_both_know_all_scores(kind, devices, tmp_path):
    expected = scores(MAKE[kind](tmp_path / "data.npz"), 1)
    worker = pathlib.Path(__file__).parent / "score_worker.py"
    with Processes([worker, kind, tmp_path], tmp_path, count=2, devices=devices) as run:
        assert run.wait() == [0, 0], "\n".join(log.read_text() for log in run.logs)
    for number in range(2):
        with np.load(tmp_path / f"scores{number}.npz") as found:
            assert found["devices"] == 2 * devices
            assert_same(found, expected)


@pytest.mark.slow
def test_scores_of_pairs_are_similarity_and_infonce_without_noise_or_smoothing(tmp_path):
    config = pairs(tmp_path / "p.npz")
    found, experiment = scores(config, 1), experiment_of(config, 1)
    state = initial_state(experiment)
    with np.load(tmp_path / "p.npz") as arrays:
        za = experiment.model.encode_a(state.params, state.model_state, arrays["image"][:N])
        zb = experiment.model.encode_b(state.params, state.model_state, arrays["text"][:N])
    similarity = np.asarray(za @ zb.T, np.float64)
    np.testing.assert_allclose(found["similarity"], np.diag(similarity), rtol=1e-4, atol=1e-6)
    for start in range(4):  # the candidates of a pair are the others of its batch, a quarter of the set
        members = np.arange(start, N, 4)
        logits = similarity[np.ix_(members, members)] / config.temperature.init
        both = [np.log(np.exp(x).sum(axis=1)) - np.diag(x) for x in (logits, logits.T)]
        np.testing.assert_allclose(found["difficulty"][members], np.mean(both, axis=0), rtol=1e-4)


@pytest.mark.slow
def test_scores_of_three_modalities_are_those_of_the_sampling_room(tmp_path):
    config = three_modalities(tmp_path / "f.npz")
    found, experiment = scores(config, 4), experiment_of(config, 1)
    state = initial_state(experiment)
    with np.load(tmp_path / "f.npz") as arrays:
        inputs, label = [arrays[name][:N] for name in "abc"], arrays["label"][:N]
    outputs, _ = experiment.model.apply(
        state.params, state.model_state, *inputs, train=False, rows=np.arange(N), where=np.ones(N, bool), key=None
    )
    logits, features = (list(jax.device_get(outputs[kind]).values()) for kind in ("logits", "features"))
    np.testing.assert_allclose(found["similarity"], sampling.feature_similarity(features[:-1]), rtol=1e-4, atol=1e-6)
    expected = sampling.gradient_magnitude(logits, label, features=features)
    np.testing.assert_allclose(found["difficulty"], expected, rtol=1e-4)
