"""`alignment-jax data`: the description, a page with samples, warnings and problems, and the exit status of each."""

import html.parser
import json
import re
import shutil

import mock_data_sets as mock
import mock_paper_sets as paper
import pytest
from PIL import Image

from alignment_jax.cli.main import main


class Page(html.parser.HTMLParser):
    """The content of a page, and every element or address that must not be there."""

    def __init__(self, text):
        super().__init__()
        self.images, self.foreign, self.headings = 0, [], []
        self._heading = False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.images += tag == "img"
        self._heading = tag == "h2"
        for name in ("src", "href"):
            if name in given and not given[name].startswith(("data:", "#")):
                self.foreign.append(given[name])
        if tag in ("iframe", "object", "embed", "form") or any(name.startswith("on") for name in given):
            self.foreign.append(tag)

    def handle_data(self, text):
        if self._heading:
            self.headings.append(text)
            self._heading = False


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cremad", "twitter2015", "epic", "nvgesture", "webdataset"])
def test_a_page_is_complete_in_itself(name, tmp_path, capsys):
    expected = paper.MOCKS[name]
    spec = expected.write(tmp_path)
    page, out = tmp_path / "page.html", tmp_path / "out.json"
    assert main(["data", "--data", spec, "--page", str(page), "--json", str(out), "--samples", "3"]) == 0
    found = Page(page.read_text())
    assert found.foreign == []
    drawn = sum(kind in ("image", "audio") for kind in expected.kinds)
    chart = expected.classes is not None
    assert found.images == chart + 3 * drawn * len(expected.splits)
    assert [f"Samples of {split}" in found.headings for split in expected.splits] == [True] * len(expected.splits)
    assert "page: " in capsys.readouterr().out
    assert json.loads(out.read_text())["splits"].keys() == expected.splits.keys()


def test_names_in_a_data_set_cannot_break_the_page(tmp_path):
    mock.pictures(tmp_path, 3)
    evil = '</figure><script>alert(1)</script><img src=x onerror=alert(1)>"'
    rows = [[f"im{i}.png", evil.replace('"', "'") + f" {i}"] for i in range(3)]
    mock.write_csv(tmp_path / "p.csv", [["image", "caption"], *rows])
    page = tmp_path / "page.html"
    assert main(["data", "--data", f"pairs:{tmp_path / 'p.csv'}", "--page", str(page)]) == 0
    text = page.read_text()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    found = Page(text)
    assert (found.foreign, found.images) == ([], 3)


def test_names_in_a_data_set_have_no_control_characters(tmp_path, capsys):
    """Names of classes, of unused columns and of files are on separate lines, without control characters."""
    names = mock.pictures(tmp_path, 4)
    rows = [[name, f"\x1b]0;class\x07\x9b{i % 2}", ""] for i, name in enumerate(names)]
    odd = "im\x1b[2J.png"
    mock.write_csv(tmp_path / "l.csv", [["image", "label", "note\x1b[31m"], *rows, [odd, "other", ""]])
    assert main(["data", "--data", f"labelled:{tmp_path / 'l.csv'}"]) == 2
    shown = capsys.readouterr()
    assert "note [31m" in shown.out
    assert "problem: " in shown.out
    assert "class" in shown.out
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", shown.out + shown.err)


def test_notes_of_extract_cannot_steer_the_terminal(tmp_path, capsys):
    names = mock.pictures(tmp_path, 3)
    rows = [[name, "a dog", ""] for name in names]
    mock.write_csv(tmp_path / "p.csv", [["image", "caption", "note\x1b[31m"], *rows])
    encoder = f"onnx:{tmp_path / 'none.onnx'}"
    arguments = ["--image_encoder", encoder, "--text_encoder", encoder, "--out", str(tmp_path / "out.npz")]
    assert main(["extract", "--data", f"pairs:{tmp_path / 'p.csv'}", *arguments]) == 2
    assert "note [31m" in capsys.readouterr().out


def test_leakage_warns_and_problems_fail(tmp_path, capsys):
    spec = mock.pairs(tmp_path)
    pictures = tmp_path / "pictures"
    shutil.copy(pictures / "im0.png", pictures / "im2.png")
    page = tmp_path / "page.html"
    assert main(["data", "--data", spec, "--page", str(page)]) == 0
    assert re.search(r"warning: 1 of 2 image .*val \(50\.0 %\) .*train", capsys.readouterr().out)
    assert "50.0 %" in page.read_text()
    (pictures / "im5.png").write_bytes(b"no picture")
    assert main(["data", "--data", spec, "--page", str(page)]) == 2
    shown = capsys.readouterr()
    assert "problem: " in shown.out
    assert "im5.png" in shown.out
    assert "--on_bad_sample=skip" in shown.err
    assert "im5.png" in page.read_text()


def test_samples_left_out_on_request_are_named(tmp_path, capsys):
    spec = mock.pairs(tmp_path)
    (tmp_path / "pictures" / "im5.png").write_bytes(b"no picture")
    assert main(["data", "--data", spec, "--on_bad_sample=skip"]) == 0
    assert re.search(r"left out: .*im5\.png .*row \d+ .*\(.* text\)", capsys.readouterr().out)
    assert main(["data", "--data", spec, "--on_bad_sample=ignore"]) == 2
    assert "<error|skip>" in capsys.readouterr().err


def test_a_large_image_gives_no_warning_of_a_library(tmp_path, capsys, monkeypatch):
    spec = mock.pairs(tmp_path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)  # from here on Pillow warns; it refuses from twice as many
    with pytest.warns(Image.DecompressionBombWarning):
        Image.open(tmp_path / "pictures" / "im5.png").close()
    assert main(["data", "--data", spec]) == 0
    assert capsys.readouterr().err == ""


def test_clusters_of_the_texts_on_request(tmp_path, capsys):
    spec = paper.youcook2(tmp_path)
    assert main(["data", "--data", spec, "--clusters", "--page", str(tmp_path / "p.html")]) == 0
    assert "clusters number" in capsys.readouterr().out
