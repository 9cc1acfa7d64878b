"""Tables: separators, encodings, column names, lists in cells, formats, paths."""

import csv
import gzip
import io
import json
import pathlib
import re
import warnings
import zipfile

import mock_data_sets as mock
import numpy as np
import pytest

from alignment_jax import data
from alignment_jax.cli.main import main
from alignment_jax.config.arguments import parse_arg
from alignment_jax.core.errors import ConfigError, DataError
from alignment_jax.data import manifest_rows as tables
from alignment_jax.data.bad_samples import BadSamples

NAMES = [f"p/im{i}.png" for i in range(4)]
TEXTS = ['a dog, "running"', "un carré à midi", "two cats; asleep", "a | b\tc".replace("\t", " ")]
HEADER = ["image", "caption"]
ROWS = [list(row) for row in zip(NAMES, TEXTS, strict=True)]


@pytest.fixture
def folder(tmp_path):
    mock.pictures(tmp_path / "p", 4)
    return tmp_path


def separated(rows=(HEADER, *ROWS), delimiter=",", **options):
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="\r\n", **options).writerows(rows)
    return out.getvalue()


def bare(rows, delimiter):
    return "".join(delimiter.join(row) + "\n" for row in rows)


def records(image="image", caption="caption"):
    return [{image: name, caption: text} for name, text in ROWS]


# name of the file, after the SPEC's colon -> its content
GOOD = {
    "commas.csv": separated(),
    "semicolons.csv": separated(delimiter=";"),
    "tabs.csv": separated(delimiter="\t"),
    "tabs.tsv": bare([HEADER, *ROWS], "\t"),
    "bars.txt": separated(delimiter="|"),
    "spaced.csv": "image, caption\n" + "".join(f'{n}, "{t.replace(chr(34), chr(34) * 2)}"\n' for n, t in ROWS),
    "mark.csv": separated().encode("utf-8-sig"),
    "utf16.csv": separated(delimiter="\t").encode("utf-16"),
    "utf16_be.csv": separated().encode("utf-16-be"),
    "utf16_le.csv": separated().encode("utf-16-le"),
    "windows.csv,encoding=cp1252": separated().encode("cp1252"),
    "packed.csv.gz": gzip.compress(separated().encode()),
    "packed.jsonl.gz": gzip.compress("\n".join(map(json.dumps, records())).encode()),
    "open_clip.csv": separated([["filepath", "title"], *ROWS], "\t"),
    "metadata.csv": separated([["file_name", "text"], *ROWS]),
    "any_case.csv": separated([["Image", "CAPTION"], *ROWS]),
    "both_names.csv": separated([["title", "image", "caption"], *(["x", *row] for row in ROWS)]),
    "index.csv": separated([["", *HEADER], *([i, *row] for i, row in enumerate(ROWS))]),
    "named.csv,image=Bild 1,caption=Beschreibung": separated([["Bild 1", "Beschreibung"], *ROWS], ";"),
    "named_case.csv,caption=TITLE": separated([["image", "title", "text"], *([*row, "x"] for row in ROWS)]),
    "metadata.jsonl": "\n".join(map(json.dumps, records("file_name", "text"))) + "\n\n",
    "lines.json": "\n".join(map(json.dumps, records())),
    "list.json": json.dumps(records()),
    "wrapped.json": json.dumps({"version": 1, "data": records("filename", "title")}),
    "by_name.json": json.dumps(dict(ROWS)),
    "pandas.json": json.dumps({h: {str(i): row[k] for i, row in enumerate(ROWS)} for k, h in enumerate(HEADER)}),
    "columns.json": json.dumps({h: [row[k] for row in ROWS] for k, h in enumerate(HEADER)}),
    "split.json": json.dumps({"columns": HEADER, "index": [0, 1, 2, 3], "data": ROWS}),
    "a_list.jsonl": json.dumps(records(), indent=1),
    "rows.json": json.dumps({str(i): row for i, row in enumerate(records())}),
    "rows_by_name.json": json.dumps({name: {"Caption": text, "w": 1} for name, text in ROWS}),
    "spaces.csv": separated([["Image Path", "caption"], *ROWS]),
    "excel.csv": "sep=|\r\n" + separated(delimiter="|"),
    "backslash.csv": separated([HEADER, *([".\\" + n.replace("/", "\\"), t] for n, t in ROWS)]),
}


def loaded(folder, written, content):
    path = folder / written.split(",")[0]
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return data.load(f"pairs:{folder}/{written}")


@pytest.mark.parametrize("written", GOOD)
def test_the_same_pairs_from_every_form(written, folder):
    split = loaded(folder, written, GOOD[written]).splits["all"]
    assert list(split.b.texts) == TEXTS
    assert split.ids.tolist() == NAMES
    np.testing.assert_array_equal(split.a.read(np.array([2]))[0], np.asarray(mock.picture(2)))


def test_parquet(folder):
    arrow = pytest.importorskip("pyarrow", reason="needs pip install -e '.[tables]'")
    from pyarrow import parquet

    columns = {"file_name": NAMES, "texts": [[t, t.upper()] for t in TEXTS], "n": [1, None, 2, 3]}
    parquet.write_table(arrow.table(columns), folder / "x.parquet")
    source = data.load(f"pairs:{folder / 'x.parquet'}")
    assert list(source.splits["all"].b.texts) == [each for t in TEXTS for each in (t, t.upper())]
    assert source.splits["all"].b.describe(2).endswith("x.parquet, row 2")
    assert any(note.endswith(": n") for note in source.notes)
    content = (folder / "x.parquet").read_bytes()
    (folder / "x.parquet").write_bytes(content[:200])
    with pytest.raises(DataError, match=r"x\.parquet: "):
        data.load(f"pairs:{folder / 'x.parquet'}")


def test_images_in_a_parquet_file(folder):
    arrow = pytest.importorskip("pyarrow", reason="needs pip install -e '.[tables]'")
    from pyarrow import parquet

    images = [{"bytes": (folder / name).read_bytes(), "path": "same.png"} for name in NAMES[:3]]
    images += [{"bytes": None, "path": NAMES[3]}]
    columns = {"image": images, "sentences": [[{"raw": text, "id": 1}] for text in TEXTS]}
    for name in ("x", "y"):
        parquet.write_table(arrow.table(columns), folder / f"{name}.parquet")
    source = data.load(f"pairs:train={folder}/x.parquet", on_bad_sample="skip")
    train = source.splits["train"]
    assert train.ids.tolist() == ["x.parquet/1", "x.parquet/2", "x.parquet/3", NAMES[3]]
    assert list(train.b.texts) == TEXTS
    for number, pixels in enumerate(train.a.read(np.arange(4))):
        np.testing.assert_array_equal(pixels, np.asarray(mock.picture(number)))
    images[1]["bytes"] = b"no picture"
    parquet.write_table(arrow.table({"image": images, "text": TEXTS}), folder / "x.parquet")
    (problem,) = data.load(f"pairs:{folder}/x.parquet", on_bad_sample="skip").problems
    assert "x.parquet, row 2: " in problem
    parquet.write_table(arrow.table({"image": NAMES, "text": [{"a": 1}] * 4}), folder / "x.parquet")
    with pytest.raises(DataError, match="row 1: "):
        data.load(f"pairs:{folder}/x.parquet")


def test_damaged_parquet_is_read_or_named(tmp_path):
    arrow = pytest.importorskip("pyarrow", reason="needs pip install -e '.[tables]'")
    from pyarrow import parquet

    path = tmp_path / "x.parquet"
    parquet.write_table(arrow.table({"image": NAMES, "caption": [[text] for text in TEXTS]}), path)
    whole, messages = path.read_bytes(), []
    for place in (*range(4, 40), *range(len(whole) - 40, len(whole))):  # a page's header, and the end of the file
        for flipped in (1, 2, 128):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ flipped]) + whole[place + 1 :])
            try:
                tables.read_table(path, required=("image", "caption"), bad=BadSamples("skip"))
            except DataError as error:
                messages.append(str(error))
    assert len(messages) > 20
    assert all("x.parquet" in message for message in messages)


def test_a_workbook(folder):
    openpyxl = pytest.importorskip("openpyxl", reason="needs pip install -e '.[tables]'")
    book = openpyxl.Workbook()
    book.active.append([])
    for row in ([*HEADER, "note"], *([*row, 7] for row in ROWS)):
        book.active.append(row)
    book.create_sheet("empty")
    book.save(folder / "x.xlsx")
    source = data.load(f"pairs:{folder / 'x.xlsx'}")
    assert list(source.splits["all"].b.texts) == TEXTS
    assert source.splits["all"].b.describe(1).endswith("x.xlsx, row 2 (sheet row 4)")
    book["empty"].append(["image", "caption"])
    book["empty"].append([NAMES[3], "other"])
    book.save(folder / "x.xlsx")
    with pytest.raises(DataError, match=r"'Sheet', 'empty'.*sheet=Sheet"):
        data.load(f"pairs:{folder / 'x.xlsx'}")
    assert data.load(f"pairs:{folder / 'x.xlsx'},sheet=empty").splits["all"].b.texts == ("other",)
    with pytest.raises(DataError, match="'none'"):
        data.load(f"pairs:{folder / 'x.xlsx'},sheet=none")
    content = bytearray((folder / "x.xlsx").read_bytes())
    for damaged in (content[:500], content.replace(b"workbook.xml", b"workbooq.xml"), bytes(200).join([content])[:-40]):
        (folder / "x.xlsx").write_bytes(damaged)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(DataError, match=r"x\.xlsx: ") as error:
                data.load(f"pairs:{folder / 'x.xlsx'}")
        assert "UTF-8 text" not in str(error.value)


SEVERAL = {
    "python": ["image,caption", 'p/im0.png,"[\'a dog\', ""it\'s brown""]"', "p/im1.png,[sic]"],
    "json": ["image,caption", 'p/im0.png,"[""a dog"", ""it\'s brown"", null]"', "p/im1.png,[sic]"],
    "numpy": ["image,caption", 'p/im0.png,"[\'a dog\'\n ""it\'s brown""]"', "p/im1.png,[sic]"],
    "numbered": ["image,caption_1,caption_2,Caption 3", "p/im0.png,a dog,,it's brown", "p/im1.png,,[sic],"],
    "one and numbered": ["image,text,text2", "p/im0.png,a dog,it's brown", "p/im1.png,[sic],"],
    "rows": ["image,caption", "p/im0.png,a dog", "p\\im0.png,it's brown", "p/im1.png,[sic]"],
    "file names twice": ['{"p/im0.png": "a dog", "p/im0.png": ["it\'s brown"],', '"p/im1.png": "[sic]"}'],
    "objects": ["image;caption", 'p/im0.png;[{"raw": "a dog"}, {"raw": "it\'s brown"}]', "p/im1.png;[sic]"],
    "plural": ["image,captions,caption_id", "p/im0.png,\"['a dog', 'it\\'s brown']\",4", "p/im1.png,[sic],5"],
}


@pytest.mark.parametrize("case", SEVERAL)
def test_several_captions_of_an_image(case, folder):
    split = loaded(folder, "x.csv", "\n".join(SEVERAL[case])).splits["all"]
    assert split.b.texts == ("a dog", "it's brown", "[sic]")
    assert split.b_to_a.tolist() == [0, 0, 1]


def test_several_captions_of_an_item(folder):
    rows = "item,image,caption_1,caption_2\nx,p/im0.png,a,b\nx,p\\im1.png,,\ny,p/im2.png,\"['c', 'd']\",\n"
    split = loaded(folder, "x.csv", rows).splits["all"]
    assert split.b.texts == ("a", "b", "c", "d")
    assert split.b_to_a.tolist() == [0, 0, 1, 1]


def test_ambiguous_cells_are_noted(folder):
    rows = "image,caption\np/im0.png,nan\np/im1.png,\"['a', 'b]\"\np/im2.png,[sic]\n"
    notes = loaded(folder, "x.csv", rows).notes
    assert len(notes) == 2
    assert "nan" in notes[0]
    assert "row 1" in notes[0]
    assert "list" in notes[1]
    assert "row 2" in notes[1]


def test_quotes_in_tabs_swallow_no_rows(folder):
    """A quote at the beginning of a field would open one that ends rows later."""
    rows = [HEADER, ["p/im0.png", '"one'], ["p/im1.png", "two"], ["p/im2.png", 'three"']]
    assert loaded(folder, "x.tsv", bare(rows, "\t")).splits["all"].b.texts == ('"one', "two", 'three"')
    rows[2][1] = "two\nlines"
    assert loaded(folder, "x.tsv", separated(rows, "\t")).splits["all"].b.texts == ('"one', "two\nlines", 'three"')


def test_a_file_for_each_split(folder):
    (folder / "other" / "p").mkdir(parents=True)
    mock.picture(7).save(folder / "other" / "p" / "im0.png")
    for name, rows in (("a.csv", ROWS[:2]), ("b.tsv", ROWS[2:]), ("other/c.csv", [["p/im0.png", "z", "q"]])):
        mock.write_csv(folder / name, [HEADER + ["split"] * (len(rows[0]) - 2), *rows])
    source = data.load(f"pairs:train={folder}/a.csv,val={folder}/b.tsv,test={folder}/other/c.csv")
    assert {name: split.ids.tolist() for name, split in source.splits.items()} == {
        "train": ["p/im0.png", "p/im1.png"],
        "val": ["p/im2.png", "p/im3.png"],
        "test": ["other/p/im0.png"],
    }
    np.testing.assert_array_equal(source.splits["test"].a.read(np.array([0]))[0], np.asarray(mock.picture(7)))
    assert any(note.endswith(": split") for note in source.notes)
    assert list(data.load(f"pairs:train={folder}/a.csv").splits) == ["train"]
    mock.write_csv(folder / "b.tsv", [HEADER, ROWS[0]])
    with pytest.raises(DataError, match=r"b\.tsv, row 1\b.*'val'.*'train'.*a\.csv"):
        data.load(f"pairs:train={folder}/a.csv,val={folder}/b.tsv")


def test_a_json_list_for_each_split(folder):
    (folder / "x.json").write_text(json.dumps({"train": records()[:3], "validation": records()[3:]}))
    splits = data.load(f"pairs:{folder}/x.json").splits
    assert {name: split.ids.tolist() for name, split in splits.items()} == {"train": NAMES[:3], "val": NAMES[3:]}
    (folder / "x.json").write_text('{"1": {"image": "p/im0.png", "caption": "a"}, "1": {"caption": "b"}}')
    with pytest.raises(DataError, match=r"\.json: .*twice"):
        data.load(f"pairs:{folder}/x.json")


def test_images_elsewhere(folder):
    (folder / "t").mkdir()
    rows = [["im0.png", "a"], [str(folder / "p" / "im1.png"), "b"], ["..\\p\\im2.png", "c"]]
    mock.write_csv(folder / "t" / "x.csv", [HEADER, *rows])
    source = data.load(f"pairs:{folder}/t/x.csv,root={folder}/p")
    assert source.splits["all"].ids.tolist() == ["im0.png", "im1.png", "im2.png"]
    for row, message in zip(rows, ("no such file", "leads out", "leads out"), strict=True):
        mock.write_csv(folder / "t" / "y.csv", [HEADER, row])
        with pytest.raises(DataError, match=rf"row 1 .*{message}.* add root="):
            data.load(f"pairs:{folder}/t/y.csv")
    with pytest.raises(DataError, match="root="):
        data.load(f"pairs:{folder}/t/x.csv,root={folder}/q")


def test_a_name_with_a_backslash_in_it(folder):
    mock.picture(5).save(folder / "a\\b.png")
    split = loaded(folder, "x.csv", separated([HEADER, ["a\\b.png", "x"]])).splits["all"]
    assert split.ids.tolist() == ["a\\b.png"]


def test_absolute_paths_inside_are_one_with_relative_ones(folder):
    rows = [HEADER, [str(folder / NAMES[0]), "a"], [NAMES[0], "b"], ["p\\..\\p\\im0.png", "c"]]
    assert loaded(folder, "x.csv", separated(rows[:3])).splits["all"].ids.tolist() == [NAMES[0]]


def test_a_name_that_starts_with_two_dots_is_relative_to_its_table(folder):
    (folder / "t").mkdir()
    rows = [HEADER, *([f"../{name}", text] for name, text in ROWS), ["p/im0.png", "another"]]
    mock.write_csv(folder / "t" / "x.csv", rows)
    with pytest.raises(DataError, match=rf"add root={re.escape(str(folder))} "):
        data.load(f"pairs:{folder}/t/x.csv")
    split = data.load(f"pairs:{folder}/t/x.csv,root={folder}").splits["all"]
    assert split.ids.tolist() == NAMES  # one spelling for "../p/im0.png" and "p/im0.png"
    assert len(split.b) == len(ROWS) + 1
    for name in ("../../q.png", "../../../etc/passwd"):
        mock.write_csv(folder / "t" / "y.csv", [HEADER, [name, "x"]])
        with pytest.raises(DataError, match=r"add root=DIR"):
            data.load(f"pairs:{folder}/t/y.csv,root={folder}")


TABLE = separated()
# text after pairs:FOLDER/ -> (content, parts of the message)
REFUSED = {
    "x.csv": (TABLE.encode("cp1252"), ["line 3", "not UTF-8", "encoding=cp1252"]),
    "x.csv,encoding=cp1253x": (TABLE, ["encoding=cp1253x is not known", "cp1252"]),
    "x.csv,encoding=ascii": (TABLE, ["line 3", "not ascii", "another encoding"]),
    "two.csv": (
        separated([["image", "title", "text"], *([*row, "x"] for row in ROWS)]),
        ["'title' and 'text'", ",caption=title or ,caption=text"],
    ),
    "two_images.csv": (
        separated([["filename", "filepath", "text"], *([row[0], *row] for row in ROWS)]),
        ["'filename' and 'filepath'", ",image=filename"],
    ),
    "case.csv": (
        separated([["image", "Text", "text"], *([*row, "x"] for row in ROWS)]),
        ["'Text' and 'text'", ",caption=Text"],
    ),
    "x.csv,caption=comment": (TABLE, ["'comment'", "found image, caption"]),
    "url.csv": (
        separated([["url", "caption"], *ROWS]),
        ["'url'", "img2dataset --url_list=", "--url_col=url", "webdataset:DIR"],
    ),
    "urls.csv": (separated([HEADER, ["https://a.b/c.png", "x"]]), ["row 1", "https://a.b/c.png", "img2dataset"]),
    "drive.csv": (separated([HEADER, ["D:\\x\\p\\im0.png", "x"]]), ["another computer", "'p/im0.png'"]),
    "share.csv": (separated([HEADER, ["\\\\nas\\q.png", "x"]]), ["another computer", "relative to"]),
    "out.csv": (separated([HEADER, ["..\\q.png", "x"]]), ["leads out", "root=DIR"]),
    "upper.csv": (separated([HEADER, ["p/IM0.PNG", "x"]]), ["p/im0.png"]),
    "upper_folder.csv": (separated([HEADER, ["P/im0.png", "x"]]), ["the folder is"]),
    "ending.csv": (separated([HEADER, ["p/im0", "x"]]), ["p/im0.png"]),
    "folder.csv": (separated([HEADER, ["im0.png", "x"]]), ["p/im0.png", "add root=", "/p"]),
    "only.csv": (separated([["image"], NAMES[:1]]), ["image, caption"]),
    "headless.csv": (separated(ROWS), ["found p/im0.png", "header"]),
    "other.csv": (separated([["image", "Beschreibung"], *ROWS]), [",caption=COLUMN"]),
    "unquoted.csv": ("image,caption\np/im0.png,a, b\n", ["row 1 (line 2)", "3 fields", "quote fields"]),
    "unquoted.ssv": ("image;caption\np/im0.png;a; b\n", ["3 fields", "semicolons"]),
    "half.csv": (separated([[*HEADER, "split"], [*ROWS[0], "train"], [*ROWS[1], ""]]), ["row 2 (line 3)", "no split"]),
    "x.pkl": (b"\x80\x04\x95\x10", ["pandas.read_pickle", ".to_csv("]),
    "x.xls": (b"\xd0\xcf\x11\xe0" + bytes(100), ["old Excel", ".xlsx"]),
    "x.ods": (b"PK\x03\x04" + bytes(100), ["x.ods"]),
    "x.csv.bz2": (b"BZh91AY&SY\xff\xfe", ["bzip2", "unpack it"]),
    "x.csv.gz": (gzip.compress(TABLE.encode())[:-12], ["x.csv.gz"]),
    "x.json": ('{"images": [{"id": 1}], "annotations": []}', ["COCO", "coco:DIR"]),
    "k.json": ('{"images": [{"filename": "x", "sentences": []}], "dataset": "x"}', ["karpathy:DIR"]),
    "broken.json": ('[{"image": "p/im0.png",', ["broken.json, line 1", "not valid JSON"]),
    "number.json": ("[1, 2]", ["found "]),
    "empty.jsonl": ("\n", ["empty file"]),
    "line.jsonl": ('{"image": "p/im0.png", "caption": "x"}\n{"image": "p/im', ["row 2 (line 2)", "not a JSON object"]),
    "x.parquet,encoding=cp1252": (b"PAR1" + bytes(20), ["encoding=cp1252"]),
    "x.parquet,sheet=a": (b"PAR1" + bytes(20), ["sheet=a"]),
    "x.csv,encoding=utf-16": (TABLE.encode("cp1252"), ["not utf-16 text", "another encoding"]),
    "x.npy": (b"\x93NUMPY\x01\0v\0" + bytes(40), ["an array of NumPy", "embeddings:image="]),
    "x.tar": (bytes([255]) * 257 + b"ustar" + bytes(100), ["a tar archive", "webdataset:"]),
    "x.bin": (bytes([1, 200, 3]) * 50 + b"\0", ["zero bytes", "name a table"]),
    "lists.json": (json.dumps(ROWS), ["found ", '{"image": ']),
    "split.json": (json.dumps({"train": [ROWS[0]], "val": [ROWS[1]]}), ["split.json"]),
    "images.json": (json.dumps([{"image": NAMES[:2], "caption": "x"}]), ["2 files", "column image"]),
    "x.csv,sheet=a": (TABLE, ["sheet=a"]),
    "x.csv,train=y.csv": (TABLE, ["name one file", "train=train.csv,val=val.csv"]),
    "x.csv,coption=a": (TABLE, ["'coption'"]),
    "x.csv,root=": (TABLE, ["'root' has no value"]),
}  # fmt: skip


@pytest.mark.parametrize("written", REFUSED)
def test_bad_tables_are_errors_with_a_hint(written, folder):
    content, parts = REFUSED[written]
    with pytest.raises((DataError, ConfigError)) as error:
        loaded(folder, written, content)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    for part in parts:
        assert part in message


def test_a_folder_or_a_misspelt_file_gets_the_right_name(folder):
    (folder / "captions.csv").write_text(TABLE)
    with pytest.raises(DataError, match=r"captions\.csv"):
        data.load(f"pairs:{folder}")
    with pytest.raises(DataError, match=r"captions\.csv\?"):
        data.load(f"pairs:{folder}/caption.csv")


def test_the_header_and_the_space_around_values_of_any_table(folder):
    (folder / "x.csv").write_bytes(separated([["image", "label"], ["a.png ", " b"], ["c", "d"]], ";").encode("utf-16"))
    assert tables.read_header(folder / "x.csv") == ["image", "label"]
    rows, _ = tables.read_table(folder / "x.csv", required=("label", "image"), bad=BadSamples("error"))
    assert [(row.values, row.padded) for row in rows] == [
        ({"label": "b", "image": "a.png"}, ("label", "image")),
        ({"label": "d", "image": "c"}, ()),
    ]


def test_lines_are_counted_from_the_first(folder):
    with pytest.raises(DataError, match=r"row 2 \(line 4\): "):
        loaded(folder, "x.csv", "sep=;\n" + separated([HEADER, ROWS[0], ["gone.png", "x"]], ";"))


def test_a_configuration_takes_all_of_the_spec():
    spec = "pairs:train=a.csv,val=b.csv,image=Bild 1"
    assert parse_arg(f"data={spec},runlocal").data == spec


def test_archives_that_unpack_without_end_are_refused(folder, monkeypatch):
    monkeypatch.setattr("alignment_jax.data.text_files._FREE_SIZE", 1 << 16)
    (folder / "x.csv.gz").write_bytes(gzip.compress(bytes(1 << 22)))
    with zipfile.ZipFile(folder / "x.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", bytes(1 << 22))
    for name in ("x.csv.gz", "x.xlsx"):
        with pytest.raises(DataError, match=rf"{name}: unpacks to "):
            data.load(f"pairs:{folder / name}")


def test_a_link_out_of_the_root_is_refused(folder):
    (folder / "q").mkdir()
    (folder / "q" / "a.png").symlink_to(folder / NAMES[0])
    mock.write_csv(folder / "x.csv", [HEADER, ["a.png", "x"]])
    with pytest.raises(DataError, match=r"symbolic link"):
        data.load(f"pairs:{folder}/x.csv,root={folder}/q")


def test_the_page_lists_the_names_that_are_found():
    from alignment_jax.data.column_roles import ALIASES

    page = (pathlib.Path(__file__).parents[2] / "docs" / "data" / "own_pairs.md").read_text(encoding="utf-8")
    for role in ("image", "audio", "caption"):
        # A role may have several lines: videos are listed apart.
        listed = re.findall(rf"^- {role}(?:,[^:`]*)?: (.*?)(?=\n- |\n\n)", page, flags=re.MULTILINE | re.DOTALL)
        assert re.findall("`([^`]+)`", " ".join(listed)) == list(ALIASES[role])


def test_other_sources_read_the_same_tables(folder):
    rows = [["File_Name", "class"], *([name, "ab"[i % 2]] for i, name in enumerate(NAMES))]
    (folder / "x.csv").write_bytes(separated(rows, ";").replace("/", "\\").encode("utf-16"))
    source = data.load(f"labelled:{folder / 'x.csv'}")
    assert source.label_names == ("a", "b")
    (folder / "x.csv").write_bytes(separated([["image", "label"], [NAMES[0], "é"]]).encode("cp1252"))
    with pytest.raises(DataError, match="not UTF-8") as error:
        data.load(f"labelled:{folder / 'x.csv'}")
    assert "encoding=" not in str(error.value)  # an option that this source has not
    (folder / "x.csv").write_text(separated([["image", "class", "category"], [NAMES[0], "a", "b"]]))
    with pytest.raises(DataError, match="'class' and 'category'"):
        data.load(f"labelled:{folder / 'x.csv'}")


def test_the_command_gives_a_one_line_error(folder, capsys):
    (folder / "x.csv").write_text(separated([HEADER, *(["p/im0", "x"] for _ in range(3))]))
    assert main(["data", "--data", f"pairs:{folder / 'x.csv'}"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
