"""From raw pictures and texts to answers: a run on latents finds what NumPy finds, by records of its encoders."""

import contextlib
import csv
import html.parser
import json
import re
import shutil

import numpy as np
import PIL.Image
import pytest
from cli_runs import FAST

import alignment_jax as aj
from alignment_jax.cli.main import main
from alignment_jax.core.errors import UserError
from alignment_jax.extract.encoders import ENCODERS
from alignment_jax.inference.search_index import SearchIndex, best_rows

COLORS = {"red": (200, 20, 30), "green": (10, 190, 40), "blue": (20, 40, 210), "grey": (120, 120, 120)}


@contextlib.contextmanager
def tiny_encoders():
    ENCODERS["tiny"] = "tiny_encoders"
    try:
        yield
    finally:
        del ENCODERS["tiny"]


@pytest.fixture(autouse=True)
def encoders():
    with tiny_encoders():
        yield


@pytest.fixture(scope="module")
def world(tmp_path_factory, repository):
    """A folder with pictures, pairs.csv, encoders, their latents and a run on them."""
    folder = tmp_path_factory.mktemp("world")
    (folder / "pictures").mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for number in range(36):
        left, right = rng.choice(list(COLORS), 2, replace=False)
        image = np.zeros((20, 24, 3), np.uint8)
        image[:, :12], image[:, 12:] = COLORS[left], COLORS[right]
        image += rng.integers(0, 40, image.shape, np.uint8)  # no two are equal
        PIL.Image.fromarray(image).save(folder / "pictures" / f"{number}.png")
        split = "train" if number < 24 else "val" if number < 30 else "test"
        rows += [(f"pictures/{number}.png", f"{left} beside {right}", split), (f"pictures/{number}.png", left, split)]
    with open(folder / "pairs.csv", "w", newline="") as file:
        csv.writer(file).writerows([("image", "caption", "split"), *rows])
    (folder / "image_encoder").write_text("1")
    (folder / "text_encoder").write_text("2")
    extract = ["extract", f"--data=pairs:{folder}/pairs.csv", f"--image_encoder=tiny:{folder}/image_encoder"]
    extract += [f"--text_encoder=tiny:{folder}/text_encoder", "--text_prefix=a ", "--views=flip", "--dtype=float32"]
    config = f"{repository}/configs/flickr8k_frozen.py:runlocal,method=baseline,data=embeddings:{folder}/latents.npz"
    train = ["train", "--config", config, "--workdir", str(folder / "run"), *FAST, "--config.train.duration=4 epochs"]
    with tiny_encoders():
        assert main([*extract, f"--out={folder}/latents.npz", "--quiet"]) == 0
        assert main([*train, "--config.eval.views=mean", "--config.report.gallery=0"]) == 0
    return folder


@pytest.fixture(scope="module")
def expected(world):
    """Vectors of the whole data set by its latents: image, text, names, captions."""
    assert main(["embed", "--workdir", str(world / "run"), f"--out={world}/all.npz"]) == 0
    with np.load(world / "all.npz", allow_pickle=False) as found:
        return dict(found)


def search(capsys, *arguments):
    """The third column of the table: names or texts, best first."""
    assert main(["search", *map(str, arguments)]) == 0
    lines = capsys.readouterr().out.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("----"))
    rows = [line.split(maxsplit=2) for line in lines[start + 1 :] if re.match(r"\s*\d+\s+-?[\d.]+\s", line)]
    return [re.split(r"\s{2,}", row[2])[0] for row in rows]


@pytest.mark.slow
def test_raw_items_give_the_vectors_of_their_latents(world, expected, tmp_path):
    aligner = aj.load(world / "run")
    images = aligner.embed_images([world / name for name in expected["image_id"]])
    np.testing.assert_allclose(images, expected["image"], atol=1e-5)
    np.testing.assert_allclose(aligner.embed_texts(expected["caption"].tolist()), expected["text"], atol=1e-5)
    raw = f"--data=pairs:{world}/pairs.csv"
    assert main(["embed", "--workdir", str(world / "run"), raw, f"--out={tmp_path}/raw.npz"]) == 0
    with np.load(tmp_path / "raw.npz") as found:
        assert found["caption"].tolist() == expected["caption"].tolist()
        np.testing.assert_allclose(found["image"], expected["image"], atol=1e-5)
    assert (
        main(["embed", "--workdir", str(world / "run"), f"--data=images:{world}/pictures", f"--out={tmp_path}/i.npz"])
        == 0
    )
    with np.load(tmp_path / "i.npz") as found:
        rows = [expected["image_id"].tolist().index(f"pictures/{name}") for name in found["image_id"]]
        np.testing.assert_allclose(found["image"], expected["image"][rows], atol=1e-5)
    metrics = []
    for more in ([], [raw]):
        assert main(["evaluate", "--workdir", str(world / "run"), *more, f"--json={tmp_path}/m.json"]) == 0
        metrics.append(json.loads((tmp_path / "m.json").read_text()))
    # Equal rows tie in both; the last bits of others may differ.
    assert metrics[0]["rsum"] == pytest.approx(metrics[1]["rsum"], abs=100 / 6)


@pytest.mark.slow
def test_search_ranks_as_numpy_does(world, expected, tmp_path, capsys):
    run = ("--workdir", world / "run", "--nohubness", "--top=5")
    phrase = "red beside blue"
    query = aj.load(world / "run").embed_texts([phrase])[0]

    def names(vectors, words, z):
        """The first five by NumPy; equal scores in the order of the rows."""
        return [str(words[row]) for row in np.argsort(-(vectors @ z), kind="stable")[:5]]

    by_text = names(expected["image"], expected["image_id"], query)
    assert search(capsys, *run, phrase) == by_text
    assert search(capsys, phrase, *run, f"--in={world}/all.npz") == by_text
    for kind in ("npy", "parquet"):
        embed = ["embed", "--workdir", str(world / "run"), f"--format={kind}", f"--out={tmp_path / kind}"]
        assert main(embed) == 0
        capsys.readouterr()
        assert search(capsys, *run, *phrase.split(), f"--in={tmp_path / kind}") == by_text
    in_folder = search(capsys, *run, phrase, f"--in={world}/pictures")
    assert in_folder == [name.removeprefix("pictures/") for name in by_text]
    assert search(capsys, *run, phrase, f"--in=embeddings:{world}/latents.npz") == by_text

    picture = aj.load(world / "run").embed_images([world / "pictures/7.png"])[0]
    by_picture = search(capsys, *run, f"--image={world}/pictures/7.png", f"--in={world}/all.npz")
    assert by_picture == names(expected["image"], expected["image_id"], picture)
    assert by_picture[0] == "pictures/7.png"
    texts = search(capsys, *run, f"--image={world}/pictures/7.png", f"--in={world}/all.npz", "--find=text")
    assert texts == names(expected["text"], expected["caption"], picture)


@pytest.mark.slow
def test_a_correction_of_hubs_ranks_as_folded_vectors_do(world, tmp_path, capsys):
    run = ("--workdir", str(world / "run"))
    phrase, asked = "green", "--hubness=csls:k=3"
    query = aj.load(world / "run").embed_texts([phrase], hubness="csls:k=3")[0]
    assert main(["embed", *run, asked, f"--out={tmp_path}/folded.npz"]) == 0
    capsys.readouterr()
    with np.load(tmp_path / "folded.npz") as found:
        order = np.argsort(-(found["image"] @ query), kind="stable")[:4]
        wanted = found["image_id"][order].tolist()
    assert search(capsys, *run, phrase, "--top=4", f"--in={tmp_path}/folded.npz") == wanted
    assert search(capsys, *run, phrase, "--top=4", f"--in={world}/all.npz", asked) == wanted
    # Image by image ignores the bias, which is that for texts.
    own = f"--image={world}/pictures/3.png"
    assert search(capsys, *run, own, "--top=1", f"--in={tmp_path}/folded.npz") == ["pictures/3.png"]


@pytest.mark.slow
def test_the_page_shows_every_hit_and_asks_for_nothing(world, expected, capsys):
    class Page(html.parser.HTMLParser):
        def __init__(self):
            super().__init__()
            self.images, self.items, self.addresses = [], 0, []

        def handle_starttag(self, tag, attributes):
            given = dict(attributes)
            self.items += tag == "li"
            if tag == "img":
                self.images.append(given)
            self.addresses += [given[name] for name in ("src", "href", "srcset") if name in given]

    page = world / "hits.html"
    search(capsys, "--workdir", world / "run", f"--in={world}/all.npz", "<b>red</b>", "--top=6", f"--page={page}")
    found = Page()
    found.feed(text := page.read_text())
    assert found.items == len(found.images) == 6
    assert all(image["alt"] for image in found.images)
    assert all(address.startswith("data:image/") for address in found.addresses)
    assert "<b>red</b>" not in text
    assert "viewport" in text


@pytest.mark.slow
def test_a_missing_or_changed_encoder_is_one_line(world, tmp_path, capsys):
    run = shutil.copytree(world / "run", tmp_path / "run")
    inputs = json.loads((run / "inputs.json").read_text())
    for name in ("image", "text"):
        shutil.copy(world / f"{name}_encoder", tmp_path)
    expected = aj.load(run).embed_texts(["red"])
    for side, name in (("a", "image"), ("b", "text")):
        inputs["encoders"][side]["name"] = f"tiny:{tmp_path}/{name}_encoder"

    def refused(*arguments):
        assert main(["search", "--workdir", str(run), "red", *arguments]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert "text_encoder" in line
        return line

    (run / "inputs.json").write_text(json.dumps(inputs))
    np.testing.assert_array_equal(aj.load(run).embed_texts(["red"]), expected)
    (tmp_path / "text_encoder").write_text("5")
    assert "weights" in refused()
    moved = f"tiny:{world}/text_encoder"
    np.testing.assert_array_equal(aj.load(run, text_encoder=moved).embed_texts(["red"]), expected)
    del inputs["encoders"]["b"]
    (run / "inputs.json").write_text(json.dumps(inputs))
    refused()
    refused("--text_encoder=nothing")
    given = aj.extract.open_encoder(moved, side="text", options=aj.extract.Options(prefix="a "))
    np.testing.assert_array_equal(aj.load(run, text_encoder=given).embed_texts(["red"]), expected)
    wide = aj.extract.Encoder(lambda texts: np.ones((len(texts), 5)), {"name": "wide"})
    with pytest.raises(UserError, match="5 numbers"):
        aj.load(run, text_encoder=wide).embed_texts(["red"])


@pytest.mark.slow
def test_what_cannot_be_searched_is_one_line(world, expected, frozen_run, tmp_path, capsys):
    np.savez(tmp_path / "narrow.npz", image=np.eye(3, dtype=np.float32))
    np.savez(tmp_path / "long.npz", image=2 * expected["image"])
    run, other = ["--workdir", str(world / "run")], ["--workdir", str(frozen_run[0])]
    for arguments, part in (
        (run, "phrase"),
        ([*run, "red", f"--image={world}/pictures/1.png"], "phrase"),
        ([*run, "red", "--in=none"], "--in=none"),
        ([*run, "red", f"--in={tmp_path}/narrow.npz"], "narrow.npz"),
        ([*run, "red", f"--in={tmp_path}/long.npz"], "long.npz"),
        ([*run, "red", f"--in={world}/pictures", "--find=text"], "--find=text"),
        ([*run, "red", f"--page={tmp_path}/none/x.html"], "--page="),
        ([*run, f"--image={tmp_path}/none.png"], "none.png"),
        ([*other, "red", f"--in={world}/all.npz", f"--text_encoder=tiny:{world}/text_encoder"], "all.npz"),
    ):
        assert main(["search", *arguments]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert part in line


@pytest.mark.slow
def test_towers_search_their_own_data(raw_run, tmp_path, capsys):
    split = aj.inference.open_source(raw_run[0], None)[1].splits["test"]
    (image,) = split.a.read(np.arange(1))
    PIL.Image.fromarray(image).save(tmp_path / "query.png")
    page = tmp_path / "hits.html"
    run = ("--workdir", raw_run[0], f"--image={tmp_path}/query.png", "--top=2")
    assert search(capsys, *run, f"--page={page}")[0] == split.ids[0]
    assert page.read_text().count("<img") == 3  # the query and two hits
    aligner = aj.load(raw_run[0])
    index = aj.inference.open_index(aligner, f"images:{tmp_path}")
    (hit,) = index.search(aligner.embed_images([image])[0], side="a")
    assert (hit.name, hit.score) == ("query.png", pytest.approx(1, abs=1e-5))


@pytest.mark.parametrize("count", [1, 5, 40])
def test_best_rows_are_those_of_a_stable_sort(count):
    scores = np.random.default_rng(count).integers(0, 9, count).astype(np.float32)
    for top in (1, 4, count, 99):
        np.testing.assert_array_equal(best_rows(scores, top), np.argsort(-scores, kind="stable")[:top])


def test_the_bias_is_for_the_other_side():
    index = SearchIndex("a", np.eye(2, dtype=np.float32), ["x", "y"], bias=np.array([1.0, 0.0], np.float32))
    query = np.array([0.8, 0.6], np.float32)
    assert [hit.name for hit in index.search(query, side="b")] == ["y", "x"]
    assert [hit.name for hit in index.search(query, side="a")] == ["x", "y"]
    with pytest.raises(UserError, match="shape"):
        index.search(np.ones(3), side="b")
    with pytest.raises(UserError, match="top"):
        index.search(query, side="b", top=0)
