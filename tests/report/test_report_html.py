"""The page of a run: complete, well formed, offline, and safe against markup in data."""

import html
import json
import pathlib
import re
import shutil
import subprocess

import numpy as np
import pytest
from page_reader import EVIL, Page

from alignment_jax.report import (
    Gallery,
    best_row,
    chance_recall,
    key_value_table,
    page,
    section,
    table,
    to_html,
    write_report,
)
from alignment_jax.report.run_page import run_section

pytest.importorskip("matplotlib", reason="needs the extra 'train'")
pytest.importorskip("PIL.Image", reason="needs the extra 'train'")


def _arguments(**changes):
    rng = np.random.default_rng(0)
    history = []
    for step in range(10, 110, 10):
        history.append({"step": step, "epoch": step / 50, "train/loss": 30.0 / step})
        recalls = {f"val/{d}_R@{k}": 30.0 + k - abs(step - 70) / 10 for d in ("a2b", "b2a") for k in (1, 5, 10)}
        history.append({"step": step, **recalls, "val/rsum": sum(recalls.values())})
    results = {
        split: {"a2b_R@1": 31.0 + shift, "b2a_R@1": 28.0, "rsum": 200.0}
        for split, shift in (("val", 0.0), ("test", -1.5))
    }
    chance = chance_recall(np.repeat(np.arange(100), 5), ks=(1,))
    gallery = Gallery(
        captions=[f"a dog {EVIL}", "a cat"],
        ids=[f"{EVIL}{item}.jpg" for item in range(10)],
        top=np.array([[3, 1, 2, 4, 5], [0, 1, 2, 3, 4]]),
        own=np.array([1, 9]),
        images={item: rng.integers(0, 255, (60 + 10 * item, 100, 3), dtype=np.uint8) for item in range(10)},
        ranks=np.array([2, 7]),
    )
    arguments = {
        "title": f"A run {EVIL}",
        "config": {"data": f"flickr:{EVIL}", "seed": 0, "model": {"dim": 512, EVIL: EVIL}, "nothing": None, "list": []},
        "environment": {"time": "2026-11-22T00:00:00Z", "packages": {"alignment_jax": "0.1.0"}, "command": EVIL},
        "results": results,
        "history": history,
        "gallery": gallery,
        "notes": [f"Chosen on val. {EVIL}"],
        "chance": {"val": chance, "test": chance},
        "names": ("image", f"text {EVIL}"),
        "parameters": 1_234_567,
        "cost": {"steps": 100, "pairs": 12_000, "seconds": 60.0, "peak_host_bytes": 2**30},
    }
    return {**arguments, **changes}


def _write(folder, **changes):
    path = write_report(folder, **_arguments(**changes))
    return path, path.read_text(encoding="utf-8")


UNDRAWN = {"history": [], "gallery": None}  # pages without drawings and pictures take a tenth of the time


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A page with everything, for tests that read it: (path, text)."""
    return _write(tmp_path_factory.mktemp("page"))


@pytest.mark.slow
def test_the_page_is_well_formed_and_complete(tmp_path):
    path, text = _write(tmp_path, names=("image", "text"))
    assert path == tmp_path / "report.html"
    found = Page(text)
    assert len(found.ids) == len(set(found.ids))
    assert found.ids[:3] == ["results", "notes", "run"]
    for expected in (
        "image → text R@1 [%] 31.0 29.5 1.0",
        "best step on val 70 (rsum 212.0)",
        "trainable parameters 1,234,567",
        "pairs seen 12,000",
        "wall time 1 min 00 s",
        "speed 200 pairs/s",
        "host memory, peak 1.0 GiB",
        "model.dim 512",
        "✓ hit at rank 2",
        "✗ miss, own item at rank 7",
    ):
        assert expected in found.text, expected
    assert any(attrs.get("name") == "viewport" for tag, attrs in found.tags if tag == "meta")
    assert "@media print" in text
    assert "prefers-color-scheme: dark" in text


def test_weights_that_move_are_in_the_section_of_the_run():
    history = [{"step": step, "train/weight_ab": weight} for step, weight in ((1, 1.0), (2, 0.75))]
    assert "0.250" in Page(run_section(history)).text
    assert "0.125" in Page(run_section(history)).text
    assert "weights" not in Page(run_section(history[:1])).text


def test_the_page_needs_nothing_else(written):
    path, text = written
    found = Page(text)
    local = {address for address in found.addresses if not address.startswith("data:image/")}
    assert local
    for address in local:
        assert not re.match(r"(?i)[a-z][a-z+.-]*:|//|/", address), address
        assert (path.parent / address).is_file()
    assert [tag for tag, attrs in found.tags if tag in ("img", "source") and "data:" not in str(attrs)] == []
    assert not {"link", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in found.tags}
    assert not re.search(r"@import|url\(", "".join(found.raw["style"]))
    assert "http" not in "".join(found.raw["style"] + found.raw["script"])


def test_nothing_from_data_becomes_markup(written):
    _, text = written
    found = Page(text)
    assert [tag for tag, _ in found.tags].count("script") == 1
    assert "alert" not in "".join(found.raw["script"])
    assert "<script>alert" not in text
    assert "<img src=http" not in text
    assert found.text.count('alert("x")') >= 8


def test_every_picture_has_words_for_those_who_cannot_see_it(written):
    found = Page(written[1])
    pictures = [attrs for tag, attrs in found.tags if tag == "img"]
    assert len(pictures) >= 3 + 11
    assert all(attrs.get("alt") for attrs in pictures)


@pytest.mark.slow
def test_pictures_lie_beside_the_page_and_old_ones_go(tmp_path):
    _write(tmp_path)
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert files == [
        "report.html",
        "report_files/gallery/000000.jpg",
        "report_files/gallery/000001.jpg",
        "report_files/gallery/000002.jpg",
        "report_files/gallery/000003.jpg",
        "report_files/gallery/000004.jpg",
        "report_files/gallery/000005.jpg",
        "report_files/gallery/000009.jpg",
        "report_files/loss.svg",
        "report_files/recall_a2b.svg",
        "report_files/recall_b2a.svg",
    ]
    _write(tmp_path, gallery=None, history=[{"step": step, "train/loss": 1.0} for step in (1, 2)])
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert files == ["report.html", "report_files/loss.svg"]


@pytest.mark.slow
def test_equal_input_gives_an_equal_page(written, tmp_path):
    assert _write(tmp_path)[1] == written[1]


def test_a_run_with_next_to_nothing_still_has_a_page(tmp_path):
    path = write_report(tmp_path, title="empty", config={}, environment={}, results={}, history=[])
    found = Page(path.read_text(encoding="utf-8"))
    assert "has not been evaluated" in found.text
    assert found.ids == ["results"]


def test_a_failed_write_leaves_the_old_page(tmp_path, monkeypatch):
    _, before = _write(tmp_path, **UNDRAWN)
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(Exception, match="No space left"):
        _write(tmp_path, title="new", **UNDRAWN)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == before


def test_strange_letters_do_not_cost_the_page(tmp_path):
    _, text = _write(tmp_path, title="nul \0 escape \x1b surrogate \udce9 bidi \u202e", notes=["\ud83d"], **UNDRAWN)
    Page(text)
    assert "\0" not in text
    assert "\x1b" not in text


def test_the_page_of_a_closed_form_explains_the_missing_curve(tmp_path):
    found = Page(_write(tmp_path, history=[{"step": 0, "epoch": 0, "val/rsum": 393.8}], gallery=None)[1])
    assert "closed form" in found.text
    assert not list(tmp_path.rglob("*.svg"))
    found = Page(_write(tmp_path, history=[{"step": 5, "epoch": 1, "val/rsum": 393.8}], gallery=None)[1])
    assert "single step" in found.text
    assert "learning-curves" not in Page(_write(tmp_path, history=[], gallery=None)[1]).ids


def test_the_heads_of_a_classifier_are_named_apart_from_its_prediction(tmp_path):
    scores = {"accuracy": 77.8, "accuracy_a": 52.8, "accuracy_b": 61.1, "accuracy_fused": 72.2}
    _, text = _write(tmp_path, names=("audio", "image"), results={"val": scores}, chance={}, **UNDRAWN)
    found = Page(text)
    assert "and image [%] 72.2" in found.text
    assert "heads' outputs" in found.text
    assert "_fused" not in found.text


def test_the_line_below_the_title(tmp_path):
    config, environment = {"data": "flickr:F", "seed": 3}, {"time": "2026-11-22T10:20:30Z"}
    found = Page(_write(tmp_path, config=config, environment=environment, **UNDRAWN)[1])
    assert "seed 3 · data flickr:F · 2026-11-22 10:20 UTC" in found.text


def test_the_best_step_is_the_earliest_highest():
    rows = [{"step": 1, "val/rsum": 2.0}, {"step": 2, "val/rsum": 3.0}, {"step": 3, "val/rsum": 3.0}]
    assert best_row(rows) == (2, "val/rsum", 3.0)
    assert best_row([*rows, {"step": 4, "val/rsum": float("nan")}]) == (2, "val/rsum", 3.0)
    assert best_row(rows, "val/accuracy") is None
    assert best_row([]) is None


def test_the_best_fraction_is_shown_in_percent(tmp_path):
    _, text = _write(tmp_path, history=[{"step": 3, "val/mAP": 0.539, "val/nDCG": 0.673}], gallery=None)
    assert "3 (mAP 53.9 %)" in text


def test_the_policy_names_our_style_and_script(tmp_path):
    import base64
    import hashlib

    found = Page(page("x", [section("a", key_value_table({"b": 1}))]))
    (policy,) = [attrs["content"] for tag, attrs in found.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    for kind in ("style", "script"):
        digest = hashlib.sha256("".join(found.raw[kind]).encode()).digest()
        assert f"{kind}-src 'sha256-{base64.b64encode(digest).decode()}'" in policy


PROBE = """<!DOCTYPE html><meta charset="utf-8"><iframe id="frame" src="report.html" width="390" height="800"></iframe>
<pre id="out"></pre><script>
addEventListener("load", function () {
  var page = document.getElementById("frame").contentDocument, table = page.querySelector("table.sortable");
  var column = function () {
    return Array.from(table.tBodies[0].rows).map(function (row) { return row.cells[1].textContent; });
  };
  var found = {width: page.scrollingElement.scrollWidth, before: column(),
    border: getComputedStyle(table).borderTopWidth};
  table.tHead.rows[0].cells[1].querySelector("button").click(); found.up = column();
  table.tHead.rows[0].cells[1].querySelector("button").click(); found.down = column();
  found.pictures = Array.from(page.images).map(function (image) { return image.naturalWidth > 0; });
  document.getElementById("out").textContent = JSON.stringify(found);
});
</script>"""


@pytest.mark.slow
def test_a_browser_shows_it_on_a_phone_and_sorts_the_table(tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("needs chromium on the PATH to open the page")
    long_name = "a_very_long_setting_name_" * 6
    results = {f"a long split name {n}": {"a2b_R@1": 31.0 + n, "b2a_R@1": 28.0, "rsum": 200.0} for n in range(8)}
    _write(tmp_path, names=("image", "text"), results=results, config={long_name: "x" * 300, "model": {"dim": 1}})
    (tmp_path / "probe.html").write_text(PROBE, encoding="utf-8")
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --allow-file-access-from-files --virtual-time-budget=5000 --dump-dom"
    )
    command = [browser, *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "probe.html").as_uri()]
    dump = subprocess.run(command, capture_output=True, text=True, timeout=900, check=True).stdout
    shown = re.search(r'<pre id="out">(.*?)</pre>', dump, re.DOTALL)
    assert shown, dump[-2000:]
    found = json.loads(html.unescape(shown[1]))
    assert found["width"] <= 390, "something sticks out sideways on a phone"
    assert found["border"] == "2px", "the style was not applied"
    assert found["up"] == sorted(found["before"], key=float)
    assert found["down"] == sorted(found["before"], key=float, reverse=True)
    assert found["up"] != found["down"]
    assert found["pictures"]
    assert all(found["pictures"])


def test_rows_of_other_pages_can_be_composed():
    text = page(
        "Methods", [section("Table", to_html(table(["method", "rsum"], [["cca", "407.0 ± 1.2"]])))], subtitle="n = 5"
    )
    found = Page(text)
    assert "407.0 ± 1.2" in found.text
    assert "n = 5" in found.text


@pytest.mark.slow
def test_importing_the_subpackage_stays_light():
    import sys

    code = (
        "import sys, alignment_jax.report;"
        "print([name for name in ('matplotlib', 'tensorboardX', 'tqdm', 'PIL', 'flax', 'grain', 'jinja2') "
        "if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"


def test_no_address_or_machine_path_in_the_subpackage(repository):
    folder = pathlib.Path(repository) / "alignment_jax" / "report"
    for file in [*folder.glob("*.py"), *folder.glob("templates/*")]:
        assert not re.search(r"https?://|/(home|tmp|usr)/", file.read_text(encoding="utf-8")), file.name
