"""Folders of embeddings: equal to one file, memory-mapped, verified, and written atomically."""

import json

import mock_data_sets as mock
import numpy as np
import pytest

from alignment_jax import data
from alignment_jax.core.errors import ConfigError, DataError
from alignment_jax.data.shards import ShardedArray, StoredTextColumn


def shard_arrays(cuts, arrays=None):
    """The mock embeddings cut at a-items `cuts`, with the index counted from the start of each shard."""
    arrays = mock.embedding_arrays() if arrays is None else arrays
    owner = arrays["text_to_image"]
    for low, high in zip((0, *cuts), (*cuts, mock.N), strict=True):
        mine = (owner >= low) & (owner < high)
        part = {
            name: value[mine] if len(value) == len(owner) else value[low:high]
            for name, value in arrays.items()
            if name != "text_to_image"
        }
        yield {**part, "text_to_image": owner[mine] - low}


def write(folder, cuts=(3, 4), arrays=None, plan=None):
    writer = data.ShardWriter(folder, plan or {"encoder": "mine"})
    shards = list(shard_arrays(cuts, arrays))
    for number, shard in enumerate(shards):
        writer.write(number, shard)
    writer.finish(len(shards))
    return f"embeddings:{folder}"


def both(tmp_path, **further):
    arrays = {**mock.embedding_arrays(), **further}
    np.savez(tmp_path / "e.npz", **arrays)
    return data.load(f"embeddings:{tmp_path / 'e.npz'}"), data.load(write(tmp_path / "e", arrays=arrays))


def test_a_folder_equals_one_file(tmp_path):
    rng = np.random.default_rng(1)
    views = {name: rng.normal(size=(mock.N, 6)).astype(np.float16) for name in ("image_flip", "image_crop_1")}
    further = {"cluster_size": np.arange(1, 17), "label": np.array(["b", "a"] * 4)}
    whole, folder = both(tmp_path, **views, **further)
    assert list(whole.splits) == list(folder.splits)
    assert whole.label_names == folder.label_names == ("a", "b")
    for name, split in whole.splits.items():
        other = folder.splits[name]
        assert other.a.mapped
        assert not split.a.mapped
        rows, view = np.array([1, 0, 1]), np.array([2, 1, 0])
        np.testing.assert_array_equal(split.a.read(rows, view), other.a.read(rows, view))
        np.testing.assert_array_equal(split.b.read(np.arange(len(split.b))), other.b.read(np.arange(len(other.b))))
        for key in ("b_to_a", "ids", "cluster_size_b", "label"):
            np.testing.assert_array_equal(getattr(split, key), getattr(other, key))
        captions = other.extra_b["caption"].read(np.arange(len(other.b)))
        assert captions == split.extra_b["caption"].tolist()


def test_a_few_rows_of_a_folder_show_that_it_holds_other_numbers(tmp_path):
    """Opening a folder must not read all of it, and other latents under the same names are another data set."""
    arrays = mock.embedding_arrays()
    folders = [write(tmp_path / "one", arrays=arrays), write(tmp_path / "same", arrays=arrays)]
    folders.append(write(tmp_path / "other", arrays={**arrays, "image": arrays["image"] + 1}))
    sources = [data.load(folder) for folder in folders]
    for probe, differs in ((0, False), (2, True)):
        one, same, other = (data.fingerprints(found, probe=probe) for found in sources)
        assert one == same
        assert (one != other) == differs


def test_batches_are_the_same(tmp_path):
    whole, folder = both(tmp_path)
    rows = data.padded_rows(np.array([3, 0, 2]), 2)
    batches = [
        list(data.TrainLoader(source.splits["train"], rows, seed=1, epoch=2, threads=2)) for source in (whole, folder)
    ]
    for one, other in zip(*batches, strict=True):
        assert {name: value.tolist() for name, value in one.items()} == {k: v.tolist() for k, v in other.items()}


def test_a_cut_by_hash_is_the_same(tmp_path):
    arrays = mock.embedding_arrays()
    del arrays["split"]
    np.savez(tmp_path / "e.npz", **arrays)
    sources = [data.load(f"embeddings:{tmp_path / 'e.npz'}"), data.load(write(tmp_path / "e", arrays=arrays))]
    one, other = (data.with_splits(source, seed=5).splits for source in sources)
    assert {name: split.ids.tolist() for name, split in one.items()} == {k: s.ids.tolist() for k, s in other.items()}


def test_only_the_rows_asked_for_are_read(tmp_path):
    source = data.load(write(tmp_path / "e"))
    column = source.splits["train"].a
    assert all(isinstance(part, np.memmap) for part in column.array.parts)
    assert column.read(np.array([0])).dtype == np.float32


def test_indexing_is_that_of_one_array():
    rng = np.random.default_rng(0)
    array = rng.normal(size=(23, 4)).astype(np.float16)
    sharded = ShardedArray(np.split(array, [5, 5, 17]))
    for index in (3, -1, slice(4, 19, 3), np.array([22, 0, 5, 5, 16]), array[:, 0] > 0, np.zeros(0, np.int64)):
        np.testing.assert_array_equal(sharded[index], array[index])
    np.testing.assert_array_equal(np.asarray(sharded), array)
    with pytest.raises(IndexError, match="23"):
        sharded[np.array([23])]
    with pytest.raises(DataError, match="array: "):
        ShardedArray([array, array[:, :3]])


def test_texts_survive_in_any_alphabet(tmp_path):
    texts = np.array(["a dog", "Käse", "", "犬"])
    np.save(tmp_path / "c.npy", np.char.encode(texts, "utf-8"))
    column = StoredTextColumn.of([np.load(tmp_path / "c.npy", mmap_mode="r")])
    assert column.take(np.array([3, 1])).read(np.array([1, 0])) == ["Käse", "犬"]
    assert isinstance(column, data.Column)


def test_a_killed_writer_resumes(tmp_path):
    folder, shards = tmp_path / "e", list(shard_arrays((3, 4)))
    writer = data.ShardWriter(folder, {"encoder": "mine"})
    writer.write(0, shards[0])
    (folder / ".00001.partial").mkdir()  # as after a kill in the middle of a shard
    with pytest.raises(DataError, match=r"manifest\.json"):
        data.load(f"embeddings:{folder}")
    again = data.ShardWriter(folder, {"encoder": "mine"})
    assert [again.has(k) for k in range(3)] == [True, False, False]
    with pytest.raises(DataError, match="00001"):
        again.finish(3)
    for number in (1, 2):
        again.write(number, shards[number])
    again.finish(3)
    assert len(data.load(f"embeddings:{folder}").splits["train"]) == 4
    assert data.ShardWriter(folder, {"encoder": "mine"}).finished


def test_another_plan_is_refused(tmp_path):
    write(tmp_path / "e")
    with pytest.raises(ConfigError, match=r"encoder.*'mine'.*'yours'"):
        data.ShardWriter(tmp_path / "e", {"encoder": "yours"})
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="--out"):
        data.ShardWriter(tmp_path / "f", {"encoder": "mine"})


def test_damage_is_named(tmp_path):
    spec = write(tmp_path / "e")
    victim = tmp_path / "e" / "00001" / "image.npy"
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.write_bytes(content)
    data.load(spec)  # sizes agree: contents are looked at only when they are asked to be checked
    with pytest.raises(DataError, match=r"00001/image\.npy: "):
        data.load(spec, on_bad_sample="skip")
    victim.write_bytes(content[:-1])
    with pytest.raises(DataError, match=r"00001/image\.npy: \d+ bytes"):
        data.load(spec)


def test_a_manifest_cannot_lead_out_of_its_folder(tmp_path):
    spec = write(tmp_path / "e")
    path = tmp_path / "e" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["shards"][0]["files"]["image"]["path"] = "../e.npz"
    path.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"manifest\.json"):
        data.load(spec)
    path.write_text("[1, 2")
    with pytest.raises(DataError, match=r"manifest\.json"):
        data.load(spec)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update(text_to_image=s["text_to_image"] + 1), r"integers in \[0, 1\)"),
        (lambda s: s.update(text_to_image=s["text_to_image"][:1]), r"shape \[2\]"),
        (lambda s: s.update(image=s["image"].astype(np.int32)), "floating point"),
        (lambda s: s.update(split=np.array(["spare"])), "'spare'"),
        (lambda s: s.pop("caption"), "shard 00001 holds"),
    ],
)
def test_arrays_that_do_not_fit_are_named(tmp_path, change, message):
    writer = data.ShardWriter(tmp_path / "e", {})
    shards = list(shard_arrays((3, 4)))
    change(shards[1])
    for number, shard in enumerate(shards):
        writer.write(number, shard)
    writer.finish(3)
    with pytest.raises(DataError, match=message):
        data.load(f"embeddings:{tmp_path / 'e'}")


def test_generic_names_are_those_of_images_and_texts(tmp_path):
    writer = data.ShardWriter(tmp_path / "e", {"modalities": ["sound", "touch"]})
    arrays = {"a": np.eye(3), "b": np.ones((4, 2)), "b_to_a": np.array([0, 1, 1, 2]), "a_flip": -np.eye(3)}
    with pytest.raises(DataError, match=r"shard 00000: .*'text_to_image'"):
        writer.write(0, {"a": np.eye(3), "b": np.eye(3)})
    with pytest.raises(DataError, match=r"shard 00000: .*'image'.*'a'"):
        writer.write(0, {**arrays, "image": np.eye(3)})
    writer.write(0, {**arrays, "a_id": np.array(["x", "y", "z"]), "b_text": np.array(list("tuvw"))})
    writer.finish(1)
    source = data.load(f"embeddings:{tmp_path / 'e'}")
    (split,) = source.splits.values()
    assert source.modalities == ("sound", "touch")
    assert (split.ids.tolist(), data.caption_texts(split)) == (["x", "y", "z"], list("tuvw"))
    np.testing.assert_array_equal(split.a.read(np.array([1]), np.array([1])), [[0, -1, 0]])


def test_values_that_are_not_finite_are_never_written(tmp_path):
    arrays = mock.embedding_arrays()
    arrays["image"][2] = np.inf
    with pytest.raises(DataError, match=r"image row 2 .*00000.*float16"):
        write(tmp_path / "e", arrays=arrays)


def test_repeated_names_are_found(tmp_path):
    arrays = mock.embedding_arrays()
    arrays["image_id"][7] = arrays["image_id"][0]
    with pytest.raises(DataError, match=r"image_id 'im0\.png'.*0 and 7"):
        data.load(write(tmp_path / "e", arrays=arrays))


def test_clusters_of_mapped_texts_are_those_of_texts_in_memory(tmp_path):
    from alignment_jax import config
    from alignment_jax.assembly.cluster_sizes import with_cluster_sizes

    rng = np.random.default_rng(0)
    arrays = mock.embedding_arrays()
    arrays["text"] = (np.repeat(np.eye(4)[[0, 0, 0, 0, 0, 1, 1, 2]], mock.CAPTIONS, axis=0) * 3).astype(np.float32)
    arrays["text"] += 0.01 * rng.normal(size=arrays["text"].shape).astype(np.float32)
    del arrays["split"]
    np.savez(tmp_path / "e.npz", **arrays)
    settings = config.default()
    settings.clusters.source, settings.clusters.count = "kmeans", 3
    sizes = []
    for spec in (f"embeddings:{tmp_path / 'e.npz'}", write(tmp_path / "e", arrays=arrays)):
        split, bounds = with_cluster_sizes(settings.clusters, data.load(spec).splits["all"], seed=settings.data_seed)
        sizes.append((split.cluster_size.tolist(), bounds))
    assert sizes[0] == sizes[1] == ([5.0] * 5 + [2.0] * 2 + [1.0], (1.0, 5.0))


@pytest.mark.slow
def test_training_on_a_folder_is_training_on_the_file(tmp_path, embeddings, repository):
    """Same steps, same numbers: only where the rows come from differs."""
    from alignment_jax.cli.main import main

    with np.load(embeddings) as found:
        arrays = {name: found[name] for name in found.files}
    writer = data.ShardWriter(tmp_path / "e", {})
    for number, (low, high) in enumerate(((0, 25), (25, 60))):
        mine = (arrays["text_to_image"] >= low) & (arrays["text_to_image"] < high)
        part = {name: value[mine] if len(value) == 120 else value[low:high] for name, value in arrays.items()}
        writer.write(number, {**part, "text_to_image": part["text_to_image"] - low})
    writer.finish(2)
    results = []
    for name, spec in (("file", embeddings), ("folder", tmp_path / "e")):
        config = f"{repository}/configs/flickr8k_frozen.py:runlocal,method=baseline,data=embeddings:{spec}"
        settings = ["--config.input.batch_size=16", "--config.train.devices=1", "--config.input.resident=off"]
        assert main(["train", f"--config={config}", f"--workdir={tmp_path / name}", "--quiet", *settings]) == 0
        results.append(json.loads((tmp_path / name / "results.json").read_text()))
    assert results[0] == results[1]
