"""Whether fusion beats its best modality: constructed logits with known answers."""

import numpy as np
import pytest

from alignment_jax import evals
from alignment_jax.compare.fusion_gain import fusion_gain
from alignment_jax.report import fusion_sentence, fusion_sentences, fusion_table, learning_table, to_plain

NAMES = ("audio", "image", "text")
N = 200


def classified(seed, rates, *, missing=None, label=None, classes=4):
    """Logits of heads that are right at these rates, each wrong on samples of its own."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, N) if label is None else label
    logits = {}
    for name, rate in rates.items():
        chosen = np.where(rng.random(N) < rate, label, (label + 1) % classes)
        logits[name] = np.eye(classes, dtype=np.float32)[chosen]
    return evals.SplitLogits(logits, label, missing or {})


def judge(splits, heads=("fused",), learned=None):
    tests = [evals.classification_metrics(one, heads=heads) for one in splits]
    return fusion_gain(tests, [evals.head_items(one, heads=heads) for one in splits], learned or [{}] * len(splits))


def seeds(rates, **more):
    label = np.random.default_rng(9).integers(0, 4, N)
    return [classified(seed, rates, label=label, **more) for seed in range(5)]


CASES = {
    "beats": ({"a": 0.6, "b": 0.7, "fused": 0.9}, "b"),
    "does not beat": ({"a": 0.9, "b": 0.6, "fused": 0.75}, "a"),
    "not distinguishable": ({"a": 0.5, "b": 0.8, "fused": 0.8}, "b"),
}


@pytest.mark.parametrize("verdict", CASES)
def test_the_verdict_follows_from_the_interval_over_seeds_and_samples(verdict):
    rates, best = CASES[verdict]
    splits = seeds(rates)
    found = judge(splits)
    assert (found.verdict, found.best) == (verdict, best)
    tests = [evals.classification_metrics(one, heads=("fused",)) for one in splits]
    gain = np.mean([one["accuracy"] - one[f"accuracy_{best}"] for one in tests])
    assert found.modalities[best].gain.mean == pytest.approx(gain)
    assert found.modalities[best].gain.low < gain < found.modalities[best].gain.high
    assert found.gap == pytest.approx(np.mean([abs(one["accuracy_a"] - one["accuracy_b"]) for one in tests]))
    for name in ("macro_f1", "mAP"):
        assert getattr(found, name).mean == pytest.approx(np.mean([one[name] for one in tests]), abs=1e-4)
    row = {"method": "vanilla", **found.to_json()}
    assert verdict in fusion_sentence(row, NAMES)
    assert f"{gain:+.1f} [" in to_plain(fusion_table([row], NAMES))
    lines = fusion_sentences([row, {**row, "method": "other"}], NAMES)
    assert len(lines) == 3
    assert ("vanilla, other" in lines[-1]) == (verdict != "beats")


def test_fusion_must_beat_every_modality():
    """The mean of one gain is smaller, but it is sure; the other one is not sure and decides."""
    label = np.zeros(N, int)

    def right(count):
        return np.eye(2, dtype=np.float32)[(np.arange(N) >= count).astype(int)]

    rng = np.random.default_rng(0)
    each = []
    for seed in range(5):
        b = right(120 + 14 * (seed - 2))[rng.permutation(N)]
        each.append(evals.SplitLogits({"a": right(126), "b": b, "fused": right(140)}, label))
    found = judge(each)
    assert found.modalities["a"].gain.mean < found.modalities["b"].gain.mean
    assert found.modalities["a"].gain.low > 0 > found.modalities["b"].gain.low
    assert (found.best, found.verdict) == ("b", "not distinguishable")


def test_a_copy_of_the_prediction_is_never_beaten():
    splits = seeds({"a": 0.5, "fused": 0.8})
    splits = [evals.SplitLogits({**one.logits, "b": one.logits["fused"]}, one.label) for one in splits]
    found = judge(splits)
    gain = found.modalities["b"].gain
    assert (found.verdict, found.best, gain.mean, gain.low, gain.high) == ("does not beat", "b", 0.0, 0.0, 0.0)


def test_a_modality_without_errors_leaves_nothing_to_gain():
    """Two seeds stretch the interval of -0.5 and -1 points far above 0, where no gain is possible."""
    label = np.random.default_rng(0).integers(0, 4, N)
    right = np.eye(4, dtype=np.float32)[label]
    each = [
        evals.SplitLogits({"a": right, "b": right[::-1], "fused": np.roll(right, 1, 1) * wrong + right * ~wrong}, label)
        for wrong in (np.arange(N)[:, None] < 1, np.arange(N)[:, None] < 2)
    ]
    found = judge(each)
    gain = found.modalities["a"].gain
    assert (gain.mean, gain.high, found.verdict, found.best) == (-0.75, 0.0, "does not beat", "a")
    assert found.accuracy.high == 100.0


def test_a_missing_modality_is_compared_where_it_is_present():
    """b is right wherever it is present, and so is fusion; elsewhere fusion has a alone."""
    label = np.random.default_rng(0).integers(0, 4, N)
    has = np.random.default_rng(1).random(N) < 0.7
    one_hot = np.eye(4, dtype=np.float32)
    a = one_hot[np.where(np.random.default_rng(2).random(N) < 0.5, label, (label + 1) % 4)]
    fused = np.where(has[:, None], one_hot[label], a)
    found = judge([evals.SplitLogits({"a": a, "b": one_hot[label] * has[:, None], "fused": fused}, label, {"b": has})])
    assert found.accuracy.mean < found.modalities["b"].accuracy.mean == 100.0
    assert (found.best, found.modalities["b"].gain.mean, found.verdict) == ("b", 0.0, "does not beat")
    assert (found.modalities["b"].samples, found.samples) == (has.sum(), N)
    table = to_plain(fusion_table([{"method": "vanilla", **found.to_json()}], NAMES))
    assert f"image alone [%], {has.sum()} of {N} samples" in table
    assert "audio alone [%]  " in table


def test_a_third_modality_has_its_columns():
    rates = {"a": 0.25, "b": 0.6, "c": 0.8, "fused": 0.95}
    found = judge(seeds(rates), learned=[{"a": 0.1, "b": 0.5, "c": 0.2}, {"a": 0.1, "b": 0.7, "c": 0.2}] * 2 + [{}])
    assert (found.best, found.verdict) == ("c", "beats")
    assert found.modalities["b"].learned is None  # one seed has none
    found = judge(seeds(rates), learned=[{"a": 0.1, "b": 0.5, "c": 0.2}] * 5)
    row = {"method": "vanilla", **found.to_json()}
    assert not found.modalities["a"].above_chance
    assert found.modalities["a"].learned is None
    assert "audio alone: not above chance" in fusion_sentence(row, NAMES)
    assert to_plain(learning_table([row], NAMES)).splitlines()[-1].split()[-2:] == ["50", "20"]
    assert "text alone [%]" in to_plain(fusion_table([row], NAMES))


def test_a_long_tail_is_hidden_by_accuracy_and_shown_by_macro_f1():
    label = np.repeat([0, 1, 2, 3], [185, 5, 5, 5])
    always = np.eye(4, dtype=np.float32)[np.zeros(N, int)]
    found = judge([evals.SplitLogits({"a": always, "b": always, "fused": always}, label)] * 3)
    assert found.accuracy.mean == 92.5
    # F1 of class 0 is 2 * 185 / (185 + 200), that of the others 0; a constant score has the precision of its class.
    assert found.macro_f1.mean == pytest.approx(100 * (370 / 385) / 4, abs=1e-4)
    assert found.mAP.mean == pytest.approx(25.0, abs=1e-4)
    assert found.macro_f1.low < found.macro_f1.mean < found.macro_f1.high < 30
    assert not any(one.above_chance for one in found.modalities.values())


def test_map_is_over_the_classes_that_occur():
    label = np.arange(N) % 3
    found = judge([evals.SplitLogits({"a": np.eye(4)[label], "b": np.eye(4)[label], "fused": np.eye(4)[label]}, label)])
    assert found.mAP.mean == pytest.approx(100.0, abs=1e-4)


def test_runs_without_items_have_an_interval_over_seeds_alone():
    tests = [evals.classification_metrics(one, heads=("fused",)) for one in seeds(CASES["beats"][0])]
    found = fusion_gain(tests, None)
    assert (found.verdict, found.samples, found.modalities["a"].above_chance) == ("beats", None, True)
    assert fusion_gain(tests[:1], None).verdict == "no interval"
    row = {"method": "vanilla", **fusion_gain(tests[:1], None).to_json()}
    assert "more seeds" in fusion_sentence(row, NAMES)
    assert fusion_gain([{"rsum": 400.0}], None) is None
