"""EPIC-KITCHENS-100 retrieval: features and matrix by row, graded relevancy with and without the published matrix."""

import json
import pickle

import jax
import mock_paper_sets as paper
import numpy as np
import pytest

from alignment_jax import data
from alignment_jax.cli.main import main
from alignment_jax.core.errors import ConfigError, DataError
from alignment_jax.train.evaluation import RetrievalEvaluation
from alignment_jax.train.experiment import EvaluationSplit, Model

ANNOTATIONS = "retrieval_annotations"
TEST = "EPIC_100_retrieval_test.csv"
MATRIX = "retrieval_annotations/relevancy/caption_relevancy_EPIC_100_retrieval_test.npy"


def test_features_are_the_mean_over_segments_side_by_side(tmp_path):
    source = data.load(paper.epic(tmp_path))
    stored = pickle.loads((tmp_path / "features" / "train.pkl").read_bytes())
    expected = np.concatenate([stored["RGB"].mean(axis=1), stored["Flow"].mean(axis=1)], axis=1)
    np.testing.assert_allclose(source.splits["train"].a.read(np.arange(20)), expected, rtol=1e-6)
    assert source.splits["test"].b.read(np.array([1])) == ["put pizza onto plate"]


def test_the_published_matrix_is_read_and_the_classes_give_the_same(tmp_path):
    published = data.load(paper.epic(tmp_path / "with")).splits["test"].relevancy.resolve()
    computed = data.load(paper.epic(tmp_path / "without", matrix=False)).splits["test"].relevancy.resolve()
    assert published[0].tolist() == computed[0].tolist() == [0, 1, 2, 4]
    np.testing.assert_array_equal(published[1], computed[1])
    expected = paper.epic_relevancy([clip[0] for clip in paper.EPIC_CLIPS])
    np.testing.assert_array_equal(published[1], expected.astype(np.float32))
    assert published[1][1].tolist() == [0.25, 1.0, 0.25, 0.0]  # pizza and plate, another verb


def test_a_part_of_a_split_keeps_its_relevancy(tmp_path):
    for matrix in (True, False):
        split = data.load(paper.epic(tmp_path / str(matrix), matrix=matrix)).splits["test"]
        candidates, values = split.subset(np.array([4, 1, 0])).relevancy.resolve()
        assert sorted(candidates.tolist()) == [0, 1, 2]
        whole = split.relevancy.resolve()[1]
        order = [[0, 1, 3].index({2: 0, 1: 1, 0: 3}[c]) for c in candidates.tolist()]
        np.testing.assert_array_equal(values, whole[[4, 1, 0]][:, [0, 1, 3]][:, order])


@pytest.mark.parametrize(
    ("count", "classes", "stat"),
    [("noun", 3, [8, 8, 8]), ("verb", 3, [12, 4, 12]), ("action", 4, [8, 4, 4])],
)
def test_frequencies_are_counted_in_train(count, classes, stat, tmp_path):
    source = data.load(paper.epic(tmp_path) + f",count={count}")
    assert len(source.label_names) == classes
    assert source.splits["test"].cluster_size[:3].tolist() == stat


def test_val_is_cut_out_of_train_with_its_own_relevancy(tmp_path):
    source = data.with_splits(data.load(paper.epic(tmp_path)))
    val = source.splits["val"]
    candidates, values = val.relevancy.resolve()
    assert values.shape == (len(val), len(candidates))
    assert len(candidates) == len({*val.b.texts})
    assert (values.max(axis=1) == 1).all()


def test_text_features_replace_the_captions(tmp_path):
    split = data.load(paper.epic(tmp_path, text=True)).splits["train"]
    assert split.b.read(np.arange(2)).shape == (2, 4)
    assert split.extra_b["caption"][0] == "take plate"


def edit(path, change):
    path.write_text(change(path.read_text()))


BROKEN = {
    "no annotations": (lambda f: (f / ANNOTATIONS).rename(f / "elsewhere"), ["no EPIC_100_retrieval_train.csv"]),
    "no test": (lambda f: (f / ANNOTATIONS / TEST).unlink(), ["EPIC_100_retrieval_test.csv", "no such file"]),
    "no features": (lambda f: (f / "features" / "test.pkl").unlink(), ["test.npy, test.npz", "test.pkl"]),
    "an object": (
        lambda f: (f / "features" / "test.pkl").write_bytes(pickle.dumps(print)),
        ["test.pkl", "builtins.print", "only plain NumPy arrays"],
    ),
    "no such part": (
        lambda f: (f / "features" / "test.pkl").write_bytes(pickle.dumps({"RGB": np.ones((5, 2))})),
        ["test.pkl", "no array 'Flow'", "RGB"],
    ),
    "a row too few": (
        lambda f: (f / "features" / "test.pkl").write_bytes(pickle.dumps(np.ones((4, 2)))),
        ["test.pkl", "4 rows", "5"],
    ),
    "whole numbers": (
        lambda f: (f / "features" / "test.pkl").write_bytes(pickle.dumps(np.ones((5, 2), int))),
        ["test.pkl", "floating point", "int64"],
    ),
    "not finite": (
        lambda f: (f / "features" / "test.pkl").write_bytes(pickle.dumps(np.full((5, 2), np.nan))),
        ["row 0 (P01_test_0)", "not finite"],
    ),
    "a class in words": (
        lambda f: edit(f / ANNOTATIONS / TEST, lambda t: t.replace("take,0,plate,2", "take,zero,plate,2", 1)),
        ["row 1 (line 2)", "whole numbers"],
    ),
    "nouns that run": (
        lambda f: edit(f / ANNOTATIONS / TEST, lambda t: t.replace("[2]", "exit()", 1)),
        ["row 1 (line 2)", "all_noun_classes", "exit()"],
    ),
    "a clip twice": (
        lambda f: edit(f / ANNOTATIONS / TEST, lambda t: t.replace("P01_test_3", "P01_test_0")),
        ["row 4 (line 5)", "'P01_test_0'", "row 1 (line 2)"],
    ),
    "another matrix": (
        lambda f: np.save(f / MATRIX, np.ones((5, 3))),
        ["[5, 4]", "[5, 3]"],
    ),
    "relevancy of two": (
        lambda f: np.save(f / MATRIX, np.full((5, 4), 2)),
        ["from 0 to 1"],
    ),
    "no sentences": (
        lambda f: (f / ANNOTATIONS / "EPIC_100_retrieval_test_sentence.csv").unlink(),
        ["test_sentence.csv", "no such file"],
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_named(case, tmp_path):
    spec = paper.epic(tmp_path)
    change, parts = BROKEN[case]
    change(tmp_path)
    with pytest.raises(DataError) as error:
        data.load(spec)
    for part in parts:
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_skipping_keeps_features_and_matrix_in_step(tmp_path):
    spec = paper.epic(tmp_path)
    edit(tmp_path / ANNOTATIONS / TEST, lambda t: t.replace("[2]", "none", 1))
    source = data.load(spec, on_bad_sample="skip")
    test = source.splits["test"]
    assert len(source.problems) == 1
    assert test.ids.tolist() == ["P01_test_1", "P01_test_2", "P01_test_3", "P01_test_4"]
    whole = pickle.loads((tmp_path / "features" / "test.pkl").read_bytes())["RGB"].mean(axis=1)
    np.testing.assert_allclose(test.a.read(np.arange(4))[:, :6], whole[1:], rtol=1e-6)
    candidates, values = test.relevancy.resolve()
    assert candidates.tolist() == [0, 1, 3]  # the clip "take plate" is gone
    assert values.shape == (4, 3)


def test_unknown_options_are_named(tmp_path):
    spec = paper.epic(tmp_path)
    with pytest.raises(ConfigError, match=r"count='nouns'.*noun, verb, action"):
        data.load(spec + ",count=nouns")
    with pytest.raises(ConfigError, match=r"'counts'.*'count'"):
        data.load(spec + ",counts=noun")


@pytest.mark.slow
def test_training_and_evaluation_report_map_and_ndcg(tmp_path, repository):
    """Through the command line: features and captions in, multi-instance metrics of val and test out."""
    spec = paper.epic(tmp_path / "data", train=120)
    config = f"{repository}/configs/epic_mir_mm_ts.py:runlocal,data={spec}"
    workdir = tmp_path / "run"
    arguments = ["train", "--config", config, "--workdir", str(workdir), "--quiet", "--config.train.devices=1"]
    assert main([*arguments, "--config.train.duration=60 steps", "--config.eval.interval=20 steps"]) == 0
    results = json.loads((workdir / "results.json").read_text())
    keys = {f"{metric}{way}" for metric in ("mAP", "nDCG") for way in ("", "_a2b", "_b2a")}
    assert keys < set(results["val"]) & set(results["test"])
    # Four kinds of clips with clear features: chance is about 0.55.
    assert results["test"]["mAP"] > 0.8
    assert 0 < results["val"]["nDCG"] <= 1
    out = tmp_path / "metrics.json"
    assert main(["evaluate", "--workdir", str(workdir), "--json", str(out)]) == 0
    assert json.loads(out.read_text()) == pytest.approx(results["test"], abs=1e-5)


@pytest.mark.slow
def test_graded_relevancy_is_evaluated_while_training_and_after():
    """Without training: the log of val and the results of test both hold mAP and nDCG."""
    eye = np.eye(3, dtype=np.float32)
    model = Model(
        init=lambda *_: ({}, {}),
        apply=lambda *_: None,
        encode_a=lambda params, state, x: x,
        encode_b=lambda params, state, x: x,
    )
    batches = lambda: iter([(eye, np.ones(3, bool))])  # noqa: E731
    split = EvaluationSplit(batches, batches, np.arange(3), relevancy=lambda: (np.arange(3), eye))
    variables = {"params": {"w": jax.numpy.zeros(1)}, "model_state": {}}
    for found in (
        RetrievalEvaluation(model)(variables, split),
        RetrievalEvaluation(model).evaluate_for_log(variables, split),
    ):
        assert (found["mAP"], found["nDCG"], found["a2b_R@1"]) == (1.0, 1.0, 100.0)
