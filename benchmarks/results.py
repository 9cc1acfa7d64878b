"""Trains missing runs and writes their parts of docs/results.md and choose.md, and of claims.md and noise.md.

    python benchmarks/results.py --data DIR --workdir runs/results --jobs 2

DIR holds flickr8k_mini, multi30k_text and v7w_mini with their features.npz, and av_digits/manifest.csv; a comparison
whose data is not there is left out. The runs are kept in the workdir, so an interrupted command continues where it
stopped; `--write` only writes the page, from the finished runs. `--jobs 2` makes two comparisons at once, each on half
of the cores. The same comparisons are made by `alignment-jax
compare` with the commands that the page shows.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import pathlib
import shlex
import sys
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from claims import (
    ALIGNMENT,
    CLASSIFICATION,
    PIXELS,
    SEARCHED,
    UNPAIRED_CLAIMS,
    Claim,
    claims_table,
    count_outcomes,
    measure_claims,
)
from details_table import details_table
from gains import columns, gains_table
from noise_table import noise_table
from part_cost import cost_table, recorded_cost, run_in_parallel
from sections import RESULTS, write_section
from unpaired_latents import write as write_unpaired

from alignment_jax.cli.main import main as alignment_jax
from alignment_jax.compare import run_records as records
from alignment_jax.compare.equivalent_methods import equivalent_under
from alignment_jax.compare.result_files import conditions_table, main_table
from alignment_jax.compare.run_matrix import condition_of
from alignment_jax.compare.summary import summarize, summarize_fusion
from alignment_jax.report import format_seconds, fusion_table, to_markdown

ROOT = pathlib.Path(__file__).resolve().parent.parent
TABLES = ROOT / "benchmarks" / "results"


@dataclasses.dataclass(frozen=True)
class Part:
    """One comparison of the page.

    name: of its folder. config: file and arguments. needs: what must be there. flags: of the command. about: what a
    reader must know of the data. claims: of the papers. page: that shows it. pairs: a-items of `needs` that keep
    their partners (unpaired_latents.py); 0 for all.
    """

    name: str
    title: str
    config: str
    needs: str
    flags: tuple[str, ...]
    about: str
    claims: tuple[Claim, ...]
    page: pathlib.Path = RESULTS
    pairs: int = 0


EVERY = "baseline,vals,vals_probability,vals_loss,modest_align,mm_ts,bss,structure,sigmoid,all,csa,cca,recipe"
METHODS = "baseline,vals,vals_probability,vals_loss,modest_align,mm_ts,structure,sigmoid,all,csa,cca,recipe"
FEWER = "baseline,vals,vals_probability,modest_align,mm_ts,bss,structure,all,csa,cca,recipe"
FROZEN = (
    "baseline is InfoNCE with a learned temperature and linear maps. cca and csa are closed forms with settings chosen "
    "on val. recipe is the configuration without arguments: its settings are chosen by cross-validation inside the "
    "training pairs, for each fraction, and it trains only where that shows a gain."
)
FOLDER = "runs/results"
UNPAIRED = f"{FOLDER}/unpaired.npz"
SEARCH = (
    "Twelve settings for each method, the baseline too, drawn from the ranges in the config; the first is the config "
    "without changes. Each is tried with two seeds; the best on val is trained with five."
)
STEPS = "Trained methods take 400 steps with batches of up to 600."
PARTS = (
    Part(
        "latents",
        "Frozen latents of Flickr8k",
        "flickr8k_frozen.py:data=embeddings:flickr8k_mini/features.npz",
        "flickr8k_mini/features.npz",
        (f"--methods={METHODS}", "--seeds=5", "--fractions=0.1,0.3,1", "--mismatched=0,0.2"),
        "600 images of Flickr8k with five captions each for training, 100 each for val and test: MobileNet features "
        f"of the images, sentence embeddings of the captions. {FROZEN} One batch holds the whole set, so the order of "
        "samples changes nothing.",
        ALIGNMENT,
    ),
    Part(
        "captions",
        "Latents of English and German captions",
        "flickr8k_frozen.py:data=embeddings:multi30k_text/features.npz,steps=400",
        "multi30k_text/features.npz",
        (f"--methods={FEWER}", "--seeds=5", "--fractions=0.03,0.3,1"),
        "English captions and two German ones of the same pictures (Multi30k): 11,000 pictures for training, 1,000 "
        f"each for val and test; sentence embeddings of two encoders. {STEPS}",
        ALIGNMENT,
    ),
    Part(
        "answers",
        "Latents of photographs with questions and answers",
        "flickr8k_frozen.py:data=embeddings:v7w_mini/features.npz,steps=400",
        "v7w_mini/features.npz",
        (
            "--methods=baseline,vals,modest_align,mm_ts,structure,all,csa,cca,recipe",
            "--seeds=5",
            "--fractions=0.1,1",
        ),
        "4,351 photographs with 1 to 12 short questions and answers each (Visual7W), 500 for val, 1,000 for test: "
        f"weakly aligned pairs, a third of the texts occurs more than once. {STEPS}",
        ALIGNMENT,
    ),
    Part(
        "unpaired",
        "A thousand pairs and many latents without partners",
        f"flickr8k_frozen.py:data=embeddings:{UNPAIRED},steps=400",
        "multi30k_text/features.npz",
        ("--methods=baseline,sigmoid,sotalign,cca,recipe", "--seeds=5"),
        "The English and German captions again: 1,000 pictures with captions of both languages, 5,000 with an English "
        "caption and 5,000 others with two German ones. sotalign reads all of them, the other methods the pairs. "
        f"{STEPS}",
        UNPAIRED_CLAIMS,
        pairs=1000,
    ),
    Part(
        "search",
        "The same with settings searched on val",
        "flickr8k_frozen.py:data=embeddings:flickr8k_mini/features.npz",
        "flickr8k_mini/features.npz",
        (
            "--methods=baseline,vals,vals_probability,vals_loss,modest_align,mm_ts,structure,sigmoid,all,csa,cca",
            "--seeds=5",
            "--search=12",
        ),
        f"{SEARCH} cca and csa are closed forms: their grid of settings is tried on val, here as above.",
        SEARCHED,
    ),
    Part(
        "unpaired_search",
        "A thousand pairs, with settings searched on val",
        f"flickr8k_frozen.py:data=embeddings:{UNPAIRED},steps=400",
        "multi30k_text/features.npz",
        ("--methods=baseline,sigmoid,sotalign", "--seeds=5", "--search=12"),
        f"{SEARCH} sotalign also searches the weight of its transport term, from 1e-5 to 10 (the paper: 1e-4), and the "
        "entropy of the student's plan.",
        UNPAIRED_CLAIMS,
        pairs=1000,
    ),
    Part(
        "pixels",
        "Drawn scenes, from pixels and words",
        "quickstart.py:data=synthetic:train=600,val=100,test=100",
        "",
        ("--methods=baseline,vals,smoothing,mm_ts", "--seeds=5"),
        "600 scenes drawn by the package, with captions; a convolutional network and a transformer trained from "
        "scratch, 60 epochs. Test images and captions are also disturbed with every noise of the report.",
        PIXELS,
    ),
    Part(
        "av_digits",
        "Spoken and handwritten digits",
        "av_digits_bss.py:data=av:av_digits/manifest.csv,fraction=0.1",
        "av_digits/manifest.csv",
        ("--methods=vanilla,curriculum,anti_curriculum,probabilistic", "--seeds=5", "--fractions=0.1"),
        "A tenth of 2220 pairs of a spoken and a written digit; with all of them every order is right on 99 % of test.",
        CLASSIFICATION,
        page=TABLES / "bss.md",
    ),
)
# Comparisons of the table of gains, with the name of the data and the number of its training items.
GAINS = {"latents": ("Flickr8k", 600), "captions": ("Multi30k", 11_000), "answers": ("Visual7W", 4_351)}
CHOOSE, README = ROOT / "docs" / "choose.md", ROOT / "README.md"
GAINS_INTRODUCTION = """rsum on test of InfoNCE (`baseline`), and the difference of each method to it, by data set and
number of training items; five seeds. * marks a 95 % interval without zero. First without correction:
"""
COSTS = """### What these comparisons cost

CPU time of every command that worked on a comparison: compilation, training, analysis and pictures."""
NOISE, CLAIMS, DETAILS = TABLES / "noise.md", TABLES / "claims.md", TABLES / "details.md"


def command(part: Part, data: pathlib.Path, workdir: pathlib.Path) -> list[str]:
    config = f"--config={ROOT / 'configs' / part.config}".replace(FOLDER, str(workdir))
    return ["compare", config, *part.flags, f"--workdir={workdir / part.name}"]


def shown(part: Part) -> str:
    """The command to type."""
    words = [f"--config={'configs/' + part.config}", *part.flags, f"--workdir={FOLDER}/{part.name}"]
    lines = ["alignment-jax compare", *(_broken(shlex.quote(word)) for word in words)]
    make = f"python benchmarks/unpaired_latents.py {part.needs} \\\n  {UNPAIRED} --pairs {part.pairs}\n"
    first = make if part.pairs else ""
    return f"```bash\n{first}" + " \\\n  ".join(lines) + "\n```"


def _broken(word: str, width: int = 80) -> str:
    """The word over several lines, as a shell reads it, broken after commas."""
    if len(word) <= width:
        return word
    end = word.rindex(",", 0, width) + 1
    return f"{word[:end]}\\\n{_broken(word[end:], width)}"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A comparison in its folder: comparison.json, its runs and the trial runs of a search."""

    part: Part
    folder: pathlib.Path
    about: dict[str, Any]
    runs: list[Any]
    trials: list[Any]

    @property
    def names(self) -> tuple[str, str]:
        first, second, *_ = (*self.about["modalities"], "a", "b")
        return first, second


def read(part: Part, folder: pathlib.Path) -> Comparison | None:
    """None without runs in the folder."""
    about: dict[str, Any] | None = records.read_comparison(folder)
    runs, trials = records.read_runs_and_trials(folder)
    return None if about is None or not runs else Comparison(part, folder, about, runs, trials)


def text(found: Comparison) -> str:
    """The comparison as Markdown."""
    part, about, runs = found.part, found.about, found.runs
    metric, baseline = about["metric"], about["baseline"]
    rows = summarize(found.folder, runs, methods=about["methods"], baseline=baseline, metric=metric)
    first = [row for row in rows if row.condition == rows[0].condition]
    lines = [f"### {part.title}", "", part.about, "", shown(part), ""]
    if not about["complete"]:
        lines += ["**Not complete: runs are still missing, and these numbers will change.**", ""]
    same = equivalent_under(about, rows[0].condition)
    main = main_table(first, metric=metric, baseline=baseline, names=found.names, same=same)
    lines += [to_markdown(main), ""]
    fusion = summarize_fusion(found.folder, runs, methods=about["methods"])
    fusion = [row for row in fusion if condition_of(row) == rows[0].condition]
    if (alone := fusion_table(fusion, about["modalities"])) is not None:
        lines += [to_markdown(alone), ""]
    if (others := conditions_table(rows, baseline=baseline, about=about)) is not None:
        lines += [f"{metric} by training data; * marks an interval of the difference to {baseline} without zero:", ""]
        lines += [to_markdown(others), ""]
    if tested := measure_claims(found.folder, runs, part.claims):
        link = os.path.relpath(CLAIMS, part.page.parent)
        lines += [f"[Claims of the papers]({link}) in these runs: {count_outcomes(tested)}.", ""]
    if noise_text(found) is not None:
        lines += [f"[{metric} on disturbed test data]({os.path.relpath(NOISE, part.page.parent)}).", ""]
    if details_text(found) is not None:
        lines += [f"[Rare content, calibration, hubs]({os.path.relpath(DETAILS, part.page.parent)}).", ""]
    seconds = sum(float(run["cost"]["seconds"]) for run in runs)
    tried = sum(len(trial["seeds"]) for trial in found.trials)
    searched = f", not counting the {tried} trial runs of the search" if tried else ""
    lines += [f"{len(runs)} runs, {format_seconds(seconds)} of training{searched}.", ""]
    return "\n".join(lines)


def claims_text(found: Comparison) -> str | None:
    """The table of the page on claims; None without a claim that the runs can test."""
    claims = claims_table(measure_claims(found.folder, found.runs, found.part.claims))
    return f"## {found.part.title}\n\n{claims}\n" if claims else None


def details_text(found: Comparison) -> str | None:
    """The table of the page on rare content, calibration and hubs; None without such runs."""
    details = details_table(found.runs, found.about["methods"])
    return f"## {found.part.title}\n\n{to_markdown(details)}\n" if details is not None else None


def noise_text(found: Comparison) -> str | None:
    """The table of the page on noise; None without such runs."""
    metric = found.about["metric"]
    noises = noise_table(found.runs, found.about["methods"], metric, found.names)
    if noises is None:
        return None
    return f"## {found.part.title}\n\nMetric: {metric}.\n\n{to_markdown(noises)}\n"


def write_gains(workdir: pathlib.Path) -> None:
    """Writes the part `gains` of docs/choose.md and of the README, unless a comparison is missing."""
    each = {name: columns(workdir / name, title, items) for name, (title, items) in GAINS.items()}
    if not all(each.values()):
        return
    found = [column for columns_of in each.values() for column in columns_of]
    everywhere = [method for method in EVERY.split(",") if all(method in rows for _, rows in found)]
    methods = [method for method in EVERY.split(",") if any(method in rows for _, rows in found)]
    parts = [GAINS_INTRODUCTION, gains_table(found, methods, corrected=False)]
    parts += ["", "With the same hubness correction for all, the baseline too:", ""]
    write_section("gains", "\n".join([*parts, gains_table(found, methods, corrected=True)]), page=CHOOSE)
    write_section("gains", gains_table(found, everywhere, corrected=True), page=README)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder with flickr8k_mini and av_digits")
    parser.add_argument("--workdir", type=pathlib.Path, required=True)
    parser.add_argument("--only", help="names of comparisons, separated by commas")
    parser.add_argument("--write", action="store_true", help="train nothing")
    parser.add_argument("--train", action="store_true", help="write no page")
    parser.add_argument("--jobs", type=int, default=1, help="comparisons at once")
    arguments = parser.parse_args()
    data, workdir = arguments.data.absolute(), arguments.workdir.absolute()
    chosen = [part for part in PARTS if not arguments.only or part.name in arguments.only.split(",")]
    if arguments.jobs > 1 and not arguments.write:
        again = [str(ROOT / "benchmarks" / "results.py"), "--data", str(data), "--workdir", str(workdir), "--train"]
        run_in_parallel([part.name for part in chosen], again, jobs=arguments.jobs)
    elif not arguments.write:
        os.chdir(data)  # the page and the records name the data as the commands on the page do
        for part in chosen:
            train(part, data, workdir)
    if not arguments.train:
        write_pages(workdir)


def train(part: Part, data: pathlib.Path, workdir: pathlib.Path) -> None:
    """Makes the missing runs of a comparison."""
    if part.needs and not pathlib.Path(part.needs).exists():
        print(f"{part.name}: {part.needs} is not in {data}, left out")
        return
    if part.pairs:
        write_unpaired(pathlib.Path(part.needs), workdir / "unpaired.npz", pairs=part.pairs)
    with recorded_cost(workdir / part.name):
        status = alignment_jax(command(part, data, workdir))
    if status:
        raise SystemExit(status)


def write_pages(workdir: pathlib.Path) -> None:
    """Writes every page from the runs in the workdir."""
    writers = (CLAIMS, claims_text), (NOISE, noise_text), (DETAILS, details_text)
    for part in PARTS:  # a part without runs in the workdir keeps what the pages say
        if (found := read(part, workdir / part.name)) is None:
            continue
        for page, write in ((part.page, text), *writers):
            if written := write(found):
                write_section(part.name, written, page=page)
    write_gains(workdir)
    if costs := cost_table([workdir / part.name for part in PARTS]):
        write_section("costs", f"{COSTS}\n\n{costs}", page=RESULTS)


if __name__ == "__main__":
    main()
