"""Compiles the loss and the whole training step for TPU slices, on any machine: no TPU is needed, only its compiler.

    pip install 'jax[tpu]'
    python benchmarks/tpu_compile.py --write

For every slice: does it compile, what a chip must hold, which collectives the compiler has put into the program. Times
are not measured here; `benchmarks/tpu_roofline.py` predicts them.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
# (slice, what, form, batch): one line of the table each, compiled in its own process.
CASES = [
    ("v5e:2x2", "infonce, one chip", "tiled", 32768),
    ("v5e:2x2", "infonce, one chip", "pallas", 32768),
    ("v6e:2x2", "infonce, one chip", "pallas", 32768),
    ("v5e:2x4", "infonce", "ring", 32768),
    ("v5e:2x4", "infonce", "gathered", 32768),
    ("v5e:16x16", "infonce", "ring", 32768),
    ("v5p:2x2x2", "infonce", "ring", 32768),
    ("v6e:2x4", "infonce", "ring", 32768),
    ("v5e:2x4", "max_margin", "ring", 32768),
    ("v5e:2x4", "sigmoid", "ring", 32768),
    ("v5e:2x4", "frozen step", "ring", 32768),
    ("v6e:2x4", "frozen step", "gathered", 32768),
    ("v6e:2x4", "pixel step", "ring", 4096),
]
COLLECTIVES = ("all-gather", "collective-permute", "reduce-scatter", "all-to-all", "all-reduce")
DIM, DIM_A, DIM_B = 512, 1024, 768


def mesh_of(topology: str, *, one: bool = False):
    """A mesh over the chips of a slice that is described, not present; or over one of them."""
    import numpy as np
    from jax.experimental import topologies
    from jax.sharding import Mesh

    from alignment_jax.train.step import AXIS

    devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    return Mesh(np.array(devices[:1] if one else devices), (AXIS,))


def loss_program(name: str, form: str, batch: int, mesh):
    """Value and gradients of a loss over the mesh, lowered: bfloat16 embeddings, a temperature or margin per row."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import NamedSharding
    from jax.sharding import PartitionSpec as P

    import alignment_jax as aj
    from alignment_jax.train.step import AXIS

    axis = AXIS if mesh.size > 1 else None

    def value(za, zb, strength):
        options = {"axis_name": axis, "similarity": form}
        if name == "sigmoid":
            return aj.losses.reduce(aj.losses.sigmoid(za, zb, **options), axis_name=axis)
        key = "temperature" if name == "infonce" else "margin"
        return aj.losses.reduce(*getattr(aj.losses, name)(za, zb, **options, **{key: strength}), axis_name=axis)

    def program(za, zb, strength):
        return jax.value_and_grad(value, argnums=(0, 1))(za, zb, strength)

    spec, mapped = P(axis), program
    if axis is not None:
        mapped = jax.shard_map(program, mesh=mesh, in_specs=(spec,) * 3, out_specs=(P(), (spec, spec)))
    sharding = NamedSharding(mesh, spec)
    z = jax.ShapeDtypeStruct((batch, DIM), jnp.bfloat16, sharding=sharding)
    return jax.jit(mapped).lower(z, z, jax.ShapeDtypeStruct((batch,), jnp.float32, sharding=sharding))


def step_program(kind: str, form: str, batch: int, mesh):
    """The trainer's own step, with everything a configuration turns on, lowered for the mesh."""
    import jax
    import numpy as np
    from jax.sharding import NamedSharding
    from jax.sharding import PartitionSpec as P

    from alignment_jax import config as configs
    from alignment_jax.assembly.build import build
    from alignment_jax.train.loop import initial_state
    from alignment_jax.train.step import AXIS, make_step, shard_step

    settings = configs.default()
    settings.loss.similarity = form
    settings.model = configs.two_tower() if kind == "pixel step" else configs.adapters()
    settings.model.dim, settings.model.dtype = DIM, "bfloat16"
    settings.weighting.signal = "variance"
    settings.input.batch_size = 8
    if kind == "pixel step":
        settings.data = "synthetic:train=16,val=4,test=4,size=64"
        built = build(settings)
    else:
        settings.perturb.sigma, settings.smoothing.start = 0.1, 0.1
        built = build(settings, source=small_latents())
    experiment = built.experiment
    step = make_step(
        experiment.objective,
        experiment.model.apply,
        experiment.optimizer,
        axis_name=AXIS,
        project=experiment.model.project,
    )
    replicated, sharded = NamedSharding(mesh, P()), NamedSharding(mesh, P(AXIS))

    def shape(x, sharding, rows=None):
        return jax.ShapeDtypeStruct(x.shape if rows is None else (rows, *x.shape[1:]), x.dtype, sharding=sharding)

    state = jax.tree.map(lambda x: shape(x, replicated), jax.eval_shape(lambda: initial_state(experiment)))
    a, b = experiment.first_batch
    columns = {"a": a, "b": b, "index": np.zeros(1, np.int32), "where": np.zeros(1, bool)}
    return shard_step(step, mesh).lower(state, {name: shape(x, sharded, batch) for name, x in columns.items()})


def small_latents():
    """A few latents of the widths of common encoders: only their shapes matter here."""
    import tempfile

    import numpy as np

    from alignment_jax import data

    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "latents.npz"
        rng = np.random.default_rng(0)
        arrays = {"image": rng.normal(size=(16, DIM_A)), "text": rng.normal(size=(16, DIM_B))}
        split = np.array(["train"] * 12 + ["val"] * 2 + ["test"] * 2)
        np.savez(file, **{k: v.astype(np.float32) for k, v in arrays.items()}, text_to_image=np.arange(16), split=split)
        return data.load(f"embeddings:{file}")


def count_collectives(text: str) -> dict[str, int]:
    """Name -> how often the compiled program runs it."""
    return {name: len(re.findall(rf"\b{name}(?:-start)?\(", text)) for name in COLLECTIVES}


def compile_one(topology: str, what: str, form: str, batch: int) -> dict:
    """Compiles one case and says what came out."""
    import jax

    # Tiles and forms are chosen as they would be there.
    jax.default_backend = lambda: "tpu"
    mesh = mesh_of(topology, one=what.endswith("one chip"))
    make = step_program if what.endswith("step") else loss_program
    start = time.perf_counter()
    compiled = make(what.partition(",")[0], form, batch, mesh).compile()
    seconds = time.perf_counter() - start
    text, memory = compiled.as_text(), compiled.memory_analysis()
    found = count_collectives(text)
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return {
        "slice": topology,
        "chips": mesh.size,
        "what": what,
        "form": form,
        "batch": batch,
        "held": held / 2**20,
        "temporary": memory.temp_size_in_bytes / 2**20,
        "collectives": ", ".join(f"{count} {name}" for name, count in found.items() if count) or "none",
        "kernels": text.count("tpu_custom_call"),
        "seconds": seconds,
    }


def run_case(case: tuple[str, str, str, int]) -> dict | None:
    """`compile_one` in its own process: libtpu describes one slice per process. None where it fails."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "8",  # the model is built for several devices
        "TPU_SKIP_MDS_QUERY": "1",  # no metadata server is asked
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, __file__, "--case", json.dumps(case)]
    found = subprocess.run(command, env=environment, capture_output=True, text=True)
    if found.returncode != 0:
        print(f"{case}: {found.stderr.strip().splitlines()[-1]}", file=sys.stderr)
        return None
    return json.loads(found.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--write", action="store_true", help="rewrite the table in benchmarks/results/tpu.md")
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(compile_one(*json.loads(arguments.case))))
        return
    import importlib.metadata

    from sections import write_section

    from alignment_jax.report import table, to_markdown

    rows = []
    for case in CASES:
        found = run_case(case)
        print(found or f"failed: {case}", flush=True)
        shown = f"{case[1]}, {case[2]}"
        if found is None:
            rows.append([case[0], shown, f"{case[3]:,}", "does not compile", "", "", ""])
            continue
        place = f"{found['slice']} ({found['chips']} chips)" if found["chips"] > 1 else f"{found['slice']}, one of them"
        sizes = (f"{found['held']:,.0f}", f"{found['temporary']:,.1f}")
        rows.append([place, shown, f"{case[3]:,}", *sizes, found["collectives"], f"{found['seconds']:.0f} s"])
    names = ["slice", "program", "batch", "held, MiB a chip", "temporary, MiB a chip", "collectives", "compiled in"]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "libtpu"))
    text = f"`python benchmarks/tpu_compile.py --write`, {versions}.\n\n" + to_markdown(table(names, rows))
    if arguments.write:
        write_section("compiled", text, page=ROOT / "benchmarks" / "results" / "tpu.md")
    print(text)


if __name__ == "__main__":
    main()
