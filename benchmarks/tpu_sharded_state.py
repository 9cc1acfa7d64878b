"""Compiles the training step of two towers for a TPU slice, its state replicated or sharded: no TPU is needed.

    pip install 'jax[tpu]'
    python benchmarks/tpu_sharded_state.py --write

Towers in bfloat16 (`CASES`), layers recomputed in the backward pass, InfoNCE over the whole batch in micro-batches,
AdamW and a moving average. Only shapes are used. For each value of `train.shard`: what a chip must hold, and the bytes
of whole arrays that its collectives gather or add up, counted in the traced program. Nothing is measured. A compilation
takes minutes (for 256 chips 10 to 40); a compiled step is a line of the record, so an interrupted command continues.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import time
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
RECORD = ROOT / "benchmarks" / "results" / "tpu_sharded_state.jsonl"
MICRO_BATCH, TOKENS = 64, 64
CHIP_MEMORY = 16 * 2**30  # of a v5e
NAMES = {
    "all_gather": "all-gather",
    "reduce_scatter": "reduce-scatter",
    "psum": "all-reduce",
    "psum_invariant": "all-reduce",
}


@dataclasses.dataclass(frozen=True)
class Case:
    """Names of the towers in `tpu_encoders.CASES`, a slice, and the pairs of a batch."""

    title: str
    vision: str
    text: str
    topology: str
    chips: int
    batch: int


CASES = (
    Case("ViT-L/14 and E5-large", "CLIP ViT-L/14, 224 px", "E5-large, 64 tokens", "v5e:2x4", 8, 4096),
    Case("ViT-B/16 and BGE-base", "ViT-B/16, 224 px", "BGE-base, 64 tokens", "v5e:16x16", 256, 32_768),
)


def two_tower(vision_case: Any, text_case: Any) -> Any:
    """The module of two `tpu_encoders.Case`: pixels and token ids to unit vectors of 768 numbers, and a temperature."""
    import flax.linen as nn
    import jax.numpy as jnp
    from tpu_encoders import tower

    from alignment_jax.core import l2_normalize
    from alignment_jax.models.pretrained import ImagePreprocess

    vision, text = (
        dataclasses.replace(module, numerics=dataclasses.replace(module.numerics, remat=True))
        for module in (tower(vision_case), tower(text_case))
    )

    class Towers(nn.Module):
        def setup(self):
            self.vision, self.text = vision.clone(), text.clone()
            self.project = nn.Dense(768, use_bias=False, dtype=jnp.bfloat16)
            self.log_temperature = self.param("log_temperature", nn.initializers.zeros, ())

        def __call__(self, a, b):
            za = self.vision(ImagePreprocess().normalize(a))["features"]
            zb = self.project(self.text(b)["features"])
            z = {side: l2_normalize(x.astype(jnp.float32)) for side, x in (("a", za), ("b", zb))}
            return z | {"temperature": jnp.exp(self.log_temperature)}

    return Towers()


def traced(case: Case, shard: str, devices: list[Any]) -> tuple[Any, int, int]:
    """(the step, traced for the devices; bytes of the parameters; bytes of the state on a chip)."""
    import jax
    import jax.numpy as jnp
    import optax
    from jax.sharding import NamedSharding
    from jax.sharding import PartitionSpec as P
    from tpu_encoders import CASES as ENCODERS

    from alignment_jax.train.gradient_cache import in_micro_batches
    from alignment_jax.train.objective import Contrastive, infonce_pair_loss, model_temperature
    from alignment_jax.train.optimizer import make_optimizer
    from alignment_jax.train.state import create_state
    from alignment_jax.train.step import AXIS, Placement, make_sharded_step, make_step

    module, n = two_tower(ENCODERS[case.vision], ENCODERS[case.text]), case.batch

    def init():
        return module.init(jax.random.key(0), jnp.zeros((1, 224, 224, 3), jnp.uint8), jnp.ones((1, 2), int))["params"]

    def apply(params, model_state, a, b, *, train, rows, where, key):
        return module.apply({"params": params}, a, b), model_state

    objective = Contrastive(infonce_pair_loss("gathered"), anchor_scale=model_temperature)
    optimizer = make_optimizer("adamw", optax.constant_schedule(1e-4), weight_decay=0.1, mask=matrices, clip=1.0)
    parts = (objective, in_micro_batches(apply, micro_batch=MICRO_BATCH), optimizer)
    placement = Placement(
        devices,
        lambda axis: make_step(*parts, axis_name=axis, average_decay=0.999),
        (lambda mesh: make_sharded_step(*parts, mesh=mesh, average_decay=0.999)) if shard == "parameters" else None,
    )

    def start():
        return create_state(
            params=init(),
            model_state={},
            optimizer=optimizer,
            method_state=objective.init(),
            key=jax.random.key(0),
            averaged=True,
        )

    state = jax.eval_shape(start)
    shardings = placement.shardings(state)
    state = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, shardings)
    rows = NamedSharding(placement.mesh, P(AXIS))
    batch = {
        "a": jax.ShapeDtypeStruct((n, 224, 224, 3), jnp.uint8, sharding=rows),
        "b": jax.ShapeDtypeStruct((n, TOKENS), jnp.int32, sharding=rows),
        "index": jax.ShapeDtypeStruct((n,), jnp.int32, sharding=rows),
        "where": jax.ShapeDtypeStruct((n,), jnp.bool_, sharding=rows),
    }
    parameters = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state.params))
    held = sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(state))
    return placement.run.trace(state, batch), parameters, held


def matrices(params: Any) -> Any:
    """Whether each array has weight decay."""
    import jax

    return jax.tree.map(lambda x: x.ndim > 1, params)


def collective_bytes(jaxpr: Any) -> dict[str, float]:
    """Collective -> bytes of the whole arrays that a chip gathers or adds up, loops of known length included."""
    from tpu_encoders import equations

    total: dict[str, float] = {}
    for equation, times in equations(jaxpr):
        if kind := NAMES.get(equation.primitive.name):
            arrays = equation.invars if kind == "reduce-scatter" else equation.outvars
            size = sum(v.aval.size * v.aval.dtype.itemsize for v in arrays)
            total[kind] = total.get(kind, 0) + times * size
    return total


def compile_one(case: Case, shard: str) -> dict[str, Any]:
    """Compiles the step; sizes are bytes a chip."""
    import jax
    from jax.experimental import topologies

    jax.default_backend = lambda: "tpu"  # forms are chosen as they would be there
    devices = list(topologies.get_topology_desc(platform="tpu", topology_name=case.topology).devices)
    program, parameters, state = traced(case, shard, devices)
    collectives = collective_bytes(program.jaxpr)
    line = {"title": case.title, "shard": shard, "parameters": parameters, "state": state, "collectives": collectives}
    start = time.perf_counter()
    try:
        memory = program.lower().compile().memory_analysis()
    except jax.errors.JaxRuntimeError as error:
        found = re.search(r"temporaries \(([\d.]+)G\) exceeds", str(error))
        if found is None:
            raise
        return line | {"temporary": round(float(found.group(1)) * 2**30)}
    return line | {"temporary": memory.temp_size_in_bytes, "seconds": time.perf_counter() - start}


def text(lines: list[dict[str, Any]]) -> str:
    """The section of the page."""
    from alignment_jax.report import table, to_markdown

    rows = []
    for line in lines:
        sizes = [f"{line[name] / 2**30:.2f}" for name in ("state", "temporary")]
        fits = line["state"] + line["temporary"] < CHIP_MEMORY
        moved = ", ".join(f"{name} {size / 2**30:.2f}" for name, size in line["collectives"].items())
        (case,) = (case for case in CASES if case.title == line["title"])
        model = f"{case.title}, {line['parameters'] / 4e6:,.0f} M"
        place = f"{case.batch:,} on v5e-{case.chips}"
        rows.append([model, place, f"`{line['shard']}`", *sizes, "yes" if fits else "no", moved])
    names = [
        "towers, parameters",
        "batch",
        "`train.shard`",
        "state, GiB a chip",
        "temporary, GiB a chip",
        "fits 16 GiB",
        "collectives of the traced program, GiB a chip",
    ]
    compilers = ", ".join(f"{name} {lines[0][name]}" for name in ("jax", "libtpu"))
    head = f"`python benchmarks/tpu_sharded_state.py --write`, {compilers}. Parameters in float32."
    return f"{head}\n\n{to_markdown(table(names, rows))}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--shard", help=argparse.SUPPRESS)
    parser.add_argument("--record", type=pathlib.Path, default=RECORD, help="one line for each compiled step")
    parser.add_argument("--write", action="store_true", help="rewrite the table in benchmarks/results/tpu.md")
    arguments = parser.parse_args()
    if arguments.shard:
        print(json.dumps(compile_one(CASES[arguments.case], arguments.shard)))
        return
    from kept_rows import kept_row
    from sections import write_section
    from tpu_encoders import versions

    from alignment_jax.train.parameter_sharding import SHARDED

    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "PYTHONPATH": paths}

    def compiled(number: int, shard: str) -> dict[str, Any]:
        # One process each: libtpu describes one slice per process.
        command = [sys.executable, __file__, "--case", str(number), "--shard", shard]
        found = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        return json.loads(found.stdout.strip().splitlines()[-1]) | versions()

    lines = [
        kept_row(arguments.record, {"title": case.title, "shard": shard}, functools.partial(compiled, number, shard))
        for (number, case), shard in itertools.product(enumerate(CASES), SHARDED)
    ]
    shown = text(lines)
    if arguments.write:
        write_section("sharded", shown, page=ROOT / "benchmarks" / "results" / "tpu.md")
    print(shown)


if __name__ == "__main__":
    main()
