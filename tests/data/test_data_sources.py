"""The contract of all sources, on mock data sets."""

import mock_data_sets as mock
import mock_paper_sets as paper
import numpy as np
import pytest

from alignment_jax import data


@pytest.fixture(params=mock.MOCKS)
def mocked(request, tmp_path):
    write, kinds, has_splits = mock.MOCKS[request.param]
    return data.load(write(tmp_path)), kinds, has_splits


def test_every_source_has_a_mock():
    named = {name.split()[0].rstrip(",") for name in (*mock.MOCKS, *paper.MOCKS)}
    assert named >= set(data.SOURCES) - {"av", "features", "hf", "labelled", "posts", "samples", "tfds"}


def test_splits_and_counts(mocked):
    source, _, has_splits = mocked
    assert source.has_splits is has_splits
    assert list(source.splits) == (["train", "val", "test"] if has_splits else ["all"])
    assert sum(len(split.a) for split in source.splits.values()) == mock.N
    assert sum(len(split.b) for split in source.splits.values()) == mock.N * mock.CAPTIONS
    assert source.problems == ()
    ids = np.concatenate([split.ids for split in source.splits.values()])
    assert len(set(ids.tolist())) == mock.N
    assert source.spec.startswith(source.name)


def test_columns_keep_their_contract(mocked):
    source, kinds, _ = mocked
    for split in source.splits.values():
        assert (split.a.kind, split.b.kind) == kinds
        for column in (split.a, split.b):
            assert isinstance(column, data.Column)
            last = len(column) - 1
            values = column.read(np.array([last, 0]))
            assert len(values) == 2
            taken = column.take(np.array([last]))
            assert len(taken) == 1
            np.testing.assert_array_equal(taken.read(np.array([0]))[0], values[0])
            assert taken.describe(0) == column.describe(last)
            assert taken.identity(0, exact=True) == column.identity(last, exact=True)
            if column.kind == "image":
                assert all(v.dtype == np.uint8 and v.ndim == 3 and v.shape[2] == 3 for v in values)
            elif column.kind == "embedding":
                assert values.dtype == np.float32
        assert split.b_to_a.dtype == np.int32
        assert [split.b_to_a[b] for a in range(len(split)) for b in split.b_of_a(a)] == sorted(split.b_to_a)


def test_captions_stay_with_their_image(mocked):
    source, kinds, _ = mocked
    if source.name == "synthetic" or kinds[0] == "embedding":
        pytest.skip("no file names to compare")
    for split in source.splits.values():
        for a, name in enumerate(split.ids):
            number = int(name.split("im")[-1].split(".")[0])
            texts = split.b.read(split.b_of_a(a))
            assert texts == [mock.caption(number, k) for k in range(mock.CAPTIONS)]
            np.testing.assert_array_equal(split.a.read(np.array([a]))[0], np.asarray(mock.picture(number)))


def test_with_splits_gives_all_three(mocked):
    source, _, has_splits = mocked
    whole = data.with_splits(source, seed=3)
    assert whole.has_splits
    assert set(whole.splits) == {"train", "val", "test"}
    assert sum(len(split) for split in whole.splits.values()) == mock.N
    if has_splits:
        assert whole is source


def test_batches(mocked):
    source, kinds, _ = mocked
    split = data.with_splits(source).splits["train"]
    if kinds[1] == "text":
        tokenizer = data.train_tokenizer(split.b.read(np.arange(len(split.b))), vocab_size=300)
        split = split.replace(b=data.encode_texts(split.b, tokenizer, 12))
    transform = data.train_image(8) if kinds[0] == "image" else None
    rows = data.padded_rows(np.arange(len(split)), 3)
    batches = list(data.TrainLoader(split, rows, seed=0, epoch=0, transform_a=transform, threads=1))
    assert sum(int(batch["where"].sum()) for batch in batches) == len(split)
    assert {batch["a"].shape for batch in batches} == {(3, 8, 8, 3) if transform else (3, 6)}
    assert batches[0]["b"].dtype == (np.int32 if kinds[1] == "text" else np.float32)


def test_description_and_problems(mocked):
    source, kinds, _ = mocked
    description = data.describe(source)
    assert [description["splits"][name]["a"]["count"] for name in source.splits] == [
        len(split.a) for split in source.splits.values()
    ]
    assert data.problems(source) == []
    text = data.format_description(description)
    assert kinds[0] in text
    assert all(name in text for name in source.splits)


def test_flickr_and_pairs_agree(tmp_path):
    (tmp_path / "f").mkdir()
    (tmp_path / "p").mkdir()
    f, p = data.load(mock.flickr(tmp_path / "f")), data.load(mock.pairs(tmp_path / "p"))
    for name in ("train", "val", "test"):
        assert f.splits[name].b.texts == p.splits[name].b.texts
        np.testing.assert_array_equal(f.splits[name].b_to_a, p.splits[name].b_to_a)


def test_authors_lists_leave_out_and_say_so(tmp_path):
    source = data.load(mock.flickr_authors(tmp_path))
    (note,) = source.notes
    assert "Flickr_8k.trainImages.txt, Flickr_8k.devImages.txt, Flickr_8k.testImages.txt" in note
    assert note.endswith(": 1")


def test_embeddings_keep_their_dtype_and_views(tmp_path):
    arrays = mock.embedding_arrays()
    np.savez(tmp_path / "e.npz", **arrays, image_flip=-arrays["image"], cluster_size=np.arange(1, 17))
    split = data.load(f"embeddings:{tmp_path / 'e.npz'}").splits["val"]
    assert split.a.array.dtype == np.float16
    both = split.a.read(np.array([0, 0]), view=np.array([0, 1]))
    np.testing.assert_array_equal(both[0], arrays["image"][2].astype(np.float32))
    np.testing.assert_array_equal(both[1], -both[0])
    np.testing.assert_array_equal(split.cluster_size_b, [5, 6, 13, 14])
    assert split.extra_b["caption"].tolist()[0] == mock.caption(2, 0)
    assert split.a.describe(0).endswith("e.npz: image, row 2")


def test_one_to_one_embeddings_need_no_index(tmp_path):
    np.savez(tmp_path / "e.npz", a=np.ones((3, 2)), b=np.ones((3, 5)))
    split = data.load(f"embeddings:{tmp_path / 'e.npz'}").splits["all"]
    assert split.b_to_a.tolist() == [0, 1, 2]
    assert split.ids.tolist() == ["0", "1", "2"]


def test_saved_embeddings_load_back(tmp_path):
    arrays = mock.embedding_arrays()
    path = tmp_path / "saved.npz"
    data.save_embeddings(path, **arrays)
    split = data.load(f"embeddings:{path}").splits["test"]
    np.testing.assert_array_equal(split.a.read(np.arange(2)), arrays["image"][[3, 7]].astype(np.float32))
    assert split.ids.tolist() == ["im3.png", "im7.png"]
    before = path.read_bytes()
    arrays["image"][1] = np.nan
    with pytest.raises(ValueError, match=r"saved\.npz.*image row 1.*NaN"):
        data.save_embeddings(path, **arrays)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
