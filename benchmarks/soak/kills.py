"""Kills runs at random moments and compares their results with those of undisturbed runs, bit by bit.

    python benchmarks/soak/kills.py --kills 60 --results benchmarks/results/kills.jsonl \\
        --page benchmarks/results/reliability.md

Every run is killed a few times, each time somewhere else: in a step, in the middle of a save, of an evaluation, of a
re-scoring, of the report, or while it starts again. One in six kills is a SIGTERM, after which it must have saved.
"""

from __future__ import annotations

import argparse
import collections
import pathlib
import random
import shutil
import signal
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(1, str(pathlib.Path(__file__).resolve().parent.parent))

from killed_runs import PHASES, Death, outcome, run
from sections import write_section
from small_runs import write_run

from alignment_jax.report import append_row, read_rows

# name -> (kind of run, further arguments)
CONFIGURATIONS = {
    "alignment, every method, latents on the device": ("alignment", []),
    "alignment, every method, batches sent": ("alignment", ["--config.input.resident=off"]),
    "classification, BSS probabilistic, fresh scores": ("classification", []),
    "classification, BSS curriculum, recycled scores": (
        "classification",
        ["--config.sampling.name=curriculum", "--config.sampling.scores=recycled"],
    ),
}


def random_death(rng: random.Random) -> Death:
    phase = rng.choice(list(PHASES))
    # Later ones are reached more rarely: earlier deaths leave less to do.
    occurrence = 1 if phase in ("start", "report") else rng.randint(1, 6)
    how = signal.SIGTERM if rng.random() < 1 / 6 else signal.SIGKILL
    return Death(phase, occurrence, rng.uniform(0.0, PHASES[phase][2]), how)


def soak(
    kills: int, seed: int, folder: pathlib.Path, names: list[str], results: pathlib.Path, *, per_run: int = 8
) -> bool:
    """Runs of these configurations until `kills` processes have died, at most `per_run` of one run.

    Writes a line of `results` for each run; returns whether all agree.
    """
    rng = random.Random(seed)
    all_same = True
    for number, name in enumerate(names):
        kind, extra = CONFIGURATIONS[name]
        place = folder / str(number)
        arguments = [*write_run(place, kind), *extra, "--quiet", "--config.train.devices=1"]
        log = place / "log.txt"
        whole = place / "undisturbed"
        assert run([*arguments, "--workdir", str(whole)], log) == 0, log.read_text()
        expected = outcome(arguments, whole, log)
        runs = died = 0
        while died < -(-kills // len(names)):
            workdir = place / f"killed{runs}"
            seen: collections.Counter = collections.Counter()
            for _ in range(per_run):
                death = random_death(rng)
                status = run([*arguments, "--workdir", str(workdir)], log, death)
                if status == 0:
                    break
                if status == 143 or (death.how == signal.SIGTERM and status == -signal.SIGTERM):
                    seen["SIGTERM"] += 1
                else:
                    assert status == -signal.SIGKILL, f"{death}: status {status}, {log}"
                    seen[death.phase] += 1
            else:
                assert run([*arguments, "--workdir", str(workdir)], log) == 0, log
            found = outcome(arguments, workdir, log)
            different = [part for part in expected if found[part] != expected[part]]
            row = {"name": name, "seed": seed, "kills": dict(seen), "different": different}
            append_row(results, row)
            runs, died, all_same = runs + 1, died + seen.total(), all_same and not different
            print(f"{name}: run {runs}, {dict(seen)}, {different or 'the same bits'}", flush=True)
            if not different:
                shutil.rmtree(workdir)
    return all_same


def table(results: pathlib.Path) -> str:
    """All runs of the file, a line for each configuration."""
    rows = read_rows(results)
    phases = (*PHASES, "SIGTERM")
    head = ["configuration", *(f"in {phase}" for phase in PHASES), "by SIGTERM", "runs", "ended with the same bits"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for name in CONFIGURATIONS:
        mine = [row for row in rows if row["name"] == name]
        counts = [sum(row["kills"].get(phase, 0) for row in mine) for phase in phases]
        same = sum(not row["different"] for row in mine)
        lines.append("| " + " | ".join(map(str, [name, *counts, len(mine), same])) + " |")
    total = sum(sum(row["kills"].values()) for row in rows)
    same = sum(not row["different"] for row in rows)
    lines += ["", f"{total} kills in {len(rows)} runs; {same} runs ended with the same bits."]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--per-run", type=int, default=8, help="kills of one run at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=pathlib.Path, help="add to the runs of this file, one line each")
    parser.add_argument("--only", help="configurations whose name holds this text")
    parser.add_argument("--page", type=pathlib.Path, help="write the table into this page, part `kills`")
    options = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="kills-"))
    results = options.results or folder / "results.jsonl"
    names = [name for name in CONFIGURATIONS if (options.only or "") in name]
    same = True
    if options.kills:
        same = soak(options.kills, options.seed, folder, names, results, per_run=options.per_run)
    text = table(results)
    print(text)
    if options.page:
        write_section("kills", text, page=options.page)
    if not same:
        sys.exit(f"runs differ: see {folder}")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
