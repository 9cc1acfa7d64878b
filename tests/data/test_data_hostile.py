"""Malicious and odd data: refused in one line that names the place, or read correctly."""

import json
import re
import struct
import zipfile
import zlib

import mock_data_sets as mock
import mock_paper_sets as paper_sets
import numpy as np
import pytest
import soundfile
from PIL import Image

from alignment_jax import data
from alignment_jax.cli.main import main
from alignment_jax.core.errors import DataError


def pairs_with(*rows):
    def build(folder):
        mock.pictures(folder, 3)
        mock.write_csv(folder / "p.csv", [["image", "caption"], ["im0.png", "fine"], *rows])
        return f"pairs:{folder / 'p.csv'}"

    return build


def sample_image(content):
    def build(folder):
        spec = pairs_with(["odd.png", "x"])(folder)
        (folder / "odd.png").write_bytes(content)
        return spec

    return build


def bomb_png(side=60_000):
    """A valid header that promises 3.6 billion pixels."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    body = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def archive(**changes):
    def build(folder):
        arrays = mock.embedding_arrays()
        arrays.update(changes)
        np.savez(folder / "e.npz", **arrays)
        return f"embeddings:{folder / 'e.npz'}"

    return build


def zero_row(name, row):
    array = mock.embedding_arrays()[name].copy()
    array[row] = 0
    return archive(**{name: array})


def zip_bomb(folder):
    """400 MB of zeros in 400 kB."""
    header = (
        b"\x93NUMPY\x01\x00v\x00"
        + b"{'descr': '<f4', 'fortran_order': False, 'shape': (25000000, 4), }".ljust(117)
        + b"\n"
    )
    path = folder / "e.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("image", "text"):
            with file.open(f"{name}.npy", "w", force_zip64=True) as member:
                member.write(header)
                for _ in range(20):
                    member.write(bytes(10_000_000))
    return f"embeddings:{path}"


def karpathy_with(change):
    def build(folder):
        spec = mock.karpathy(folder)
        path = folder / "dataset_mock.json"
        content = json.loads(path.read_text())
        change(content["images"])
        path.write_text(json.dumps(content))
        return spec

    return build


def deep_json(folder):
    spec = mock.karpathy(folder)
    (folder / "dataset_mock.json").write_text("[" * 100_000)
    return spec


def recordings_with(name, content):
    def build(folder):
        mock.pictures(folder, 2)
        soundfile.write(folder / "0.wav", 0.1 * np.random.default_rng(0).standard_normal(400), 8000)
        soundfile.write(folder / "good.wav", 0.1 * np.random.default_rng(0).standard_normal(4000), 8000)
        (folder / name).write_bytes(content(folder))
        rows = [["audio", "image", "label"], ["0.wav", "im0.png", "x"], [name, "im1.png", "y"]]
        mock.write_csv(folder / "m.csv", rows)
        return f"av:{folder / 'm.csv'}"

    return build


def with_nan(folder):
    path = folder / "nan.wav"
    soundfile.write(path, np.full(100, np.nan, np.float32), 8000, subtype="FLOAT")
    return path.read_bytes()


def damaged(write, file, change):
    """A good set with one file changed by `change`, or replaced by a link to itself."""

    def build(folder):
        spec = write(folder)
        (path,) = folder.rglob(file)
        content = path.read_bytes()
        path.unlink()
        if change == "loop":
            path.symlink_to(path.name)
        else:
            path.write_bytes(change(content))
        return spec

    return build


# problem -> (how to make it, parts of the message)
HOSTILE = {
    "a name of 300 letters": (pairs_with(["a" * 300 + ".png", "x"]), ["row 2 (line 3)", "too long"]),
    "a path of 40000 letters": (pairs_with(["a/" * 20_000 + "x.png", "x"]), ["row 2 (line 3)", "too long"]),
    "a NUL in a name": (pairs_with(["im\0.png", "x"]), ["p.csv"]),
    "text called .png": (sample_image(b"this is a poem"), ["row 2 (line 3)", "odd.png", "not a readable image"]),
    "a PNG that promises 3.6 billion pixels": (sample_image(bomb_png()), ["row 2 (line 3)", "60000 x 60000 pixels"]),
    "an image of zeros": (zero_row("image", 5), ["e.npz", "image row 5", "zeros"]),
    "a text of zeros": (zero_row("text", 11), ["e.npz", "text row 11", "zeros"]),
    "a zip bomb": (zip_bomb, ["e.npz", "0.4 GiB"]),
    "JSON without end": (deep_json, ["dataset_mock.json"]),
    "a number for a folder": (karpathy_with(lambda c: c[2].update(filepath=7)), ["row 2", "expected filename"]),
    "half a character": (karpathy_with(lambda c: c[2].update(filename="\ud800.png")), ["row 2", "no such file"]),
    "a name of 400 letters in JSON": (karpathy_with(lambda c: c[0].update(filename="0" * 400)), ["row 0", "too long"]),
    "text called .wav": (recordings_with("odd.wav", lambda f: b"la la la"), ["row 2 (line 3)", "not a readable audio"]),
    "half a recording": (
        recordings_with("cut.wav", lambda f: (f / "good.wav").read_bytes()[:900]),
        ["row 2 (line 3)", "cut.wav"],
    ),
    "a header of an array with a NUL": (
        damaged(paper_sets.nvgesture, "subject0_r0/sk_depth.npy", lambda x: x.replace(b"'descr'", b"'de\0cr'")),
        ["sk_depth.npy", ".npy array"],
    ),
    "a header of an array without end": (
        damaged(mock.embeddings_folder, "00000/image.npy", lambda x: x.replace(b", }", b", (")),
        ["image.npy", ".npy array"],
    ),
    "a shard that is a link to itself": (
        damaged(mock.shards, "cc3m-train-0000.tar", "loop"),
        ["cc3m-train-0000.tar"],
    ),
    "sentences that are not text": (
        damaged(paper_sets.epic, "*_sentence.csv", lambda x: b"\xff\xfe" + x),
        ["_sentence.csv", "not UTF-8"],
    ),
    "a line break for a number": (
        damaged(mock.embeddings_folder, "manifest.json", lambda x: re.sub(rb'"bytes": \d+', rb'"bytes": "\\r\\n"', x)),
        ["manifest.json"],
    ),
    "a directory of an archive from the future": (
        damaged(
            mock.embeddings,
            "e.npz",
            lambda x: x.replace(b"PK\x01\x02" + x[x.index(b"PK\x01\x02") + 4 :][:4], b"PK\x01\x02\xff\x00\xff\x00"),
        ),
        ["e.npz", "archive"],
    ),
    "a video of NaN seconds": (
        damaged(paper_sets.youcook2, "*.json", lambda x: re.sub(rb'"duration": [\d.]+', b'"duration": NaN', x)),
        ["step 0", "nan seconds"],
    ),
    "a frame that is a link to itself": (
        damaged(paper_sets.nvgesture_frames, "class_04/subject3_r0/sk_color_all/00004.jpg", "loop"),
        ["00004.jpg", "not a readable image"],
    ),
    "NaN in a recording": (recordings_with("nan.wav", with_nan), ["row 2 (line 3)", "not finite"]),
}


def everything(spec, **options):
    source = data.load(spec, **options)
    for split in source.splits.values():
        for column in (split.a, split.b, split.c):
            if column is not None:
                column.read(np.arange(len(column)))
    return source


@pytest.mark.parametrize("case", HOSTILE)
def test_it_is_refused_in_one_line(case, tmp_path):
    build, parts = HOSTILE[case]
    with pytest.raises(DataError) as error:
        everything(build(tmp_path))
    message = str(error.value)
    assert len(message.splitlines()) == 1
    assert len(message) < 1000
    for part in parts:
        assert part in message


def test_a_file_that_cannot_be_opened_does_not_hinder_the_division(tmp_path):
    """Splits are cut before files are read; reading reports the unreadable file."""
    spec = damaged(paper_sets.nvgesture_frames, "class_04/subject3_r0/sk_color_all/00004.jpg", "loop")(tmp_path)
    assert set(data.with_splits(data.load(spec), seed=0).splits) == {"train", "val", "test"}


@pytest.mark.parametrize("case", [name for name, (_, parts) in HOSTILE.items() if "row" in parts[-1] + parts[0]])
def test_it_is_skipped_counted_and_listed(case, tmp_path):
    source = everything(HOSTILE[case][0](tmp_path), on_bad_sample="skip")
    assert len(source.problems) == 1
    assert HOSTILE[case][1][0] in source.problems[0]


@pytest.mark.costly
@pytest.mark.parametrize("case", ["an image of zeros", "a zip bomb", "text called .wav", "half a character"])
def test_the_command_line_gives_the_same_error(case, tmp_path, capsys):
    build, parts = HOSTILE[case]
    spec = build(tmp_path)
    status = main(["data", "--data", spec])
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    assert status == 2
    assert len(err.strip().splitlines()) == 1
    assert all(part in out + err for part in parts)


ODD_TEXTS = {
    "emoji": "\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f642" * 20,
    "right to left": "\u05e9\u05dc\u05d5\u05dd \u202e\u0645\u0631\u062d\u0628\u0627 \u202c world",
    "a million words": "word " * 1_000_000,
    "combining marks": "a" + "\u0301" * 5000,
    "markup": "<script>alert(1)</script> & \"quotes\" 'too' {{x}} %s",
}


def test_odd_texts_are_read_and_cut_to_the_model_s_length(tmp_path):
    texts = list(ODD_TEXTS.values())
    mock.pictures(tmp_path, len(texts))
    rows = [[f"im{i}.png", text] for i, text in enumerate(texts)]
    mock.write_csv(tmp_path / "p.csv", [["image", "caption"], *rows])
    split = everything(f"pairs:{tmp_path / 'p.csv'}").splits["all"]
    assert list(split.b.texts) == [text.strip() for text in texts]
    tokenizer = data.train_tokenizer([*texts, "a plain one"], vocab_size=300)
    encoded = data.encode_texts(split.b, tokenizer, 16)
    tokens = encoded.read(np.arange(len(texts)))
    assert tokens.shape == (len(texts), 16)
    assert tokens.max() < tokenizer.vocab_size


def test_a_mislabelled_but_good_image_is_read(tmp_path):
    spec = pairs_with(["odd.png", "x"])(tmp_path)
    Image.new("RGB", (4, 4)).save(tmp_path / "odd.png", format="GIF")
    assert len(everything(spec).splits["all"].a) == 2


def small(spec, tmp_path, kind):
    from small_runs import write_run

    arguments = write_run(tmp_path / "made", kind, epochs=8)
    config = arguments[2].partition(":")[0]
    return [
        "train",
        "--config",
        f"{config}:{spec}",
        "--workdir",
        str(tmp_path / "w"),
        "--quiet",
        "--config.train.devices=1",
        "--config.clusters.count=0",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("samples", [1, 2, 3])
def test_a_handful_of_pairs_trains_or_is_refused(samples, tmp_path, capsys):
    rng = np.random.default_rng(0)
    split = ["train"] * samples + ["val", "test"]
    n = len(split)
    np.savez(tmp_path / "few.npz", image=rng.normal(size=(n, 5)), text=rng.normal(size=(n, 4)), split=np.array(split))
    status = main(small(f"embeddings:{tmp_path / 'few.npz'}", tmp_path, "alignment"))
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert status == (2 if samples == 1 else 0), err
    if status == 2:
        assert len(err.strip().splitlines()) == 1


@pytest.mark.slow
def test_one_class_only_trains(tmp_path, capsys):
    rng = np.random.default_rng(0)
    split = np.array((["train"] * 4 + ["val", "test"]) * 4)
    arrays = {name: rng.normal(size=(24, d)).astype(np.float32) for name, d in (("a", 6), ("b", 5))}
    np.savez(tmp_path / "one.npz", **arrays, label=np.zeros(24, int), split=split)
    status = main(small(f"features:{tmp_path / 'one.npz'}", tmp_path, "classification"))
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert status in (0, 2), err
