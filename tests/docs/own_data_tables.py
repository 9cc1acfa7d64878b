"""Inputs of the rows about tables."""

import csv
import gzip
import io
import json
import pathlib
from collections.abc import Iterable, Sequence

import pytest
from own_data_inputs import COLOURS, N, captions, photos, writes

HEADER = ("image", "caption")


def table(path: pathlib.Path, header: Sequence[str], rows: Iterable[Sequence[object]], delimiter: str = ",") -> None:
    path.write_bytes(text(header, rows, delimiter).encode())


def text(header: Sequence[str], rows: Iterable[Sequence[object]], delimiter: str = ",") -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows([header, *rows])
    return out.getvalue()


def pairs(folder: pathlib.Path) -> list[tuple[str, str]]:
    return list(zip(photos(folder), captions(), strict=True))


def wordings(caption: str) -> list[str]:
    return [caption, f"{caption}, it's said"]


@writes("pairs:captions.csv")
def commas(folder):
    table(folder / "captions.csv", HEADER, [*pairs(folder), ("photos/0.png", "another wording")])
    return N, N + 1


@writes("pairs:semicolons.csv")
def semicolons(folder):
    table(folder / "semicolons.csv", HEADER, pairs(folder), ";")
    return N, N


@writes("pairs:open_clip.tsv")
def open_clip(folder):
    table(folder / "open_clip.tsv", ("filepath", "title"), pairs(folder), "\t")
    return N, N


@writes("pairs:results.csv")
def bars(folder):
    lines = [f"{name}| {k}| {caption}" for name, caption in pairs(folder) for k in range(2)]
    (folder / "results.csv").write_text("image_name| comment_number| comment\n" + "\n".join(lines), encoding="utf-8")
    return N, 2 * N


@writes("pairs:unicode.txt")
def utf16(folder):
    (folder / "unicode.txt").write_bytes(text(HEADER, pairs(folder), "\t").encode("utf-16"))
    return N, N


@writes("pairs:old.csv,encoding=cp1252")
def cp1252(folder):
    (folder / "old.csv").write_bytes(text(HEADER, pairs(folder), ";").encode("cp1252"))
    return N, N


@writes("pairs:captions.csv.gz")
def packed(folder):
    (folder / "captions.csv.gz").write_bytes(gzip.compress(text(HEADER, pairs(folder)).encode()))
    return N, N


@writes("pairs:captions.xlsx,sheet=Photos")
def workbook(folder):
    openpyxl = pytest.importorskip("openpyxl", reason="needs pip install -e '.[tables]'")
    book = openpyxl.Workbook()
    book.active.append(["notes on how the photos were taken"])
    sheet = book.create_sheet("Photos")
    for row in (HEADER, *pairs(folder)):
        sheet.append(row)
    book.save(folder / "captions.xlsx")
    return N, N


@writes("pairs:captions.parquet")
def parquet(folder):
    names, texts = zip(*pairs(folder), strict=True)
    write_parquet(folder / "captions.parquet", {"image": names, "caption": [wordings(each) for each in texts]})
    return N, 2 * N


@writes("pairs:train-00000-of-00001.parquet")
def parquet_with_images(folder):
    names, texts = zip(*pairs(folder), strict=True)
    images = [{"bytes": (folder / name).read_bytes(), "path": pathlib.Path(name).name} for name in names]
    for name in names:
        (folder / name).unlink()
    write_parquet(folder / "train-00000-of-00001.parquet", {"image": images, "text": texts})
    return N, N


def write_parquet(path, columns):
    arrow = pytest.importorskip("pyarrow", reason="needs pip install -e '.[tables]'")
    from pyarrow import parquet

    parquet.write_table(arrow.table({name: list(values) for name, values in columns.items()}), path)


@writes("pairs:photos/metadata.jsonl")
def metadata(folder):
    rows = [{"file_name": pathlib.Path(name).name, "text": caption} for name, caption in pairs(folder)]
    (folder / "photos" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return N, N


@writes("pairs:list.json")
def json_list(folder):
    rows = [{"image": name, "caption": wordings(caption)} for name, caption in pairs(folder)]
    (folder / "list.json").write_text(json.dumps(rows, indent=1))
    return N, 2 * N


@writes("pairs:captions.json")
def json_by_name(folder):
    found = dict(pairs(folder))
    (folder / "captions.json").write_text(json.dumps({name: wordings(caption) for name, caption in found.items()}))
    return N, 2 * N


@writes("pairs:mine.csv,image=Bild,caption=Beschreibung")
def named(folder):
    table(folder / "mine.csv", ("Nr", "Bild", "Beschreibung"), [(i, *row) for i, row in enumerate(pairs(folder))])
    return N, N


@writes("pairs:five.csv")
def numbered(folder):
    rows = [(name, caption, "" if i else "another", f"{caption}!") for i, (name, caption) in enumerate(pairs(folder))]
    table(folder / "five.csv", ("image", "caption_1", "caption_2", "caption_3"), rows)
    return N, 2 * N + 1


@writes("pairs:lists.csv")
def lists(folder):
    rows = [(name, (str if i % 2 else json.dumps)(wordings(each))) for i, (name, each) in enumerate(pairs(folder))]
    table(folder / "lists.csv", HEADER, rows)
    return N, 2 * N


@writes("pairs:train=train.csv,val=val.csv,test=test.csv")
def a_file_for_each_split(folder):
    rows = pairs(folder)
    for name, part in (("train", rows[:4]), ("val", rows[4:6]), ("test", rows[6:])):
        table(folder / f"{name}.csv", HEADER, part)
    return N, N


@writes("pairs:tables/captions.csv,root=photos")
def images_elsewhere(folder):
    (folder / "tables").mkdir()
    absolute = [i % 2 == 0 for i in range(N)]
    rows = [
        (folder / name if whole else pathlib.Path(name).name, caption)
        for (name, caption), whole in zip(pairs(folder), absolute, strict=True)
    ]
    table(folder / "tables" / "captions.csv", HEADER, rows)
    return N, N


@writes("pairs:items.csv")
def items(folder):
    rows = [(COLOURS[i // 2], name, "" if i % 2 else caption) for i, (name, caption) in enumerate(pairs(folder))]
    table(folder / "items.csv", ("item", *HEADER), rows)
    return N // 2, N // 2
