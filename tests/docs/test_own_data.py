"""Every SPEC in the table of docs/data/own_data.md opens a tiny input with the file names of its row."""

import pathlib
import re

import own_data_inputs
import pytest

from alignment_jax import data
from alignment_jax.cli.main import main

PAGE = pathlib.Path(__file__).resolve().parent.parent.parent / "docs" / "data" / "own_data.md"
TITLE = "## What you have, what to write"


def rows(text):
    """The pieces in backticks in the second cell of each row."""
    section = text.split(f"{TITLE}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))] for line in lines]
    assert cells[0] == ["what you have", "what to write"], cells[0]
    assert all(len(row) == 2 for row in cells)
    return [[piece.replace("\\|", "|") for piece in re.findall(r"`([^`]+)`", cell)] for _, cell in cells[2:]]


ROWS = rows(PAGE.read_text(encoding="utf-8"))


def test_every_row_has_an_input_and_every_input_a_row():
    written = [pieces[0] for pieces in ROWS]
    assert len(set(written)) == len(written)
    assert set(written) == set(own_data_inputs.all_writers())


@pytest.mark.parametrize("pieces", ROWS, ids=lambda pieces: pieces[0])
def test_the_spec_of_the_row_opens_its_input(pieces, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    counts = own_data_inputs.all_writers()[pieces[0]](tmp_path)
    for piece in pieces:
        if piece.startswith("alignment-jax "):
            assert main(piece.split()[1:]) == 0, capsys.readouterr().err
        elif piece.partition(":")[0] in data.SOURCES or data.is_one_side(piece):
            assert main(["data", "--data", piece]) == 0, capsys.readouterr().err
    if counts is not None and data.is_one_side(pieces[0]):
        assert (len(data.load_one_side(pieces[0]).column), 0) == counts
    elif counts is not None:
        splits = data.load(pieces[0]).splits.values()
        assert (sum(len(split.a) for split in splits), sum(len(split.b) for split in splits)) == counts


def test_a_row_is_read_with_its_bars_and_all_its_pieces():
    text = f"{TITLE}\n\n| what you have | what to write |\n|---|---|\n| `x.csv` | `pairs:a\\|b`, or `c` |\n\n## More\n"
    assert rows(text) == [["pairs:a|b", "c"]]
