"""Wall and CPU time of whole commands, from process start to exit, and where the time goes.

    python benchmarks/whole_run.py --out benchmarks/results/whole_run_cpu.md
    python benchmarks/whole_run.py --beside ../earlier_checkout --only compare-3000 --out /tmp/both.md

`train` and `compare` run on frozen latents of 300, 3,000 and 11,000 pairs with 1,000 val and 1,000 test items, and
`train` on pixels. Every command runs twice: untouched, for its wall and CPU time, and with timers around its parts, for
the shares; with `--once` only with timers. With `--beside` an earlier checkout of the project runs the same commands in
turn, and a row gives the ratio. Nothing compiled is kept from one command to the next.

Latents are drawn at random: their values decide the metrics, not the time. `--latents FILE.npz` takes real ones, an
embeddings file whose training split has at least as many items as a case.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
WIDTH = 384
METHODS = "baseline,cca,vals,mm_ts,recipe"
PARTS = ("imports", "data", "compilation", "steps", "evaluation", "checkpoints", "analysis", "pictures", "other")
# What belongs to which part, as module:name. Names that a checkout does not have are passed over.
TIMED = {
    "data": (
        "alignment_jax.assembly.build:load_source",
        "alignment_jax.compare.engine:load_source",
        "alignment_jax.assembly.build:build",
        "alignment_jax.compare.engine:build",
        "alignment_jax.compare.plan:build",
        "alignment_jax.cli.train:build",
        "alignment_jax.inference.analysis:evaluation_sizes",
    ),
    "steps": (
        "alignment_jax.train.vmapped_seeds:_SeedRun.run",
        "alignment_jax.train.device_data_set:DeviceDataSet.__call__",
        "alignment_jax.train.step:SingleSteps.__call__",
    ),
    "evaluation": (
        "alignment_jax.train.evaluation:RetrievalEvaluation.evaluate_for_log",
        "alignment_jax.train.evaluation:RetrievalEvaluation.evaluate_seeds_for_log",
        "alignment_jax.train.evaluation:RetrievalEvaluation.__call__",
        "alignment_jax.train.evaluation:RetrievalEvaluation.measure",
        "alignment_jax.train.evaluation:Embedder.__call__",
        "alignment_jax.train.evaluation:Embedder.embed_seeds",
    ),
    "checkpoints": (
        "alignment_jax.train.checkpoint:Checkpoints.save",
        "alignment_jax.train.checkpoint:Checkpoints.wait",
        "alignment_jax.train.checkpoint:Checkpoints.close",
        "alignment_jax.train.checkpoint:Checkpoints.__init__",
        "alignment_jax.train.checkpoint:Checkpoints.read",
    ),
    "analysis": ("alignment_jax.compare.training:evaluate_runs", "alignment_jax.compare.engine:evaluate_runs"),
    "pictures": (
        "alignment_jax.evals.embedding_map:embedding_map",
        "alignment_jax.evals:embedding_map",
        "alignment_jax.inference.analysis:_embedding_map",
        "alignment_jax.compare.engine:write_outputs",
        "alignment_jax.cli.run_report:write_run_report",
        "alignment_jax.cli.run_results:make_gallery",
    ),
}


class Clock:
    """Exclusive time of nested parts: what an inner part takes does not count for the outer one."""

    def __init__(self) -> None:
        self.spent = dict.fromkeys(PARTS, 0.0)
        self.stack = ["other"]
        self.since = time.perf_counter()

    def enter(self, part: str) -> None:
        self._add()
        self.stack.append(part)

    def leave(self) -> None:
        self._add()
        self.stack.pop()

    def _add(self) -> None:
        now = time.perf_counter()
        self.spent[self.stack[-1]] += now - self.since
        self.since = now

    def move(self, part: str, seconds: float) -> None:
        """Counts the seconds of a part for another one."""
        self._add()
        self.spent[self.stack[-1]] -= seconds
        self.spent[part] += seconds


def wrap(clock: Clock, part: str, function):
    def timed(*arguments, **options):
        import jax

        clock.enter(part)
        try:
            result = function(*arguments, **options)
            return jax.block_until_ready(result) if part == "steps" else result
        finally:
            clock.leave()

    return timed


def instrument(clock: Clock) -> None:
    """Puts timers around the parts of the package that this process has imported."""
    import importlib

    import jax

    for part, names in TIMED.items():
        for name in names:
            module_name, _, path = name.partition(":")
            owner = importlib.import_module(module_name)
            *outer, last = path.split(".")
            for attribute in outer:
                owner = getattr(owner, attribute, None)
            if last in ("run", "advance") and owner is not None:
                wrap_attribute_of_instances(clock, part, owner, last)
            elif owner is not None and hasattr(owner, last):
                setattr(owner, last, wrap(clock, part, getattr(owner, last)))

    def compiled(event: str, seconds: float, **_) -> None:
        # Tracing contains other tracings, so only what is never nested is counted.
        if event.endswith(("backend_compile_duration", "jaxpr_to_mlir_module_duration")):
            clock.move("compilation", seconds)

    jax.monitoring.register_event_duration_secs_listener(compiled)


def wrap_attribute_of_instances(clock: Clock, part: str, owner: type, name: str) -> None:
    """Times a function that objects of a class keep as an attribute, whenever it is set."""
    setter = owner.__setattr__

    def set_timed(self, attribute, value):
        setter(self, attribute, wrap(clock, part, value) if attribute == name else value)

    owner.__setattr__ = set_timed


def child(out: pathlib.Path, arguments: list[str]) -> int:
    """Runs one command of the package with timers, and writes what they found."""
    clock = Clock()
    clock.enter("imports")
    import alignment_jax.cli.compare
    import alignment_jax.cli.train
    import alignment_jax.evals  # noqa: F401 - everything that `instrument` wraps
    from alignment_jax.cli.main import main

    instrument(clock)
    clock.leave()
    status = main(arguments)
    clock._add()
    out.write_text(json.dumps(clock.spent))
    return int(status or 0)


def make_latents(path: pathlib.Path, pairs: int, source: pathlib.Path | None) -> None:
    """An embeddings file with this many training pairs, two captions an item."""
    if source is not None:
        with np.load(source, allow_pickle=False) as found:
            arrays = {name: found[name] for name in found.files}
        split, owner = arrays["split"], arrays["b_to_a"]
        rows = np.sort(np.concatenate([np.flatnonzero(split == "train")[:pairs], np.flatnonzero(split != "train")]))
        number = np.full(len(split), -1)
        number[rows] = np.arange(len(rows))
        captions = np.flatnonzero(number[owner] >= 0)
        np.savez(
            path,
            a=arrays["a"][rows],
            b=arrays["b"][captions],
            b_to_a=number[owner[captions]].astype(np.int32),
            split=split[rows],
        )
        return
    rng = np.random.default_rng(0)
    n = pairs + 2000
    code = rng.normal(size=(n, 64))
    owner = np.repeat(np.arange(n), 2)
    a = code @ rng.normal(size=(64, WIDTH)) + 4 * rng.normal(size=(n, WIDTH))
    b = code[owner] @ rng.normal(size=(64, WIDTH)) + 4 * rng.normal(size=(2 * n, WIDTH))
    split = np.array(["train"] * pairs + ["val"] * 1000 + ["test"] * 1000)
    np.savez(path, a=a.astype(np.float16), b=b.astype(np.float16), b_to_a=owner.astype(np.int32), split=split)


def cases(folder: pathlib.Path, only: list[str], source: pathlib.Path | None, seeds: int) -> dict[str, list[str]]:
    """Name -> arguments of the command, without its workdir."""
    found = {}
    for pairs in (300, 3000, 11000):
        path = folder / f"{pairs}.npz"
        frozen = f"configs/flickr8k_frozen.py:data=embeddings:{path}"
        commands = {
            f"train-{pairs}": ["train", "--config", f"{frozen},method=baseline", "--config.eval.interval=1 epochs"],
            f"compare-{pairs}": ["compare", "--config", frozen, "--methods", METHODS, "--seeds", str(seeds)],
        }
        commands = {name: command for name, command in commands.items() if not only or name in only}
        if commands:
            make_latents(path, pairs, source)
        found |= commands
    pixels = {"train-pixels": ["train", "--config", "configs/quickstart.py", "--config.train.duration=10 epochs"]}
    return found | {name: command for name, command in pixels.items() if not only or name in only}


def run(checkout: pathlib.Path, command: list[str], folder: pathlib.Path, timers: bool) -> dict[str, float]:
    """Wall and CPU seconds of one command, and the parts where timers are wanted."""
    workdir = pathlib.Path(tempfile.mkdtemp(dir=folder))
    out = workdir.with_suffix(".json")
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    start = [sys.executable, __file__, "--child", str(out)] if timers else [sys.executable, "-m", "alignment_jax"]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [*start, *command, "--workdir", str(workdir / "run"), "--quiet"],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
    )
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(
            f"{' '.join(command)} in {checkout} ended with status {done.returncode}:\n{done.stderr[-2000:]}"
        )
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": wall, "cpu": cpu, **(json.loads(out.read_text()) if timers else {})}


def lines_of(name: str, here: dict[str, float], there: dict[str, float] | None) -> list[str]:
    def row(label: str, found: dict[str, float]) -> str:
        parts = " | ".join(f"{found.get(part, 0.0):.1f}" for part in PARTS)
        return f"| {label} | {found['wall']:.1f} | {found['cpu']:.1f} | {parts} |"

    if there is None:
        return [row(name, here)]
    numbers = ("wall", "cpu", *PARTS)
    # A part that takes less than a tenth of a second has no ratio to speak of.
    ratios = (f"{there[n] / here[n]:.1f}" if min(here[n], there[n]) > 0.1 else "–" for n in numbers)
    return [row(f"{name}, earlier", there), row(name, here), f"| earlier / now | {' | '.join(ratios)} |"]


def products_alone(pairs: int, runs: int, *, batch: int = 600, dim: int = 512, epochs: int = 150) -> str:
    """How long NumPy takes for the matrix products of the steps of so many runs: what no step goes below."""
    rng = np.random.default_rng(0)
    n = min(batch, pairs)
    x, w, z = (rng.normal(size=shape).astype(np.float32) for shape in ((n, WIDTH), (WIDTH, dim), (n, dim)))
    s = z @ z.T
    # Two sides forward, their gradients, the similarities, and those of both sides' embeddings.
    products = 2 * [(x, w)] + 2 * [(x.T, z)] + [(z, z.T), (s, z), (s.T, z)]
    times = []
    for _ in range(20):
        began = time.perf_counter()
        for first, second in products:
            first @ second
        times.append(time.perf_counter() - began)
    steps = max(1, pairs // n) * epochs * runs
    flops = 2 * sum(first.shape[0] * first.shape[1] * second.shape[1] for first, second in products)
    best = min(times)
    return (
        f"The matrix products of {steps} steps ({pairs} pairs, {runs} runs) alone, in NumPy: {steps * best:.0f} s, at "
        f"{flops / best / 1e9:.0f} GFLOP/s."
    )


def processor() -> str:
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return f"{os.cpu_count()} cores of {names[0] if names else 'an unnamed processor'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", type=pathlib.Path, help="an earlier checkout to run beside this one")
    parser.add_argument("--only", action="append", default=[], help="a case, as in compare-3000; may be repeated")
    parser.add_argument("--latents", type=pathlib.Path, help="an embeddings file to take the latents from")
    parser.add_argument("--seeds", type=int, default=5, help="of compare")
    parser.add_argument("--once", action="store_true", help="only the runs with timers")
    parser.add_argument("--out", type=pathlib.Path, help="where the table goes; it is printed in any case")
    options = parser.parse_args()
    checkouts = [ROOT] + ([options.beside.resolve()] if options.beside else [])
    source = options.latents.resolve() if options.latents else None
    of_what, where = ("command with timers", "the same") if options.once else ("untouched command", "another")
    lines = [
        f"Seconds on {processor()}, compare with {METHODS} and {options.seeds} seeds. `wall` and `cpu`: the {of_what},",
        f"from process start to exit. The parts: wall time of the main thread with timers, in {where} run.",
        "",
        f"| command | wall | cpu | {' | '.join(PARTS)} |",
        f"|---|{'---|' * (2 + len(PARTS))}",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for case, command in cases(folder, options.only, source, options.seeds).items():
            found = []
            for checkout in checkouts:
                timed = run(checkout, command, folder, timers=True)
                found.append(timed if options.once else {**timed, **run(checkout, command, folder, timers=False)})
                print(f"{case} in {checkout}: {found[-1]['wall']:.1f} s", file=sys.stderr, flush=True)
            lines += lines_of(case, found[0], found[1] if len(found) > 1 else None)
    for pairs in (300, 3000, 11000):
        if not options.only or f"compare-{pairs}" in options.only:
            lines += ["", products_alone(pairs, 3 * options.seeds)]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        sys.exit(child(pathlib.Path(sys.argv[2]), sys.argv[3:]))
    main()
