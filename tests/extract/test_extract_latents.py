"""Extraction with trivial encoders: output, resuming, refusals, and ONNX models on disk."""

import json
import sys

import mock_data_sets as mock
import numpy as np
import onnx_models
import pytest
from PIL import Image

from alignment_jax import data, extract
from alignment_jax.cli.main import main
from alignment_jax.core.errors import ConfigError, DataError

VIEWS = ("image_crop_1", "image_crop_2", "image_crop_3", "image_crop_4", "image_flip")


def color(images):
    """Mean colour of the left and the right half: differs for a mirrored image."""
    halves = [(image[:, : image.shape[1] // 2], image[:, image.shape[1] // 2 :]) for image in images]
    return np.array([np.concatenate([half.mean((0, 1)) for half in both]) for both in halves])


def letters(texts):
    return np.array([[text.count(letter) for letter in "0123t"] for text in texts], np.float64)


IMAGE, TEXT = extract.Encoder(color, {"name": "color"}), extract.Encoder(letters, {"name": "letters"})


def run(source, out, **settings):
    extract.extract(source, IMAGE, TEXT, out, extract.ExtractSettings(batch_size=3, **settings))
    return data.load(f"embeddings:{out}")


@pytest.fixture
def source(tmp_path):
    return data.load(mock.pairs(tmp_path))


@pytest.mark.parametrize("name", ["latents.npz", "latents"])
def test_latents_are_those_of_the_encoder_and_the_index_is_kept(tmp_path, source, name):
    found = run(source, tmp_path / name, views="flip,crops", shard_size=3, dtype="float32")
    assert found.encoders == {"a": {**IMAGE.identity, "views": [VIEWS[-1], *VIEWS[:-1]]}, "b": TEXT.identity}
    assert list(found.splits) == list(source.splits)
    for split, latents in ((source.splits[k], found.splits[k]) for k in source.splits):
        rows = np.arange(len(split))
        images = split.a.read(rows)
        np.testing.assert_allclose(latents.a.read(rows), color(images), rtol=1e-6)
        for number, view in enumerate(VIEWS, start=1):
            expected = color([extract.make_views(image, (view,))[view] for image in images])
            np.testing.assert_allclose(latents.a.read(rows, np.full(len(rows), number)), expected, rtol=1e-6)
        texts = split.b.read(np.arange(len(split.b)))
        np.testing.assert_array_equal(latents.b.read(np.arange(len(texts))), letters(texts))
        assert data.caption_texts(latents) == texts
        np.testing.assert_array_equal(latents.ids, split.ids)
        np.testing.assert_array_equal(latents.b_to_a, split.b_to_a)


def test_deep_images_are_scaled_by_one_range_for_all_splits(tmp_path):
    """Of one brightness each: 16 k of 16 bits is k of eight bits, the dark ones of val as well."""
    rows = ["image,caption,split"]
    for k in range(1, 9):
        Image.fromarray(np.full((4, 6), 16 * 30 * k, np.uint16)).save(tmp_path / f"{k}.png")
        rows.append(f"{k}.png,picture {k} of 3,{'val' if k < 3 else 'train'}")
    (tmp_path / "p.csv").write_text("\n".join(rows))
    found = run(data.load(f"pairs:{tmp_path / 'p.csv'}"), tmp_path / "latents.npz", dtype="float32")
    for name, expected in (("train", range(3, 9)), ("val", (1, 2))):
        latents = found.splits[name].a
        np.testing.assert_allclose(latents.read(np.arange(len(latents)))[:, 0], [30 * k for k in expected])
    assert found.encoders["a"]["pixel_range"] == [0, 4096]


def test_half_precision_by_default(tmp_path, source):
    found = run(source, tmp_path / "latents.npz")
    assert found.splits["train"].a.array.dtype == np.float16
    assert not (tmp_path / "latents.npz.parts").exists()


def test_what_half_precision_cannot_hold_is_named(tmp_path, source):
    large = extract.Encoder(lambda images: 1e6 * color(images), {"name": "large"})
    with pytest.raises(DataError, match=r"im0\.png.*image .*--dtype=float32"):
        extract.extract(source, large, TEXT, tmp_path / "latents.npz")
    broken = extract.Encoder(lambda texts: letters(texts) * np.nan, {"name": "broken"})
    with pytest.raises(DataError, match="encoder"):
        extract.extract(source, IMAGE, broken, tmp_path / "others.npz")


def test_labels_and_cluster_sizes_are_kept(tmp_path):
    source = data.load(mock.flickr_unsplit(tmp_path))
    split = source.splits["all"].replace(label=np.arange(mock.N) % 2, cluster_size=np.arange(mock.N) % 2 + 1.0)
    source = data.PairSource("mock", "mock", {"all": split}, has_splits=False, label_names=("cat", "dog"))
    found = run(source, tmp_path / "latents", shard_size=5)
    assert not found.has_splits
    assert found.label_names == ("cat", "dog")
    np.testing.assert_array_equal(found.splits["all"].label, split.label)
    np.testing.assert_array_equal(found.splits["all"].cluster_size_b, split.cluster_size[split.b_to_a])


class KilledError(Exception):
    pass


@pytest.mark.parametrize("name", ["latents.npz", "latents"])
def test_a_kill_costs_one_shard(tmp_path, source, name):
    seen = []

    def killed(images):
        if len(seen) >= 3:
            raise KilledError
        seen.append(len(images))
        return color(images)

    settings = extract.ExtractSettings(batch_size=2, shard_size=2)
    with pytest.raises(KilledError):
        extract.extract(source, extract.Encoder(killed, IMAGE.identity), TEXT, tmp_path / name, settings)
    assert sum(seen) == 6  # two shards of train and the one of val are written
    again, progress = [], []
    counted = extract.Encoder(lambda images: again.append(len(images)) or color(images), IMAGE.identity)
    on_progress = lambda *call: progress.append(call)  # noqa: E731
    extract.extract(source, counted, TEXT, tmp_path / name, settings, on_progress=on_progress)
    assert sum(again) == mock.N - 6
    assert progress[:2] == [("image", 0, mock.N, False), ("text", 0, 2 * mock.N, False)]
    assert ("text", 12, 2 * mock.N, False) in progress
    assert ("image", 6, mock.N, False) in progress
    assert ("image", mock.N, mock.N, True) in progress
    assert progress[-1] == ("text", 2 * mock.N, 2 * mock.N, True)
    whole = run(source, tmp_path / f"whole-{name}", shard_size=2)
    found = data.load(f"embeddings:{tmp_path / name}")
    for split in source.splits:
        one, other = (x.splits[split] for x in (whole, found))
        np.testing.assert_array_equal(one.a.read(np.arange(len(one))), other.a.read(np.arange(len(other))))


def test_a_finished_folder_is_left_alone(tmp_path, source):
    run(source, tmp_path / "latents")
    unused = extract.Encoder(lambda images: pytest.fail("encoded again"), IMAGE.identity)
    extract.extract(source, unused, TEXT, tmp_path / "latents", extract.ExtractSettings(batch_size=3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": extract.ExtractSettings(dtype="float32")}, "dtype = 'float16'.*'float32'"),
        ({"text": extract.Encoder(letters, {"name": "others"})}, "text_encoder = .*letters.*others"),
        ({"out": "no/such/folder"}, "no/such/folder"),
        ({"out": "latents.npz"}, "--out"),
    ],
)
def test_what_would_mix_two_extractions_is_refused(tmp_path, source, change, message):
    run(source, tmp_path / "latents")
    (tmp_path / "latents.npz").write_bytes(b"mine")
    text, settings = change.get("text", TEXT), change.get("settings", extract.ExtractSettings())
    with pytest.raises(ConfigError, match=message):
        extract.extract(source, IMAGE, text, tmp_path / change.get("out", "latents"), settings)
    assert (tmp_path / "latents.npz").read_bytes() == b"mine"


@pytest.mark.parametrize("finished", [True, False])
def test_a_changed_image_is_refused(tmp_path, source, finished):
    def killed(texts):
        raise KilledError

    if finished:
        run(source, tmp_path / "latents")
    else:
        with pytest.raises(KilledError):
            extract.extract(source, IMAGE, extract.Encoder(killed, TEXT.identity), tmp_path / "latents")
    path = source.splits["train"].a.items[0]
    before = path.read_bytes()
    path.write_bytes(before + b"\0")
    with pytest.raises(ConfigError, match="content = "):
        run(source, tmp_path / "latents")
    path.write_bytes(before)  # the same content at another time is the same image
    extract.extract(source, IMAGE, TEXT, tmp_path / "latents")


def test_only_images_and_texts_are_encoded(tmp_path):
    source = data.load(mock.embeddings(tmp_path))
    with pytest.raises(ConfigError, match="embedding and embedding"):
        run(source, tmp_path / "out.npz")


@pytest.fixture
def onnx_image(tmp_path):
    path = tmp_path / "image" / "model.onnx"
    path.parent.mkdir()
    path.write_bytes(onnx_models.mean_color())
    return path


def test_onnx_images_are_normalised_as_their_settings_say(onnx_image):
    encoder = extract.open_encoder(f"onnx:{onnx_image}", side="image")
    flat = np.full((11, 17, 3), (51, 102, 204), np.uint8)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose(encoder.encode([flat])[0], (np.array([0.2, 0.4, 0.8]) - mean) / std, rtol=1e-5)
    settings = {"size": {"shortest_edge": 10}, "crop_size": {"height": 8, "width": 8}, "do_normalize": False}
    onnx_image.with_name("preprocessor_config.json").write_text(json.dumps(settings))
    other = extract.open_encoder(f"onnx:{onnx_image}", side="image")
    np.testing.assert_allclose(other.encode([flat, flat])[1], [0.2, 0.4, 0.8], rtol=1e-5)
    assert other.identity["weights"] != encoder.identity["weights"]


def test_onnx_texts_are_averaged_over_their_words(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    words = ["[PAD]", "[UNK]", "a", "red", "dog"]
    model, table = onnx_models.word_vectors(len(words))
    (tmp_path / "model.onnx").write_bytes(model)
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(dict(zip(words, range(5), strict=True)), "[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    with pytest.raises(ConfigError, match=r"tokenizer\.json"):
        extract.open_encoder(f"onnx:{tmp_path / 'model.onnx'}", side="text")
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    options = extract.Options(prefix="a ")
    encoder = extract.open_encoder(f"onnx:{tmp_path / 'model.onnx'}", side="text", options=options)
    found = encoder.encode(["red dog", "dog"])
    np.testing.assert_allclose(found, [table[[2, 3, 4]].mean(0), table[[2, 4]].mean(0)], rtol=1e-5)


def test_an_encoder_is_opened_again_by_its_record(tmp_path, source, onnx_image, monkeypatch):
    monkeypatch.chdir(onnx_image.parent)
    encoder = extract.open_encoder("onnx:model.onnx", side="image", options=extract.Options(pooling="mean"))
    extract.extract(source, encoder, TEXT, tmp_path / "latents.npz", extract.ExtractSettings(views="flip"))
    monkeypatch.chdir(tmp_path)
    records = data.load(f"embeddings:{tmp_path / 'latents.npz'}").encoders
    images = source.splits["train"].a.read(np.arange(2))
    again = extract.reopen(records["a"], side="image")
    np.testing.assert_array_equal(again.encode(images), encoder.encode(images))
    assert again.identity == encoder.identity
    with pytest.raises(ConfigError, match="letters"):
        extract.reopen(records["b"], side="text")
    moved = onnx_image.rename(tmp_path / "moved.onnx")
    with pytest.raises(ConfigError, match=str(onnx_image)):
        extract.reopen(records["a"], side="image")
    extract.reopen(records["a"], side="image", name=f"onnx:{moved}")
    moved.with_name("preprocessor_config.json").write_text('{"image_mean": [0, 0, 0]}')
    with pytest.raises(ConfigError, match=r"moved\.onnx.*weights"):
        extract.reopen(records["a"], side="image", name=f"onnx:{moved}")


def test_onnx_models_that_are_none(tmp_path, onnx_image):
    (tmp_path / "bad.onnx").write_bytes(b"not a model")
    for name, side, message in (
        (f"onnx:{tmp_path / 'bad.onnx'}", "image", r"bad\.onnx"),
        (f"onnx:{tmp_path / 'none.onnx'}", "image", r"none\.onnx"),
        ("clip", "image", "hf:MODEL, st:MODEL, torch:MODEL, onnx:MODEL"),
        ("st:all-MiniLM", "image", "--image_encoder=st:all-MiniLM"),
    ):
        with pytest.raises(ConfigError, match=message):
            extract.open_encoder(name, side=side)


def test_the_command_line_extracts_without_pytorch(tmp_path, onnx_image, capsys, monkeypatch):
    """With ONNX models on both sides: torch and transformers are never imported."""
    for name in ("torch", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)
    model, _ = onnx_models.word_vectors(3)
    folder = tmp_path / "text"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(model)
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = {"[UNK]": 0, "thing": 1, "number": 2}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, "[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    spec = mock.pairs(tmp_path)
    encoders = [f"--image_encoder=onnx:{onnx_image}", f"--text_encoder=onnx:{folder / 'model.onnx'}"]
    assert main(["extract", f"--data={spec}", *encoders, f"--out={tmp_path / 'out.npz'}", "--views=flip"]) == 0
    shown = capsys.readouterr()
    assert "image 8 x 3" in shown.out
    assert "text 16 x 4" in shown.out
    assert "8 of 8 images" in shown.err
    assert "16 of 16 texts" in shown.err
    assert data.load(f"embeddings:{tmp_path / 'out.npz'}").splits["train"].a.num_views == 2
    (tmp_path / "prompts.txt").write_text("a {} thing\nred\nblue\n")
    prompts = ["extract", f"--prompts={tmp_path / 'prompts.txt'}", encoders[1]]
    assert main([*prompts, f"--out={tmp_path / 'prompts.npz'}"]) == 0
    assert "2 of 2 texts" in capsys.readouterr().err
    assert data.load_prompts(tmp_path / "prompts.npz").classes == ("red", "blue")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--out is missing"),
        (["--out=o.npz", "--text_encoder=st:x"], "--data is missing"),
        (["--out=o.npz", "--text_encoder=st:x", "--image_encoder=onnx:y", "--data=synthetic", "--views=up"], "--views"),
        (["--out=o.npz", "--text_encoder=st:x", "--prompts=p.txt", "--data=synthetic"], "--prompts"),
        (
            ["--out=o.npz", "--text_encoder=x", "--image_encoder=y", "--data=synthetic:train=2,val=1,test=1"],
            "one of hf:",
        ),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["extract", *arguments]) == 2
    assert message in capsys.readouterr().err
