"""YouCook2: features of a step are the mean over its frames, in all file layouts."""

import json

import mock_paper_sets as paper
import numpy as np
import pytest

from alignment_jax import data
from alignment_jax.core.errors import DataError

LIST = "youcookii_annotations_trainval.json"
FIRST = "-v0xQ_bOz"


@pytest.mark.parametrize("layout", ["video", "step", "csv"])
def test_the_mean_over_the_frames_of_a_step(layout, tmp_path):
    source = data.load(paper.youcook2(tmp_path, layout=layout))
    train = source.splits["train"]
    assert train.ids[:4].tolist() == [f"{FIRST}_0", f"{FIRST}_1", f"{FIRST}_2", "-v1xQ_bOz_0"]
    # Seconds 0 to 20, 30 to 50, 60 to 80 of 100 are frames 0 and 1, 3 and 4, 6 and 7 of ten.
    np.testing.assert_allclose(train.a.read(np.arange(3)), [[0.5, 0, 1], [3.5, 0, 1], [6.5, 0, 1]])
    assert train.b.read(np.array([4])) == ["spread butter 1 on bread 1"]
    assert source.label_names == ("100", "101", "102", "103")
    assert len(source.splits["test"]) == 6


def test_a_short_step_has_at_least_one_frame(tmp_path):
    spec = paper.youcook2(tmp_path)
    change(lambda d: d[FIRST]["annotations"][0].update(segment=[99.5, 99.9]))(tmp_path)
    np.testing.assert_allclose(data.load(spec).splits["train"].a.read(np.array([0])), [[9, 0, 1]])


def change(edit):
    def apply(folder):
        content = json.loads((folder / LIST).read_text())
        edit(content["database"])
        (folder / LIST).write_text(json.dumps(content))

    return apply


def features(array):
    return lambda folder: np.save(folder / "features" / f"{FIRST}.npy", array)


BROKEN = {
    "no list": (lambda f: (f / LIST).unlink(), [f"no {LIST}"]),
    "not JSON": (lambda f: (f / LIST).write_text("{"), [LIST, "not valid JSON"]),
    "no videos": (lambda f: (f / LIST).write_text('{"database": []}'), ['"database"']),
    "no duration": (change(lambda d: d[FIRST].pop("duration")), [FIRST, "expected subset, duration"]),
    "subset": (change(lambda d: d[FIRST].update(subset="testing")), [FIRST, "'testing'", "training, validation"]),
    "no sentence": (change(lambda d: d[FIRST]["annotations"][1].update(sentence=" ")), ["step 1", "no sentence"]),
    "no segment": (change(lambda d: d[FIRST]["annotations"][1].pop("segment")), ["step 1", "expected id, segment"]),
    "backwards": (
        change(lambda d: d[FIRST]["annotations"][1].update(segment=[50, 30])),
        ["step 1", "[50, 30]", "100.0 seconds"],
    ),
    "too late": (change(lambda d: d[FIRST]["annotations"][1].update(segment=[100, 120])), ["step 1", "[100, 120]"]),
    "id twice": (change(lambda d: d[FIRST]["annotations"][1].update(id=0)), ["step 1", "id 0", "twice"]),
    "no features": (lambda f: (f / "features" / f"{FIRST}.npy").unlink(), ["step 0", f"{FIRST}_0.npy", "no such file"]),
    "leads out": (change(lambda d: d.update({"../../x": d.pop(FIRST)})), ["step 0", "leads out"]),
    "one axis": (features(np.ones(4)), ["step 0", "[frames, d]"]),
    "whole numbers": (features(np.ones((4, 3), int)), ["step 0", "floating point"]),
    "other width": (features(np.ones((4, 2))), ["3 numbers"]),
    "not finite": (features(np.full((4, 3), np.nan)), ["step 0", "not finite"]),
    "objects": (features(np.array([[None]])), [".npy array"]),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_files_are_named(case, tmp_path):
    folder = tmp_path / "set"
    spec = paper.youcook2(folder)
    edit, parts = BROKEN[case]
    edit(folder)
    with pytest.raises(DataError) as error:
        data.load(spec)
    for part in parts:
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_a_table_that_holds_words_is_named(tmp_path):
    spec = paper.youcook2(tmp_path, layout="csv")
    path = next(tmp_path.rglob("*.csv"))
    path.write_text("one,two\n")
    with pytest.raises(DataError, match=r"resnet_34_feat_mscoco\.csv"):
        data.load(spec)
    assert len(data.load(spec, on_bad_sample="skip").problems) == 3
