"""Labelled sources: audio with images, feature arrays of two or three modalities, stratified subsets."""

import mock_data_sets as mock
import numpy as np
import pytest
import soundfile

from alignment_jax import data
from alignment_jax.core.errors import ConfigError, DataError
from alignment_jax.data.audio import add_noise, read_audio
from alignment_jax.data.class_labels import number_classes

N = 8


def tone(number, rate=8000, seconds=0.3):
    return (0.5 * np.sin(2 * np.pi * (200 + 100 * number) * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


def av(folder, header=("audio", "image", "label", "split"), rate=8000):
    names = mock.pictures(folder / "images", N)
    (folder / "audio").mkdir()
    for i in range(N):
        soundfile.write(folder / "audio" / f"s{i}.wav", tone(i, rate), rate, subtype="PCM_16")
    rows = [[f"audio/s{i}.wav", f"images/{names[i]}", f"{10 - i % 2}", mock.split_of(i)] for i in range(N)]
    mock.write_csv(folder / "av.csv", [list(header), *(row[: len(header)] for row in rows)])
    return f"av:{folder / 'av.csv'}"


def change_row(folder, number, column, value):
    lines = [line.split(",") for line in (folder / "av.csv").read_text().splitlines()]
    lines[number][column] = value
    mock.write_csv(folder / "av.csv", lines)


def test_classes_that_are_one_number_have_an_order():
    """A set's own order depends on PYTHONHASHSEED, and with it the class numbers of a checkpoint would."""
    names = [f"{zeros}{k}" for k in range(1, 13) for zeros in ("0", "", "00")]
    assert number_classes(names)[1] == tuple(f"{zeros}{k}" for k in range(1, 13) for zeros in ("00", "0", ""))


def test_a_manifest_becomes_pairs_with_classes(tmp_path):
    source = data.load(av(tmp_path))
    assert list(source.splits) == ["train", "val", "test"]
    assert source.label_names == ("9", "10")  # by number, not by spelling
    assert source.modalities == ("audio", "image")
    train = source.splits["train"]
    assert (train.a.kind, train.b.kind) == ("audio", "image")
    assert train.ids.tolist() == [f"audio/s{i}.wav" for i in (0, 1, 4, 5)]
    assert train.label.tolist() == [1, 0, 1, 0]
    ((samples, rate),) = train.a.read(np.array([2]))
    np.testing.assert_allclose(samples, tone(4), atol=1 / 32768)
    assert rate == 8000
    np.testing.assert_array_equal(train.b.read(np.array([2]))[0], np.asarray(mock.picture(4)))


def test_without_splits_the_set_is_cut(tmp_path):
    source = data.load(av(tmp_path, header=("audio", "image", "label")))
    assert not source.has_splits
    assert sum(len(split) for split in data.with_splits(source).splits.values()) == N


BROKEN = {
    "leads out": ((3, 0, "../secret.wav"), ["row 3 (line 4)", "leads out"]),
    "image leads out": ((3, 1, "/etc/passwd"), ["row 3 (line 4)", "leads out"]),
    "gone": ((5, 0, "audio/none.wav"), ["row 5", "no such file"]),
    "no label": ((2, 2, ""), ["row 2", "no label"]),
    "unknown split": ((2, 3, "dave"), ["row 2", "unknown split 'dave'"]),
    "twice": ((4, 0, "audio/s0.wav"), ["row 4", "'audio/s0.wav'", "row 1"]),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_rows_are_named(case, tmp_path):
    spec = av(tmp_path)
    change, parts = BROKEN[case]
    change_row(tmp_path, *change)
    with pytest.raises(DataError) as error:
        data.load(spec)
    assert all(part in str(error.value) for part in ["av.csv", *parts])
    skipped = data.load(spec, on_bad_sample="skip")
    assert len(skipped.problems) == 1
    assert sum(len(split) for split in skipped.splits.values()) == N - 1


def damage_cut(path):
    path.write_bytes(path.read_bytes()[:-1000])


def damage_header(path):
    path.write_bytes(b"JUNK" + path.read_bytes()[4:])


def damage_silent(path):
    soundfile.write(path, np.zeros(0, np.float32), 8000)


@pytest.mark.parametrize("damage", [damage_cut, damage_header, damage_silent])
def test_a_broken_recording_is_named_by_file_and_row(damage, tmp_path):
    spec = av(tmp_path)
    damage(tmp_path / "audio" / "s4.wav")
    train = data.load(spec).splits["train"]
    train.a.read(np.array([0, 1, 3]))
    with pytest.raises(DataError, match=r"s4\.wav .*av\.csv, row 5"):
        train.a.read(np.array([2]))
    assert ["s4.wav" in line for line in data.problems(data.load(spec))] == [True]
    skipped = data.load(spec, on_bad_sample="skip")
    assert "audio/s4.wav" not in skipped.splits["train"].ids
    assert data.problems(skipped) == list(skipped.problems)


def test_a_description_names_lengths_and_classes(tmp_path):
    text = data.format_description(data.describe(data.load(av(tmp_path))))
    assert "seconds min 0.3" in text
    assert "classes number 2" in text


def test_spectrograms_do_not_depend_on_loudness_or_on_the_rate_of_the_file(tmp_path):
    make = data.log_mel(sample_rate=8000, seconds=0.5, bands=20)
    quiet, loud = make((0.01 * tone(3), 8000)), make((tone(3), 8000))
    assert loud.shape == (50, 20)
    assert loud.dtype == np.float32
    np.testing.assert_allclose(quiet, loud, atol=2e-3)
    finer = make((tone(3, rate=16000), 16000))
    inner = slice(12, 38)  # away from both ends, where the resampling filter rings
    assert np.abs(finer - loud)[inner].max() < 0.1
    assert loud.max() == 1.0
    np.testing.assert_array_equal(loud[:9], -1.0)  # 0.3 s in the middle of 0.5 s
    # a tone's energy is in one band, higher for a higher tone
    assert loud[25].argmax() < make((tone(20), 8000))[25].argmax()


def test_silence_is_silence():
    make = data.log_mel(sample_rate=8000, seconds=0.2, bands=20)
    np.testing.assert_array_equal(make((np.zeros(4000, np.float32), 8000)), -1.0)


def test_noise_has_the_level_asked_for_and_belongs_to_the_recording():
    x = tone(1)
    noise = add_noise(x, 2.0) - x
    assert np.sqrt(np.mean(noise**2)) == pytest.approx(2.0 * np.sqrt(np.mean(x**2)), rel=0.05)
    np.testing.assert_array_equal(add_noise(x, 2.0), add_noise(x, 2.0))
    assert np.abs(np.corrcoef(noise, add_noise(tone(2), 2.0) - tone(2))[0, 1]) < 0.1


def test_channels_are_averaged(tmp_path):
    soundfile.write(tmp_path / "stereo.flac", np.stack([tone(1), -tone(1)], axis=1), 8000)
    samples, _ = read_audio(tmp_path / "stereo.flac")
    np.testing.assert_allclose(samples, 0.0, atol=1e-4)


@pytest.mark.parametrize("wrong", [{"noise": -1.0}, {"seconds": 0.0}, {"bands": 0}, {"sample_rate": 0}])
def test_settings_of_spectrograms_are_checked(wrong):
    with pytest.raises(ConfigError, match="audio"):
        data.log_mel(**{"sample_rate": 8000, "seconds": 1.0, **wrong})


def feature_arrays():
    rng = np.random.default_rng(0)
    return {
        "a": rng.normal(size=(N, 3)).astype(np.float32),
        "b": rng.normal(size=(N, 4, 2)),
        "c": rng.normal(size=(N, 5)).astype(np.float16),
        "label": np.array(["sad", "glad"] * (N // 2)),
        "split": np.array([mock.split_of(i) for i in range(N)]),
    }


def features(folder, arrays):
    np.savez(folder / "f.npz", **arrays)
    return f"features:{folder / 'f.npz'}"


def test_features_of_three_modalities(tmp_path):
    arrays = feature_arrays()
    source = data.load(features(tmp_path, arrays))
    train = source.splits["train"]
    assert source.label_names == ("glad", "sad")
    assert train.label.tolist() == [1, 0, 1, 0]
    np.testing.assert_array_equal(train.c.read(np.arange(4)), arrays["c"][[0, 1, 4, 5]].astype(np.float32))
    (batch,) = data.TrainLoader(train, np.array([[3, 0, -1]]), seed=0, epoch=0)
    np.testing.assert_array_equal(batch["c"][:2], arrays["c"][[5, 0]].astype(np.float32))
    np.testing.assert_array_equal(batch["b"][:2], arrays["b"][[5, 0]].astype(np.float32))
    assert batch["label"].tolist() == [0, 1, 0]
    assert batch["where"].tolist() == [True, True, False]
    assert "c" in data.describe(source)["splits"]["train"]


def test_features_of_two_modalities_have_no_third(tmp_path):
    arrays = feature_arrays()
    del arrays["c"], arrays["split"]
    source = data.load(features(tmp_path, arrays))
    assert source.splits["all"].c is None


def test_features_may_lack_a_modality_of_a_sample(tmp_path):
    arrays = feature_arrays()
    has = np.arange(N) != 1
    arrays["b"][1] = np.nan  # of no use, and no error
    train = data.load(features(tmp_path, {**arrays, "has_b": has, "has_a": np.ones(N, bool)})).splits["train"]
    assert {side: one.tolist() for side, one in train.present.items()} == {"b": [True, False, True, True]}
    np.testing.assert_array_equal(train.b.read(np.array([1])), np.zeros_like(arrays["b"][:1]))


FEATURES = {
    "mask of numbers": (lambda a: a.update(has_b=np.ones(N)), ["has_b must be bool"]),
    "mask of no modality": (lambda a: (a.pop("c"), a.update(has_c=np.ones(N, bool))), ["has_c belongs to no array c"]),
    "mask without a sample": (lambda a: a.update(has_b=np.zeros(N, bool)), ["no sample has b"]),
    "sample without anything": (
        lambda a: a.update({f"has_{side}": np.arange(N) != 3 for side in "abc"}),
        ["row 3 has no modality (1 such rows)"],
    ),
    "no label": (lambda a: a.pop("label"), ["no array 'label'", "a, b, c, split"]),
    "label a float": (lambda a: a.update(label=np.ones(N)), ["label ", "whole numbers"]),
    "rows differ": (lambda a: a.update(b=a["b"][1:]), ["b has 7", "a has 8"]),
    "NaN": (lambda a: a["c"].__setitem__((6, 1), np.nan), ["c row 6", "NaN"]),
    "one axis": (lambda a: a.update(a=a["a"][:, 0]), ["a must", "[rows, dimensions, ...]"]),
    "integers": (lambda a: a.update(a=np.ones((N, 2), int)), ["a must", "floating"]),
    "unknown split": (lambda a: a.update(split=np.array(["train"] * 7 + ["x"])), ["split row 7", "'x'"]),
}


@pytest.mark.parametrize("case", FEATURES)
def test_broken_features_are_named(case, tmp_path):
    change, parts = FEATURES[case]
    arrays = feature_arrays()
    change(arrays)
    with pytest.raises(DataError) as error:
        data.load(features(tmp_path, arrays))
    assert all(part in str(error.value) for part in ["f.npz", *parts])


def test_classes_are_numbered_as_in_the_model(tmp_path):
    arrays = feature_arrays()
    arrays["label"] = np.array(["sad"] * N)
    source = data.with_label_names(data.load(features(tmp_path, arrays)), ("glad", "sad", "mad"))
    assert source.label_names == ("glad", "sad", "mad")
    assert set(source.splits["train"].label.tolist()) == {1}
    with pytest.raises(DataError, match=r"'sad'.*glad"):
        data.with_label_names(source_of("sad", tmp_path), ("glad",))


def source_of(label, folder):
    arrays = feature_arrays()
    arrays["label"] = np.array([label] * N)
    return data.load(features(folder, arrays))


def test_class_names_that_are_numbers_are_ordered_as_numbers():
    assert number_classes(["2", "10", "2"])[1] == ("2", "10")
    assert number_classes(["b", "10"])[1] == ("10", "b")


def labelled(n):
    column = data.ArrayColumn(np.arange(n, dtype=np.float32)[:, None])
    label = np.arange(n) % 3
    from alignment_jax.data.split import PairSplit

    return PairSplit(column, column, np.arange(n), np.arange(n).astype(str), label=label)


def test_a_part_keeps_the_classes_in_proportion_and_smaller_parts_are_inside_larger_ones():
    split = labelled(90)
    small, large = (data.few_samples(split, share, seed=1) for share in (0.1, 0.3))
    assert np.bincount(small.label).tolist() == [3, 3, 3]
    assert np.bincount(large.label).tolist() == [9, 9, 9]
    assert set(small.ids) < set(large.ids)
    assert set(data.few_samples(split, 0.1, seed=2).ids) != set(small.ids)
    assert data.few_samples(split, 1.0, seed=1) is split
    assert np.bincount(data.few_samples(split, 0.001, seed=1).label).tolist() == [1, 1, 1]
    for wrong in (0.0, 1.5):
        with pytest.raises(ConfigError, match="fraction"):
            data.few_samples(split, wrong, seed=1)
