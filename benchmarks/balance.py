"""Methods against unequal modalities on sets of digits: trains missing runs, writes docs/results.md and balance.md.

    python benchmarks/balance.py --data DIR --workdir runs/balance --jobs 2

DIR holds av_digits/manifest.csv, uci_mfeat/fou_mor.npz and uci_mfeat/pix_fou_mor.npz. Every method gets the same number
of settings, chosen on val (`--search`), and the same seeds. The runs are kept in the workdir, so an interrupted command
continues; `--write` only writes the pages, from the finished runs or, without them, from the kept rows. Each comparison
is made by `alignment-jax compare` with the command that the page shows.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from part_cost import cost_table, recorded_cost, run_in_parallel
from sections import RESULTS, write_section

from alignment_jax.cli.main import main as alignment_jax
from alignment_jax.compare import run_records as records
from alignment_jax.compare.summary import summarize, summarize_fusion
from alignment_jax.config import recipes
from alignment_jax.core.jsonl import read_rows
from alignment_jax.report import fusion_table, learning_table, table, to_markdown, write_text_atomic
from alignment_jax.sampling.orders import ORDERS

ROOT = pathlib.Path(__file__).resolve().parent.parent
KEPT = ROOT / "benchmarks" / "results" / "balance.jsonl"
PAGE = ROOT / "docs" / "balance.md"
BASELINE = "vanilla"
METHODS = (
    BASELINE,
    "curriculum",
    "anti_curriculum",
    "probabilistic",
    "ogm_ge",
    "ogm",
    "agm",
    "pmr",
    "gradient_blending",
    "mmpareto",
    "qmf",
    "modality_dropout",
    "unimodal_pretraining",
)


@dataclasses.dataclass(frozen=True)
class Part:
    """One comparison: its name and title, the config with its arguments, and further flags of the command."""

    name: str
    title: str
    config: str
    flags: tuple[str, ...] = ()

    @property
    def needs(self) -> str:
        """The file of the data."""
        return self.config.partition("data=")[2].partition(",")[0].partition(":")[2]


# Small encoders and few epochs: 13 methods on six sets, searched, in about 30 minutes of two cores.
DIGITS = "av_digits_bss.py:data=av:av_digits/manifest.csv"
SMALL = ("--config.model.encoder_a.widths=(8,16,32)", "--config.model.encoder_b.widths=(8,16,32)")
FULL = (*SMALL, "--config.train.duration=5 epochs", "--config.sampling.epochs=2", "--config.eval.interval=1 epochs")
# OGM-GE, AGM, PMR and MMPareto change gradients, and their papers train with SGD.
SGD = ("--config.optimizer.name=sgd", "--config.optimizer.learning_rate=0.1", "--config.optimizer.weight_decay=1e-4")
FEATURES = "classify_features.py"
PARTS = (
    Part("av", "Spoken and written", DIGITS, FULL),
    Part("av_weak", "spoken and written, weak audio", f"{DIGITS},noise=3.0", FULL),
    Part("av_weak_sgd", "spoken and written, weak audio, SGD", f"{DIGITS},noise=3.0", (*FULL, *SGD)),
    Part("av_tenth", "spoken and written, 10 % of the samples", f"{DIGITS},fraction=0.1", SMALL),
    Part("uci_2", "Fourier, morphology", f"{FEATURES}:data=features:uci_mfeat/fou_mor.npz"),
    Part("uci_3", "pixels, Fourier, morphology", f"{FEATURES}:data=features:uci_mfeat/pix_fou_mor.npz,modalities=3"),
)
SHOWN = 80  # columns of a command
HEAD = """## Balanced multimodal learning

Test accuracy of classifiers of digits: a spoken and a written digit (2,220 pairs for training, 180 for val, 300 for
test; "weak audio" adds white noise of three times the recording's RMS), and features of handwritten digits (UCI
multiple features: 1,000, 300, 300). `vanilla` is plain joint training. {seeds} seeds; {search}
Made by

    {command}

Differences are paired over seeds and test samples; * marks a 95 % interval without zero. {gains}

Encoders are small and trainings short. AdamW trains all but the column with SGD: it takes back most of a constant
factor on gradients, and the papers of OGM-GE, AGM, PMR and MMPareto train with SGD.
"""
COMMAND = "python benchmarks/balance.py --data DIR --workdir runs/balance --jobs 2"
GUIDE = """Difference of each method to plain joint training (`vanilla`), in points of test accuracy, on sets of
digits ([data, commands, limits](results.md#balanced-multimodal-learning)); * marks a 95 % interval without zero. The
methods are in the order to try: first by the number of sets with a gain minus that with a loss, then by the mean
difference.

{gains}
"""


def registered() -> set[str]:
    """The methods that `compare --methods` knows for these configs."""
    return {BASELINE, *ORDERS, *getattr(recipes, "BALANCING", {})}


def checked(methods: Sequence[str]) -> list[str]:
    """The methods, with the baseline first.

    Raises:
      SystemExit: a name is not registered.
    """
    known = registered()
    if unknown := [name for name in methods if name not in known]:
        raise SystemExit(f"unknown methods: {', '.join(unknown)}; registered: {', '.join(sorted(known))}")
    return list(dict.fromkeys([BASELINE, *methods]))


def flags(part: Part, methods: Sequence[str], seeds: int, search: int) -> list[str]:
    shared = [f"--methods={','.join(methods)}", f"--seeds={seeds}", *([f"--search={search}"] if search else [])]
    return [*shared, *part.flags]


def shown(part: Part, about: Mapping[str, Any]) -> str:
    """The command to type."""
    words = [
        f"--config={'configs/' + part.config}",
        *flags(part, about["methods"], len(about["seeds"]), about["search"]),
        f"--workdir=runs/balance/{part.name}",
    ]
    lines = ["alignment-jax compare", *(_broken(shlex.quote(word)) for word in words)]
    return "```bash\n" + " \\\n  ".join(lines) + "\n```"


def _broken(word: str) -> str:
    """The word over several lines, as a shell reads it, broken after commas."""
    if len(word) <= SHOWN:
        return word
    end = word.rindex(",", 0, SHOWN) + 1
    return f"{word[:end]}\\\n{_broken(word[end:])}"


def train(part: Part, data: pathlib.Path, workdir: pathlib.Path, arguments: Sequence[str]) -> None:
    """Makes the missing runs of a comparison.

    Raises:
      SystemExit: the data is missing, or the command failed.
    """
    if not (data / part.needs).is_file():
        raise SystemExit(f"{part.name}: {part.needs} is not in {data}; leave it out with --only")
    os.chdir(data)  # the page and the records name the data as the commands on the page do
    config = f"--config={ROOT / 'configs' / part.config}"
    with recorded_cost(workdir / part.name):
        status = alignment_jax(
            ["compare", config, f"--workdir={workdir / part.name}", "--stress=none", "--quiet", *arguments]
        )
    if status:
        raise SystemExit(status)


def kept_part(part: Part, folder: pathlib.Path) -> dict[str, Any] | None:
    """What the pages show of a comparison, as one plain row; None without a finished one in the folder."""
    about: dict[str, Any] | None = records.read_comparison(folder)
    if about is None or not about["complete"]:
        return None
    runs, _ = records.read_runs_and_trials(folder)
    runs = [run for run in runs if run["method"] in about["methods"]]
    methods, metric = about["methods"], about["metric"]
    rows = summarize(folder, runs, methods=methods, baseline=about["baseline"], metric=metric)
    return {
        "part": part.name,
        "about": {key: about[key] for key in ("methods", "seeds", "search", "modalities")},
        "fusion": summarize_fusion(folder, runs, methods=methods),
        "differences": {
            row.method: {key: row.to_json()[key] for key in ("difference", "low", "high", "verdict")}
            for row in rows
            if row.method != about["baseline"]
        },
    }


def keep(found: Sequence[dict[str, Any]], path: pathlib.Path) -> list[dict[str, Any]]:
    """Writes the rows into the file in the place of those of the same parts, and returns all of them."""
    by_name = {row["part"]: row for row in (*read_rows(path), *found)}
    rows = [by_name[part.name] for part in PARTS if part.name in by_name]
    write_text_atomic(path, "".join(json.dumps(row) + "\n" for row in rows))
    return rows


def difference_text(found: Mapping[str, Any] | None) -> str | None:
    """As in "+1.2 *", the star for an interval without zero."""
    if found is None:
        return None
    return f"{found['difference']:+.1f}" + (" *" if found["verdict"] in ("better", "worse") else "")


def order_to_try(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The methods of all parts, those with the most gains first; see `GUIDE`."""
    differences = [row["differences"] for row in rows]
    common = [name for name in METHODS if differences and all(name in found for found in differences)]

    def place(name: str) -> tuple[int, float]:
        words = [found[name]["verdict"] for found in differences]
        mean = sum(found[name]["difference"] for found in differences) / len(differences)
        return words.count("better") - words.count("worse"), mean

    return sorted(common, key=place, reverse=True)


def differences_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Methods by data sets: differences to vanilla, and in how many sets fusion beats its best modality."""
    titles = {part.name: part.title for part in PARTS}
    columns = ["method", *(titles[row["part"]] for row in rows), "fusion beats its best modality"]
    fused = [{one["method"]: one["verdict"] for one in row["fusion"]} for row in rows]
    lines = []
    for method in [BASELINE, *order_to_try(rows)]:
        beats = sum(found.get(method) == "beats" for found in fused)
        accuracy = [
            f"{next(one['accuracy']['mean'] for one in row['fusion'] if one['method'] == method):.1f}" for row in rows
        ]
        cells = accuracy if method == BASELINE else [difference_text(row["differences"].get(method)) for row in rows]
        lines.append([method, *cells, f"{beats} of {len(rows)}"])
    return to_markdown(table(columns, lines))


def gains_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Which methods gain or lose on some set, in one line each."""

    def named(verdict: str) -> list[str]:
        of_method = {name: sum(row["differences"][name]["verdict"] == verdict for row in rows) for name in order}
        return [f"`{name}` on {count} of {len(rows)} sets" for name, count in of_method.items() if count]

    order = order_to_try(rows)
    better, worse = named("better"), named("worse")
    found = [f"**A gain over `vanilla` is shown for {', '.join(better) if better else 'no method on any set'}.**"]
    found += [f"A loss is shown for {', '.join(worse)}."] if worse else []
    return "\n".join(found)


def results_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """The part of docs/results.md."""
    abouts = [row["about"] for row in rows]
    seeds, search = {len(about["seeds"]) for about in abouts}, {about["search"] for about in abouts}
    trials = f"{_range(search)} settings for each method, chosen on val." if any(search) else "no search."
    lines = [
        HEAD.format(seeds=_range(seeds), search=trials, command=COMMAND, gains=gains_text(rows)),
        differences_table(rows),
        "",
    ]
    parts = {part.name: part for part in PARTS}
    for row in rows:
        part, names = parts[row["part"]], row["about"]["modalities"]
        lines += [f"### Balance: {part.title}", "", shown(part, row["about"]), ""]
        lines += [to_markdown(fusion_table(row["fusion"], names)), ""]
        lines += [to_markdown(learning_table(row["fusion"], names)), ""]
    return "\n".join(lines)


def _range(numbers: set[int]) -> str:
    return f"{min(numbers)}" if len(numbers) == 1 else f"{min(numbers)} to {max(numbers)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, help="folder with av_digits and uci_mfeat")
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--methods", default=",".join(METHODS), help="separated by commas")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--search", type=int, default=2, help="settings for each method; 0 for none")
    parser.add_argument("--only", help="names of comparisons, separated by commas")
    parser.add_argument("--jobs", type=int, default=1, help="comparisons at once")
    parser.add_argument("--train", action="store_true", help="write no page")
    parser.add_argument("--write", action="store_true", help="train nothing")
    parser.add_argument("--kept", type=pathlib.Path, default=KEPT, help="rows that the pages are made from")
    arguments = parser.parse_args()
    workdir = arguments.workdir.absolute()
    chosen = [part for part in PARTS if not arguments.only or part.name in arguments.only.split(",")]
    if not arguments.write:
        if arguments.data is None:
            parser.error("--data is missing: the folder with av_digits and uci_mfeat")
        methods, data = checked(arguments.methods.split(",")), arguments.data.absolute()
        if arguments.jobs > 1:
            again = [str(pathlib.Path(__file__).resolve()), f"--data={data}", f"--workdir={workdir}", "--train"]
            again += [f"--methods={','.join(methods)}", f"--seeds={arguments.seeds}", f"--search={arguments.search}"]
            run_in_parallel([part.name for part in chosen], again, jobs=arguments.jobs)
        else:
            for part in chosen:
                train(part, data, workdir, flags(part, methods, arguments.seeds, arguments.search))
    if arguments.train:
        return
    found = [row for part in PARTS if (row := kept_part(part, workdir / part.name)) is not None]
    rows = keep(found, arguments.kept)
    print(results_text(rows))
    if costs := cost_table([workdir / part.name for part in PARTS]):
        print(costs)
    if arguments.kept == KEPT:
        write_section("balance", results_text(rows), page=RESULTS)
        write_section("balance", f"{GUIDE.format(gains=gains_text(rows))}\n{differences_table(rows)}", page=PAGE)


if __name__ == "__main__":
    main()
