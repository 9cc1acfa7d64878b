"""Data sets prepared by tensorflow_datasets, read without TensorFlow: our builders and one of the library."""

import sys

import mock_data_sets as mock
import numpy as np
import pytest

from alignment_jax import data
from alignment_jax.core.errors import ConfigError, DataError
from alignment_jax.data import builders, disk_cache
from alignment_jax.data.sources import tfds_index

tfds = pytest.importorskip("tensorflow_datasets")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    mock.flickr(folder / "manual")
    builders.prepare("aligned_flickr8k", manual_dir=folder / "manual", data_dir=folder / "data")
    return folder


def test_a_prepared_set_is_the_folder_it_was_made_of(prepared):
    source = data.load(f"tfds:aligned_flickr8k,data_dir={prepared / 'data'}")
    folder = data.load(f"flickr:{prepared / 'manual'}")
    assert "tensorflow" not in sys.modules
    assert source.modalities == ("image", "text")
    assert list(source.splits) == ["train", "val", "test"]
    for name, split in folder.splits.items():
        found = source.splits[name]
        place = {each: k for k, each in enumerate(found.ids.tolist())}
        for index, each in enumerate(split.ids.tolist()):
            (image,) = found.a.read(np.array([place[each]]))
            np.testing.assert_array_equal(image, split.a.read(np.array([index]))[0])
            assert found.b.read(found.b_of_a(place[each])) == split.b.read(split.b_of_a(index))


def test_images_stay_in_their_records_until_they_are_read(prepared):
    column = data.load(f"tfds:aligned_flickr8k,data_dir={prepared / 'data'}").splits["train"].a
    assert isinstance(column, data.ImageColumn)
    assert "aligned_flickr8k/train, record 1" in column.describe(1)
    prepared_column = column.prepared(8, factor=1.0)
    assert prepared_column.take(np.array([2, 0])).read(np.array([0]))[0].shape[0] == 8
    assert column.identity(0, exact=True) != column.identity(1, exact=True)


def test_the_index_is_kept_until_a_file_changes(prepared, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(tfds_index, "_LARGE", 1)
    monkeypatch.setattr(disk_cache, "_SETTLED", 0.0)

    def opened():
        splits = data.load(f"tfds:aligned_flickr8k,data_dir={prepared / 'data'}").splits
        texts = [split.b.read(np.arange(len(split.b))) for split in splits.values()]
        return texts, [(split.ids.tolist(), split.b_to_a.tolist(), split.a.items[-1].size) for split in splits.values()]

    expected = opened()
    assert len(list(tmp_path.rglob("tfds_indexes/*.json.gz"))) == 3

    def fail(*arguments):
        raise AssertionError("read again")

    with monkeypatch.context() as here:
        here.setattr(tfds_index, "_index", fail)
        assert opened() == expected
        next((prepared / "data").rglob("*train.array_record*")).touch()
        with pytest.raises(AssertionError, match="read again"):
            opened()
    assert opened() == expected


def test_batches_in_any_order(prepared):
    split = data.load(f"tfds:aligned_flickr8k,data_dir={prepared / 'data'}").splits["train"]
    split = split.replace(b=data.ArrayColumn(np.zeros((len(split.b), 2))))
    rows = data.padded_rows(np.array([3, 0, 2]), 2)
    batches = list(data.TrainLoader(split, rows, seed=0, epoch=0, transform_a=data.eval_image(8), threads=2))
    assert [batch["index"].tolist() for batch in batches] == [[3, 0], [2, -1]]


def test_recordings_and_images(tmp_path, recordings):
    builders.prepare("aligned_audio_images", manual_dir=recordings.parent, data_dir=tmp_path)
    source = data.load(f"tfds:aligned_audio_images,data_dir={tmp_path},a=audio,b=image")
    folder = data.load(f"av:{recordings}")
    assert source.modalities == ("audio", "image")
    assert source.label_names == folder.label_names
    split, expected = source.splits["test"], folder.splits["test"]
    place = {each: k for k, each in enumerate(expected.ids.tolist())}
    for index, each in enumerate(split.ids.tolist()):
        assert split.label[index] == expected.label[place[each]]
        ((wave, rate),), ((other, other_rate),) = (
            split.a.read(np.array([index])),
            expected.a.read(np.array([place[each]])),
        )
        assert rate == other_rate
        np.testing.assert_allclose(wave, other, atol=2.0**-15)


def test_a_set_of_the_library(tmp_path):
    """Images with classes: the class is the text; a single split means no split information."""

    class TinyShapes(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "vector": tfds.features.Tensor(shape=(4,), dtype=np.float32),
                    "label": tfds.features.ClassLabel(names=["ring", "disc"]),
                }
            )
            return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(), "extra": self._generate_examples()}

        def _generate_examples(self):
            import io

            for k in range(6):
                file = io.BytesIO()
                mock.picture(k).save(file, format="png")
                yield k, {"image": file.getvalue(), "vector": np.full(4, k, np.float32), "label": k % 2}

    builder = TinyShapes(data_dir=str(tmp_path), file_format="array_record")
    builder.download_and_prepare()
    spec = f"tfds:tiny_shapes,data_dir={tmp_path}"
    both = data.load(spec)
    (note,) = both.notes
    assert note.startswith("tfds:tiny_shapes: ")
    assert "'extra'" in note
    one = data.load(f"{spec},split=train")
    assert not one.has_splits
    split = one.splits["all"]
    assert one.label_names == ("ring", "disc")
    assert split.label.tolist() == [0, 1] * 3
    assert split.b.read(np.arange(2)) == ["ring", "disc"]
    assert one.from_label == ("b",)  # a classifier refuses it
    own = data.load(f"{spec},split=train,a=vector,b=image")
    assert own.from_label == ()
    vectors = own.splits["all"]
    np.testing.assert_array_equal(vectors.a.read(np.array([5]))[0], np.full(4, 5))
    assert vectors.b.kind == "image"
    np.testing.assert_array_equal(vectors.b.read(np.array([3]))[0], np.asarray(mock.picture(3)))
    for options, message in (
        ("split=dev", r"'dev'"),
        ("split=train,b=words", r"b=words.* image, vector, label"),
        ("words=b", "unknown option 'words'"),
    ):
        with pytest.raises(ConfigError, match=message):
            data.load(f"{spec},{options}")


def test_sets_that_are_not_there(tmp_path):
    with pytest.raises(DataError, match="data_dir"):
        data.load(f"tfds:no_such_set,data_dir={tmp_path}")
    with pytest.raises(DataError, match="not prepared in"):
        data.load(f"tfds:mnist,data_dir={tmp_path}")
    with pytest.raises(DataError, match="no such folder"):
        builders.prepare("aligned_flickr8k", manual_dir=tmp_path / "none", data_dir=tmp_path)
    with pytest.raises(ConfigError, match="known: aligned_flickr8k"):
        builders.prepare("flickr8k", manual_dir=tmp_path, data_dir=tmp_path)
