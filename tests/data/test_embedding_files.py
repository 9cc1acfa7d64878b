"""Embeddings with the array names and in the files of other tools; unsupported files are refused with advice."""

import json
import pickle
import re

import numpy as np
import pytest

from alignment_jax import data
from alignment_jax.core.errors import ConfigError, DataError

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

N, K = 12, 3
RNG = np.random.default_rng(0)
IMAGE, TEXT = RNG.normal(size=(N, 5)).astype("f4"), RNG.normal(size=(N, 4)).astype("f4")
SEVERAL = RNG.normal(size=(N, K, 4)).astype("f4")
CAPTIONS = np.array([f"caption {i}" for i in range(N)])
SPLIT = np.array(["train"] * 8 + ["val"] * 2 + ["test"] * 2)


def whole(source):
    """(a-items, b-items, owner of each) of all splits, in the order of the data."""
    splits = source.splits.values()
    offset = np.cumsum([0, *(len(split) for split in splits)])
    return (
        np.concatenate([split.a.read(np.arange(len(split.a))) for split in splits]),
        np.concatenate([split.b.read(np.arange(len(split.b))) for split in splits]),
        np.concatenate([split.b_to_a + first for split, first in zip(splits, offset, strict=False)]),
    )


def check(source, *, texts=TEXT, owner=None, captions=None):
    a, b, owners = whole(source)
    np.testing.assert_array_equal(a, IMAGE)
    np.testing.assert_array_equal(b, texts)
    np.testing.assert_array_equal(owners, np.arange(N) if owner is None else owner)
    if captions is not None:
        found = [text for split in source.splits.values() for text in data.caption_texts(split)]
        assert found == list(captions)


@pytest.mark.parametrize(
    ("image", "text"),
    [
        ("image_embeds", "text_embeds"),
        ("img_emb", "text_emb"),
        ("images", "texts"),
        ("image_features", "txt_feats"),
        ("Image_Embeddings", "sentence_embeddings"),
        ("img", "caption_embeddings"),
    ],
)
def test_names_of_other_tools(image, text, tmp_path):
    path = tmp_path / "e.npz"
    np.savez(path, **{image: IMAGE, text: TEXT, "captions": CAPTIONS, "splits": SPLIT})
    source = data.load(f"embeddings:{path}")
    check(source, captions=CAPTIONS)
    assert (source.modalities, source.notes, list(source.splits)) == (("image", "text"), (), ["train", "val", "test"])


def test_words_called_text_are_captions(tmp_path):
    np.savez(tmp_path / "e.npz", image=IMAGE, text_embeds=TEXT, text=CAPTIONS)
    check(data.load(f"embeddings:{tmp_path / 'e.npz'}"), captions=CAPTIONS)


def test_other_modalities_keep_their_names(tmp_path):
    np.savez(tmp_path / "e.npz", audio_embeds=IMAGE, text_embeds=TEXT)
    source = data.load(f"embeddings:{tmp_path / 'e.npz'}")
    check(source)
    assert source.modalities == ("audio", "text")


@pytest.mark.parametrize("names", [("image", "text"), ("video", "text"), ("a", "b")])
def test_records_of_encoders(names, tmp_path):
    path = tmp_path / "e.npz"
    records = {name: {"name": f"hf:{name}"} for name in names}
    arrays = dict(zip(names, (IMAGE, TEXT), strict=True))
    np.savez(path, **arrays, encoders=np.array(json.dumps(records)))
    source = data.load(f"embeddings:{path}")
    assert source.encoders == {side: {"name": f"hf:{name}"} for side, name in zip("ab", names, strict=True)}
    assert not source.notes
    for bad in ("{", '["hf:x"]', '{"image": "hf:x"}'):
        np.savez(path, **arrays, encoders=np.array(bad))
        with pytest.raises(DataError, match=r"e\.npz: encoders"):
            data.load(f"embeddings:{path}")


def test_arrays_that_nothing_is_made_of_are_named(tmp_path):
    np.savez(tmp_path / "e.npz", a=IMAGE, b=TEXT, c=TEXT, extra=IMAGE)
    source = data.load(f"embeddings:{tmp_path / 'e.npz'}")
    (note,) = source.notes
    assert "c, extra" in note
    assert "features:FILE.npz" in note
    assert source.modalities == ("a", "b")


def test_arrays_are_named_where_they_cannot_be_guessed(tmp_path):
    path = tmp_path / "e.npz"
    np.savez(path, x=IMAGE, y=TEXT, z=CAPTIONS, img_emb=TEXT, image_embeds=TEXT)
    check(data.load(f"embeddings:{path},image=x,text=y,caption=z"), captions=CAPTIONS)
    for spec, parts in (
        (f"embeddings:{path},text=y", "'img_emb' .*'image_embeds' .*,image=img_emb"),
        (f"embeddings:{path},image=x", "'text' .*,text=NAME"),
        (f"embeddings:{path},image=q,text=y", "'q' .*image"),
    ):
        with pytest.raises(DataError, match=parts):
            data.load(spec)
    with pytest.raises(ConfigError, match=r"'imaeg'.*'image'"):
        data.load(f"embeddings:{path},imaeg=x")


def test_a_file_for_each_array(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("A.npy", IMAGE)
    np.save("B.npy", SEVERAL.reshape(-1, 4))
    owner = np.repeat(np.arange(N), K)
    np.save("owner.npy", owner)
    (tmp_path / "captions.txt").write_text("".join(f"text {i}\n" for i in range(N * K)))
    (tmp_path / "split.json").write_text(json.dumps(SPLIT.tolist()))
    spec = "embeddings:image=A.npy,text=B.npy,text_to_image=owner.npy,caption=captions.txt,split=split.json"
    source = data.load(spec)
    check(source, texts=SEVERAL.reshape(-1, 4), owner=owner, captions=[f"text {i}" for i in range(N * K)])
    assert list(source.splits) == ["train", "val", "test"]
    with pytest.raises(DataError, match=r"text_to_image.*text\.reshape\(12, 3, -1\)"):
        data.load("embeddings:image=A.npy,text=B.npy")
    with pytest.raises(DataError, match=r"no\.npy: .*\btext\b"):
        data.load("embeddings:image=A.npy,text=no.npy")
    with pytest.raises(DataError, match=r"embeddings:image=A\.npy,text=TEXT\.npy"):
        data.load("embeddings:A.npy")


def test_several_texts_of_each_image(tmp_path):
    captions = np.array([[f"{i} {k}" for k in range(K)] for i in range(N)])
    np.savez(tmp_path / "e.npz", image=IMAGE[:, None], text=SEVERAL, caption=captions, split=SPLIT)
    source = data.load(f"embeddings:{tmp_path / 'e.npz'}")
    check(source, texts=SEVERAL.reshape(-1, 4), owner=np.repeat(np.arange(N), K), captions=captions.ravel())
    np.savez(tmp_path / "e.npz", image=SEVERAL, text=TEXT)
    with pytest.raises(DataError, match=r"image .*image\.mean\(axis=1\)"):
        data.load(f"embeddings:{tmp_path / 'e.npz'}")


def write_safetensors(path, tensors):
    header, body = {"__metadata__": {"format": "pt"}}, b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(body), len(body) + len(content)]}
        body += content
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


def test_safetensors(tmp_path):
    path = tmp_path / "e.safetensors"
    upper = (IMAGE.view(np.uint32) >> 16).astype("<u2")
    write_safetensors(
        path,
        {"image_embeds": ("BF16", IMAGE.shape, upper.tobytes()), "text_embeds": ("F32", TEXT.shape, TEXT.tobytes())},
    )
    a, b, _ = whole(data.load(f"embeddings:{path}"))
    np.testing.assert_array_equal(b, TEXT)
    np.testing.assert_array_equal(a, (upper.astype(np.uint32) << 16).view("f4"))
    np.testing.assert_allclose(a, IMAGE, rtol=2.0**-7)
    for content in (b"", path.read_bytes()[:-9], b"\xff" * 40, b"\2\0\0\0\0\0\0\0[]"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"e\.safetensors: "):
            data.load(f"embeddings:{path}")


def test_parquet(tmp_path):
    path = tmp_path / "e.parquet"
    columns = {
        "image_path": [f"{i // 2}.jpg" for i in range(N)],  # not unique, so no names
        "image_embedding": pyarrow.FixedSizeListArray.from_arrays(IMAGE.ravel(), 5),
        "text_embedding": TEXT.astype("f8").tolist(),
        "caption": CAPTIONS.tolist(),
        "seen": [True] * N,
    }
    parquet.write_table(pyarrow.table(columns), path, row_group_size=5)
    check(data.load(f"embeddings:{path}"), captions=CAPTIONS)
    columns |= {"text_embedding": SEVERAL.tolist(), "caption": [[f"{i} {k}" for k in range(K)] for i in range(N)]}
    parquet.write_table(pyarrow.table(columns), path)
    check(
        data.load(f"embeddings:{path}"),
        texts=SEVERAL.reshape(-1, 4),
        owner=np.repeat(np.arange(N), K),
        captions=[f"{i} {k}" for i in range(N) for k in range(K)],
    )
    columns["text_embedding"] = [*TEXT.tolist()[:7], [1.0], *TEXT.tolist()[8:]]
    parquet.write_table(pyarrow.table(columns), path)
    with pytest.raises(DataError, match=r"'text_embedding'.*row 7"):
        data.load(f"embeddings:{path}")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"\.parquet: "):
        data.load(f"embeddings:{path}")


def test_a_folder_of_clip_retrieval(tmp_path):
    """Twelve parts of one row: part 10 comes after part 9."""
    for name in ("img_emb", "text_emb", "metadata"):
        (tmp_path / name).mkdir()
    for i in range(N):
        np.save(tmp_path / f"img_emb/img_emb_{i}.npy", IMAGE[i : i + 1].astype("f4"))
        np.save(tmp_path / f"text_emb/text_emb_{i}.npy", TEXT[i : i + 1])
        table = {"image_path": [f"/data/{i:05}.jpg"], "caption": [CAPTIONS[i]], "NSFW": ["UNLIKELY"]}
        parquet.write_table(pyarrow.table(table), tmp_path / f"metadata/metadata_{i}.parquet")
    source = data.load(f"embeddings:{tmp_path}")
    check(source, captions=CAPTIONS)
    assert source.splits["all"].ids[10] == "/data/00010.jpg"
    (note,) = source.notes
    assert note.endswith(": NSFW")
    (tmp_path / "img_emb/img_emb_11.npy").unlink()
    with pytest.raises(DataError, match=r"11 .*12"):
        data.load(f"embeddings:{tmp_path}")


def test_a_folder_of_arrays(tmp_path):
    np.save(tmp_path / "image_embeddings.npy", IMAGE)
    np.save(tmp_path / "text_embeddings.npy", TEXT)
    check(data.load(f"embeddings:{tmp_path}"))
    with pytest.raises(DataError, match=r"manifest\.json.*image\.npy and text\.npy"):
        data.load(f"embeddings:{(tmp_path / 'empty').mkdir() or tmp_path / 'empty'}")


def test_parts_that_are_large_stay_on_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("alignment_jax.data.sources.embeddings_files.MOST_BYTES", 10)
    np.save(tmp_path / "image.npy", IMAGE)
    np.save(tmp_path / "text.npy", TEXT)
    source = data.load(f"embeddings:{tmp_path}")
    check(source)
    assert source.splits["all"].a.mapped


class Trap:
    """Executes code where it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was loaded",)


@pytest.mark.parametrize("name", ["e.pkl", "e.pickle", "e.npz", "e.dat"])
@pytest.mark.parametrize("protocol", [2, 5])
def test_a_pickle_is_refused_with_the_lines_that_convert_it(name, protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(pickle.dumps(Trap(), protocol))
    for spec in (f"embeddings:{name}", f"embeddings:image={name},text={name}", f"features:{name}"):
        with pytest.raises(DataError, match="a pickle"):
            data.load(spec)
    (tmp_path / name).write_bytes(pickle.dumps({"image": IMAGE, "text": TEXT}, protocol))
    lines_of(f"embeddings:{name}")
    check(data.load("embeddings:e.npz"))


def lines_of(spec):
    """Runs the two lines of Python in a message."""
    with pytest.raises(DataError) as error:
        data.load(spec)
    assert "\n" not in str(error.value)
    first, second = re.findall(r"`([^`]+)`", str(error.value))
    names = {}
    exec(first, names)
    exec(second, names)


def test_arrays_of_objects_are_refused_with_the_lines_that_convert_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("e.npz", image=IMAGE, text=np.array([*TEXT, None], object)[:-1], caption=CAPTIONS.astype(object))
    lines_of("embeddings:e.npz")
    check(data.load("embeddings:e_plain.npz"), captions=CAPTIONS)
    np.save("A.npy", IMAGE)
    np.save("B.npy", TEXT.astype(object))
    lines_of("embeddings:image=A.npy,text=B.npy")
    check(data.load("embeddings:image=A.npy,text=B_plain.npy"))


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("e.npz", b"", "np.savez"),
        ("e.npz", b"image,text", "np.savez"),
        ("e.npz", b"PK\3\4 and no more", r"e\.npz: "),
        ("e.pt", b"PK\3\4", "a PyTorch file, .*torch.load"),
        ("e.h5", b"\x89HDF\r\n\x1a\n", "h5py.File"),
        ("e.mat", b"MATLAB 5.0", "loadmat"),
        ("e.npy", b"\x93NUMPY", "embeddings:image="),
    ],
)
def test_files_that_are_no_archive_are_one_line_errors(name, content, parts, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=parts) as error:
        data.load(f"embeddings:{tmp_path / name}")
    assert not re.search(r"damaged \.npz|context manager|allow_pickle=False|Errno|zip file", str(error.value))


def test_one_side_alone_and_folders_of_splits_give_the_spec_to_use(tmp_path):
    np.savez(tmp_path / "one.npz", image=np.eye(3))
    with pytest.raises(DataError, match=r"alignment-jax embed.*latents:FILE"):
        data.load(f"embeddings:{tmp_path}/one.npz")
    for split in ("train", "test"):
        (tmp_path / "d" / split).mkdir(parents=True)
        np.save(tmp_path / "d" / split / "image.npy", np.eye(3))
    with pytest.raises(DataError, match=r"split=SPLIT\.txt"):
        data.load(f"embeddings:{tmp_path}/d")
