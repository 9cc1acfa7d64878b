"""Small tables of samples to classify; each function returns the path of its table."""

import pathlib

import mock_data_sets as mock
import numpy as np
import soundfile

N = 30
CLASSES = ("angry", "happy", "sad")
SPLITS = ("train", "train", "train", "val", "test")


def recording(path: pathlib.Path, number: int) -> None:
    wave = np.random.default_rng(number).normal(size=800).clip(-1, 1)
    soundfile.write(path, 0.3 * wave, 8000)


def cells(number: int) -> dict[str, str]:
    return {
        "audio": f"{number}.wav",
        "image": f"{number}.png",
        "text": f"a post, number {number}",
        "label": CLASSES[number % 3],
        "split": SPLITS[number % 5],
    }


def table(
    folder: pathlib.Path, columns: tuple[str, ...], *, name: str = "samples.csv", changes=lambda number, row: row
) -> pathlib.Path:
    """A table with these columns and the files it names; `changes` (number, row) -> row."""
    rows = []
    for number in range(N):
        row = changes(number, cells(number))
        rows.append([row[column] for column in columns])
        if "audio" in columns and not (folder / f"{number}.wav").exists():
            recording(folder / f"{number}.wav", number)
        if "image" in columns and not (folder / f"{number}.png").exists():
            mock.picture(number).save(folder / f"{number}.png")
    mock.write_csv(folder / name, [list(columns), *rows])
    return folder / name


def posts(folder: pathlib.Path) -> pathlib.Path:
    return table(folder, ("image", "text", "label", "split"), name="posts.csv")


def with_gaps(folder: pathlib.Path, columns: tuple[str, ...] = ("audio", "image", "label", "split")) -> pathlib.Path:
    """Every fourth sample lacks the first modality; of the others, every sixth beginning with number 1 the second."""

    def gaps(number, row):
        return {
            **row,
            columns[0]: "" if number % 4 == 0 else row[columns[0]],
            columns[1]: "" if number % 6 == 1 else row[columns[1]],
        }

    return table(folder, columns, name="gaps.csv", changes=gaps)
