"""Compiles the loss and the whole training step for TPU slices, on any machine: no TPU is needed, only its compiler.

    pip install 'jax[tpu]'
    python benchmarks/tpu_compile.py --write

For every slice: does it compile, what a chip must hold, which collectives the compiler has put into the program, and
its operations and bytes (`compiled_operations.py`). Times are not measured here; `benchmarks/tpu_roofline.py` divides
the counts by the rates of a chip. Each compiled case is a line of the record, so an interrupted run continues.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import pathlib
import subprocess
import sys
import time
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
RECORD = ROOT / "benchmarks" / "results" / "tpu_compile.jsonl"
DIM, DIM_A, DIM_B = 512, 1024, 768
ONE_CHIP = ", one chip"
LARGE_STEP = "ViT-B/16 and BGE-base step"


@dataclasses.dataclass(frozen=True)
class Case:
    """One line of the table, compiled in a process of its own: libtpu describes one slice per process.

    what: a loss of bfloat16 embeddings, or a step of the trainer. precision: `loss.precision`, of a step.
    """

    slice: str
    what: str
    form: str
    batch: int
    precision: str = "auto"


CASES = (
    Case("v5e:2x2", "infonce, one chip", "tiled", 32768),
    Case("v5e:2x2", "infonce, one chip", "pallas", 32768),
    Case("v6e:2x2", "infonce, one chip", "pallas", 32768),
    Case("v5e:2x4", "infonce", "ring", 32768),
    Case("v5e:2x4", "infonce", "gathered", 32768),
    Case("v5e:16x16", "infonce", "ring", 32768),
    Case("v5p:2x2x2", "infonce", "ring", 32768),
    Case("v6e:2x4", "infonce", "ring", 32768),
    Case("v5e:2x4", "max_margin", "ring", 32768),
    Case("v5e:2x4", "sigmoid", "ring", 32768),
    Case("v5e:2x4", "frozen step", "ring", 32768, "float32"),
    Case("v5e:2x4", "frozen step", "ring", 32768),
    Case("v5e:2x4", "frozen step", "ring", 32768, "bfloat16"),
    Case("v5e:2x4", "frozen step", "gathered", 32768),
    Case("v5p:2x2x2", "frozen step", "gathered", 32768),
    Case("v6e:2x4", "frozen step", "gathered", 32768),
    Case("v5e:16x16", "frozen step", "ring", 1048576),
    Case("v6e:2x4", "pixel step", "ring", 4096),
    Case("v5e:16x16", LARGE_STEP, "gathered", 32768),
)


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


def step_program(kind: str, form: str, batch: int, mesh, precision: str):
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
    settings.loss.similarity, settings.loss.precision = form, precision
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


def collectives_of(text: str) -> str:
    """How often the text of a compiled program names each collective."""
    from compiled_operations import COLLECTIVES, occurrences

    return ", ".join(f"{count} {name}" for name in COLLECTIVES if (count := occurrences(text, name))) or "none"


def compile_one(case: Case) -> dict[str, Any]:
    """Compiles one case; sizes are bytes a chip."""
    import jax
    from compiled_operations import count

    # Tiles and forms are chosen as they would be there.
    jax.default_backend = lambda: "tpu"
    if case.what == LARGE_STEP:
        return trace_large(case)
    mesh = mesh_of(case.slice, one=case.what.endswith(ONE_CHIP))
    start = time.perf_counter()
    if case.what.endswith("step"):
        program = step_program(case.what, case.form, case.batch, mesh, case.precision)
    else:
        program = loss_program(case.what.removesuffix(ONE_CHIP), case.form, case.batch, mesh)
    compiled = program.compile()
    seconds = time.perf_counter() - start
    text, memory = compiled.as_text(), compiled.memory_analysis()
    found = count(text)
    kernel = "tpu_custom_call" in text  # whose operations are not in the text
    return {
        "chips": mesh.size,
        "held": memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes,
        "temporary": memory.temp_size_in_bytes,
        "collectives": collectives_of(text),
        "products": None if kernel else found.products,
        "passes": None if kernel else found.passes,
        "sent": dict(found.sent),
        "seconds": seconds,
    }


def trace_large(case: Case) -> dict[str, Any]:
    """The counts of the traced program, for a step that `tpu_sharded_state` compiles, in ten minutes to an hour."""
    import tpu_sharded_state as large
    from tpu_encoders import product_flops

    (of,) = (one for one in large.CASES if f"{one.title} step" == case.what)
    mesh = mesh_of(case.slice)
    program, _, held = large.traced(of, "none", list(mesh.devices.flat))
    names = "all-reduce", "all-gather", "reduce-scatter"
    sizes = large.collective_bytes(program.jaxpr)
    return {
        "chips": mesh.size,
        "held": held,
        "products": product_flops(program.jaxpr),
        "passes": product_flops(program.jaxpr, passes=True),
        # An operand of an all-gather is a part of the whole array.
        "sent": {name: sizes[name] / (mesh.size if name == "all-gather" else 1) for name in names},
    }


def run_case(case: Case) -> dict[str, Any]:
    """`compile_one` in its own process."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "8",  # the model is built for several devices
        "TPU_SKIP_MDS_QUERY": "1",  # no metadata server is asked
        "PYTHONPATH": paths,
    }
    command = [sys.executable, __file__, "--case", json.dumps(dataclasses.asdict(case))]
    found = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(found.stdout.strip().splitlines()[-1])


def title(line: dict[str, Any]) -> str:
    """The program of a line of the record."""
    words = [line["what"], line["form"]]
    return ", ".join([*words, f"loss.precision={line['precision']}"] if line["what"].endswith("step") else words)


def place(line: dict[str, Any]) -> str:
    """The chips of a line of the record."""
    return f"{line['slice']} ({line['chips']} chips)" if line["chips"] > 1 else f"{line['slice']}, one of them"


def text(lines: list[dict[str, Any]]) -> str:
    """The section of the page."""
    from alignment_jax.report import table, to_markdown

    rows = [
        [
            place(line),
            title(line),
            f"{line['batch']:,}",
            f"{line['held'] / 2**20:,.0f}",
            f"{line['temporary'] / 2**20:,.1f}",
            line["collectives"],
            f"{line['seconds']:.0f} s",
        ]
        for line in lines
        if "seconds" in line
    ]
    names = ["slice", "program", "batch", "held, MiB a chip", "temporary, MiB a chip", "collectives", "compiled in"]
    versions = "; ".join(sorted({f"jax {line['jax']}, libtpu {line['libtpu']}" for line in lines}))
    return f"`python benchmarks/tpu_compile.py --write`, {versions}.\n\n" + to_markdown(table(names, rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--record", type=pathlib.Path, default=RECORD, help="one line for each compiled case")
    parser.add_argument("--write", action="store_true", help="rewrite the table in benchmarks/results/tpu.md")
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(compile_one(Case(**json.loads(arguments.case)))))
        return
    from kept_rows import kept_row
    from sections import write_section
    from tpu_encoders import versions

    lines = [
        kept_row(arguments.record, dataclasses.asdict(case), functools.partial(compiled_with, versions(), case))
        for case in CASES
    ]
    shown = text(lines)
    if arguments.write:
        write_section("compiled", shown, page=ROOT / "benchmarks" / "results" / "tpu.md")
    print(shown)


def compiled_with(versions: dict[str, str], case: Case) -> dict[str, Any]:
    """The row of a case, with the versions of the compilers."""
    return run_case(case) | versions


if __name__ == "__main__":
    main()
