"""Feeds damaged data sets to the readers and reports every wrong answer.

    python benchmarks/soak/fuzz_readers.py --minutes 60 --page benchmarks/results/reliability.md

A small valid set of every layout is written, some of its bytes, fields, numbers or files are changed, and it is opened
and read to the end, stopping at bad samples or skipping them. A good answer is a data set, or one line that names what
is wrong. A traceback, more than --patience seconds, or memory that keeps growing is not. What fails is kept, with the
seed that makes it again.
"""

from __future__ import annotations

import argparse
import collections
import gc
import json
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "tests" / "data"), str(ROOT / "benchmarks")]

import mock_data_sets as mock  # noqa: E402
import mock_paper_sets as paper_sets  # noqa: E402
import numpy as np  # noqa: E402
import soundfile  # noqa: E402
from sections import write_section  # noqa: E402

from alignment_jax import data  # noqa: E402
from alignment_jax.core.errors import UserError  # noqa: E402


def recordings(folder: pathlib.Path) -> str:
    names = mock.pictures(folder)
    rng = np.random.default_rng(0)
    rows = [["audio", "image", "label", "split"]]
    for i, name in enumerate(names):
        soundfile.write(folder / f"{i}.wav", 0.1 * rng.standard_normal(400), 8000)
        rows.append([f"{i}.wav", name, "xyz"[i % 3], mock.split_of(i)])
    mock.write_csv(folder / "manifest.csv", rows)
    return f"av:{folder / 'manifest.csv'}"


def features(folder: pathlib.Path) -> str:
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=(8, width)).astype(np.float32) for name, width in (("a", 3), ("b", 4), ("c", 2))}
    split = np.array([mock.split_of(i) for i in range(8)])
    np.savez_compressed(folder / "f.npz", **arrays, label=np.arange(8) % 3, split=split)
    return f"features:{folder / 'f.npz'}"


# Name -> writes a small valid set into an empty folder and returns its SPEC; all that the readers' tests know.
LAYOUTS: dict[str, Callable[[pathlib.Path], str]] = {
    **{name: write for name, (write, *_) in mock.MOCKS.items() if name != "synthetic"},
    "features": features,
    "av": recordings,
    **{name: found.write for name, found in paper_sets.MOCKS.items()},
}
# Replacements for a field of a table or a value of a JSON file.
WORDS = [
    "", " ", "\0", "../x", "/etc/passwd", "..", ".", "a" * 300, "\u202e\u05e9\u05dc\u05d5\u05dd", "\U0001f642" * 40,
    "\ufeff", '"', "'", ",", "\r", "\n", "\u2028", "NaN", "-1", "1e999", "word " * 20_000, "<script>", "%s%n", "\\",
    "\ud800", "train", "im0.png", "con", "~", "$HOME", "0" * 400,
]  # fmt: skip
VALUES = [None, True, -1, 10**30, 1e308, float("nan"), [], {}, [[]], [None], {"raw": 1}, *WORDS]
ARRAYS: list[Callable[[np.ndarray], np.ndarray]] = [
    lambda x: x[:0],
    lambda x: x[:-1],
    lambda x: np.concatenate([x, x]),
    lambda x: x[None],
    lambda x: x.reshape(-1),
    lambda x: np.zeros_like(x),
    lambda x: x.astype("S"),
    lambda x: x.astype(str),
    lambda x: np.full(x.shape, np.nan),
    lambda x: np.full(x.shape, np.inf, np.float16),
    lambda x: np.full(x.shape, -(2**63), np.int64),
    lambda x: np.full(x.shape, 2**64 - 1, np.uint64),
    lambda x: np.ones(x.shape, np.complex64),
    lambda x: np.ones(x.shape, bool),
    lambda x: np.zeros(x.shape, "datetime64[s]"),
    lambda x: np.zeros(x.shape, [("f", np.float32)]),
    lambda x: np.asarray(x[0]),
    lambda x: np.array([b"\xff\xfe"] * len(x)) if x.ndim else x,
]


def change_bytes(path: pathlib.Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 1, 2, 8])):
        at = rng.randrange(len(content) + 1)
        how = rng.randrange(5)
        if how == 0 and content:
            content[at % len(content)] ^= 1 << rng.randrange(8)
        elif how == 1:
            content[at:at] = rng.randbytes(rng.randrange(1, 9))
        elif how == 2:
            del content[at : at + rng.randrange(1, 64)]
        elif how == 3:
            del content[at:]
        else:  # a part of it once more, elsewhere
            content[at:at] = content[rng.randrange(len(content) + 1) :][:64]
    path.write_bytes(content)


def change_table(path: pathlib.Path, rng: random.Random) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    for _ in range(rng.choice([1, 1, 3])):
        if not lines:
            break
        at = rng.randrange(len(lines))
        between = "\t" if "\t" in lines[at] else ","
        fields = lines[at].split(between)
        how = rng.randrange(5)
        if how == 0:
            fields[rng.randrange(len(fields))] = rng.choice(WORDS)
        elif how == 1:
            fields.append(rng.choice(WORDS))
        elif how == 2:
            fields.pop(rng.randrange(len(fields)))
        lines[at] = between.join(fields)
        if how == 3:
            lines.insert(rng.randrange(len(lines)), lines[at])
        elif how == 4:
            lines.pop(at)
    path.write_bytes(rng.choice(["\n", "\r\n", "\r"]).join(lines).encode("utf-8", "surrogatepass"))


def change_json(path: pathlib.Path, rng: random.Random) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    places: list[tuple] = []

    def walk(value):
        for key in value if isinstance(value, dict) else range(len(value)):
            places.append((value, key))
            if isinstance(value[key], dict | list):
                walk(value[key])

    walk(content)
    holder, key = rng.choice(places)
    holder[key] = rng.choice(VALUES)
    path.write_text(json.dumps(content), encoding="utf-8")


def change_arrays(path: pathlib.Path, rng: random.Random) -> None:
    with np.load(path) as found:
        arrays = {name: found[name] for name in found.files}
    for name in rng.sample(sorted(arrays), rng.choice([1, 1, 2])):
        if rng.random() < 0.15:
            arrays.pop(name)
            continue
        try:
            arrays[name] = rng.choice(ARRAYS)(arrays[name])
        except (ValueError, TypeError, OverflowError, IndexError):
            arrays[name] = np.array([{"an": "object"}], object)
    np.savez(path, **arrays)


def change_place(path: pathlib.Path, rng: random.Random) -> None:
    """The file is gone, empty, a folder, a link out of the folder, a link to itself, or another file of the set."""
    others = [other for other in path.parent.iterdir() if other.is_file() and other != path]
    how = rng.randrange(6)
    content = rng.choice(others).read_bytes() if others and how == 5 else b""
    path.unlink()
    if how == 1:
        path.mkdir()
    elif how == 2:
        outside = path.parent.parent / "outside"
        outside.write_bytes(b"not in the folder")
        path.symlink_to(outside)
    elif how == 3:
        path.symlink_to(path.name)
    elif how in (4, 5):
        path.write_bytes(content)


def mutate(folder: pathlib.Path, rng: random.Random) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    # The one file that describes the others is where most can go wrong.
    main = [path for path in files if path.suffix in (".csv", ".tsv", ".lst", ".txt", ".json", ".npz", ".pkl", ".tar")]
    for _ in range(rng.choice([1, 1, 2])):
        path = rng.choice(main if main and rng.random() < 0.7 else files)
        if path.is_symlink() or not path.is_file():
            continue  # never written through a link
        special = {
            ".csv": change_table,
            ".txt": change_table,
            ".tsv": change_table,
            ".lst": change_table,
            ".json": change_json,
            ".npz": change_arrays,
        }
        change = special.get(path.suffix, change_bytes)
        if rng.random() < 0.4:
            change = rng.choice([change_bytes, change_place])
        try:
            change(path, rng)
        except Exception:  # already changed so that it cannot be changed this way once more
            if path.is_file() and not path.is_symlink():
                change_bytes(path, rng)


def read_all(spec: str, mode: str) -> str:
    """ "read", or "refused" with one line."""
    try:
        source = data.load(spec, on_bad_sample=mode)
        source = data.with_splits(source, seed=0)
        data.problems(source)
        for split in source.splits.values():
            for column in (split.a, split.b, split.c):
                if column is not None:
                    column.read(np.arange(len(column)))
    except UserError as error:
        if len(str(error).splitlines()) != 1:
            raise ValueError(f"not one line: {error!r}") from error
        return "refused"
    return "read"


def resident_mib() -> float:
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


class TooLong(Exception):
    """A reader that takes longer than its patience."""


def _too_long(number: int, frame: object) -> None:
    raise TooLong


def fuzz(
    minutes: float, seed: int, patience: int, kept: pathlib.Path
) -> tuple[collections.Counter, list[float], float]:
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGPROF, _too_long)  # in time of the processor: the machine may be busy
    counts: collections.Counter = collections.Counter()
    memory: list[float] = []
    slowest = 0.0
    base = pathlib.Path(tempfile.mkdtemp(prefix="fuzz-"))
    specs = {}
    for name, write in LAYOUTS.items():
        (base / name).mkdir(parents=True)
        specs[name] = write(base / name).replace(str(base / name), "{folder}")
    deadline = time.monotonic() + 60 * minutes
    number = 0
    while time.monotonic() < deadline:
        number += 1
        rng = random.Random(f"{seed}/{number}")
        name = rng.choice(list(LAYOUTS))
        folder = base / "changed" / "set"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(base / name, folder)
        mutate(folder, rng)
        spec = specs[name].replace("{folder}", str(folder))
        mode = rng.choice(["error", "skip"])
        started = time.monotonic()
        signal.setitimer(signal.ITIMER_PROF, patience)
        try:
            counts[name, read_all(spec, mode)] += 1
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            counts[name, "hung" if isinstance(error, TooLong) else "crashed"] += 1
            shutil.copytree(folder, kept / f"{seed}-{number}", symlinks=True, dirs_exist_ok=True)
            print(f"{name}, seed {seed}, number {number}, {mode}: {type(error).__name__}: {error}", flush=True)
            traceback.print_exc(limit=-3)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        slowest = max(slowest, time.monotonic() - started)
        if number % 200 == 0:
            gc.collect()
            memory.append(resident_mib())
    shutil.rmtree(base)
    return counts, memory, slowest


def table(counts: collections.Counter, memory: list[float], slowest: float, minutes: float) -> str:
    answers = ("read", "refused", "crashed", "hung")
    lines = [f"| layout | {' | '.join(answers)} |", "|---|" + "---:|" * len(answers)]
    lines += [f"| {name} | {' | '.join(str(counts[name, answer]) for answer in answers)} |" for name in LAYOUTS]
    lines += ["", f"{sum(counts.values())} damaged sets in {minutes:.0f} minutes; the slowest took {slowest:.1f} s."]
    if len(memory) > 1:
        # The first fifth fills caches; what comes after must stay.
        early, late = memory[len(memory) // 5], memory[-1]
        lines.append(f"Resident memory: {early:.0f} MiB after the first fifth, {late:.0f} MiB at the end.")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--patience", type=int, default=60, help="seconds of the processor after which a reader counts as hung"
    )
    parser.add_argument("--kept", type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()) / "fuzz-kept")
    parser.add_argument("--page", type=pathlib.Path, help="write the table into this page, part `fuzz`")
    options = parser.parse_args()
    counts, memory, slowest = fuzz(options.minutes, options.seed, options.patience, options.kept)
    text = table(counts, memory, slowest, options.minutes)
    print(text)
    if options.page:
        write_section("fuzz", text, page=options.page)
    bad = sum(count for (_, answer), count in counts.items() if answer in ("crashed", "hung"))
    if bad:
        sys.exit(f"{bad} bad answers; their files are in {options.kept}")


if __name__ == "__main__":
    main()
