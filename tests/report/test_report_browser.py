"""The page of a comparison in a real browser: console, pictures, sorting, phone, dark mode, print."""

import base64

import chromium
import comparison_example as example
import numpy as np
import pytest

from alignment_jax.report import DataSample, write_comparison, write_data_page

pytest.importorskip("matplotlib", reason="needs the extra 'train'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium.missing() is not None, reason=str(chromium.missing())),
]

PICTURES = "return Array.from(document.images).map(i => [i.complete, i.naturalWidth, i.currentSrc.slice(0, 5)])"
COLUMN = """
const [table, column] = arguments;
const rows = document.querySelectorAll("table.sortable")[table].tBodies[0].rows;
return Array.from(rows).map(row => row.cells[column].innerText);
"""
CLICK = """
const [table, column] = arguments;
document.querySelectorAll("table.sortable")[table].tHead.rows[0].cells[column].querySelector("button").click();
return document.querySelectorAll("table.sortable")[table].tHead.rows[0].cells[column].getAttribute("aria-sort");
"""
# Kinds of elements with horizontal overflow.
CUT = """
const cut = Array.from(document.querySelectorAll("main *")).filter(one => one.scrollWidth > one.clientWidth + 1
  && ["auto", "scroll"].includes(getComputedStyle(one).overflowX));
return Array.from(new Set(cut.map(one => one.className || one.tagName.toLowerCase()))).sort();
"""
# Positions of the first cells of title and row within a table scrolled to its end.
SCROLLED = """
const box = document.querySelector(".words .table"), table = box.querySelector("table");
box.scrollLeft = 1000;
return [table.tHead, table.tBodies[0]].map(part =>
  Math.round(part.rows[0].cells[0].getBoundingClientRect().left - box.getBoundingClientRect().left));
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison")

    def images(items):
        return {item: np.full((60, 90, 3), 40 * item, np.uint8) for item in items}

    runs = example.runs(folder)
    return write_comparison(folder, example.about(), runs, verdicts=example.VERDICTS, images=images)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium.browser(tmp_path_factory.mktemp("chromium")) as found:
        yield found


def test_nothing_to_complain_about_and_every_picture_is_there(browser, report):
    browser.page(report)
    assert browser.complaints() == []
    pictures = browser.run(PICTURES)
    assert len(pictures) > 10
    assert all(complete and width > 0 and source == "data:" for complete, width, source in pictures)
    # Everything is in the page: the browser asked for nothing else.
    asked = browser.run("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert [address for address in asked if not address.startswith("data:")] == []


def test_a_broken_page_would_be_noticed(browser, tmp_path):
    page = tmp_path / "broken.html"
    page.write_text("<img src='missing.png'><script>nowhere()</script>", encoding="utf-8")
    browser.page(page)
    assert any("nowhere is not defined" in line for line in browser.complaints())
    assert browser.run(PICTURES)[0][1] == 0


def test_a_click_on_a_title_sorts_by_number(browser, report):
    browser.page(report)
    assert browser.run(COLUMN, 0, 0) == ["baseline", "vals", "mm_ts"]
    assert browser.run(CLICK, 0, 1) == "ascending"
    assert browser.run(COLUMN, 0, 0) == ["mm_ts", "baseline", "vals"]
    assert browser.run(CLICK, 0, 1) == "descending"
    assert browser.run(COLUMN, 0, 0) == ["vals", "baseline", "mm_ts"]
    # The baseline has no difference to itself: an empty cell stays last either way.
    for direction in ("ascending", "descending"):
        assert browser.run(CLICK, 0, 2) == direction
        assert browser.run(COLUMN, 0, 0)[-1] == "baseline"
    assert browser.complaints() == []


def test_on_a_phone_only_tables_scroll_sideways(browser, report):
    browser.size(390, 800)
    browser.page(report)
    assert browser.run(CUT) == ["picture", "table"]  # wide ones exist, else the rest of this test is empty
    assert browser.run("return document.documentElement.scrollWidth") <= 390
    small = browser.run("return Math.min(...Array.from(document.querySelectorAll('.charts img'), i => i.clientWidth))")
    assert small > 300  # charts are stacked, in the full width
    browser.size(1280, 900)


def test_on_a_screen_every_table_fits(browser, report):
    browser.size(1300, 900)
    browser.page(report)
    assert browser.run(CUT) == []
    browser.size(1280, 900)


def test_the_method_stays_in_sight_while_a_table_scrolls(browser, report):
    browser.size(390, 800)
    browser.page(report)
    assert browser.run(SCROLLED) == [0, 0]
    browser.size(1280, 900)


def test_a_data_sets_page_fits_a_phone(browser, tmp_path):
    counts = {f"a class with a long name {k}": 9 - k for k in range(4)}
    classes = {"number": 4, "largest": 9, "median": 8, "smallest": 6, "half": 2, "tail": 1, "counts": counts}
    side = {"count": 30, "kind": "image", "width": {"min": 80, "mean": 270.8, "max": 500}}
    pairs = {"min": 1, "max": 5, "mean": 2.5}
    split = {"a": side, "b": side, "b_per_a": pairs, "repeated": {}, "classes": classes}
    about = {"spec": "pairs:" + "folder/" * 9 + "x.csv", "name": "pairs", "splits": {"train": split}}
    write_data_page(
        tmp_path / "data.html",
        description={**about, "warnings": [], "notes": [], "leakage": []},
        problems=[],
        samples={"train": [DataSample("1.jpg", texts=["one", "two"])]},
        names=("image", "text"),
    )
    browser.size(390, 800)
    browser.page(tmp_path / "data.html")
    assert browser.run("return document.documentElement.scrollWidth") <= 390
    assert browser.run(CUT) == ["table"]
    browser.size(1280, 900)


def test_in_the_dark_the_dark_pictures_are_shown(browser, report):
    sources = "return Array.from(document.querySelectorAll('.charts img'), i => i.currentSrc)"
    browser.page(report)
    light = browser.run(sources)
    browser.colours("dark")
    browser.page(report)
    dark = browser.run(sources)
    assert len(light) == len(dark)
    assert not set(light) & set(dark)
    browser.colours("light")


def test_it_prints(browser, report):
    browser.page(report)
    pdf = base64.b64decode(browser.call("POST", "/print", {}))
    assert pdf.startswith(b"%PDF")
    assert len(pdf) > 20_000
