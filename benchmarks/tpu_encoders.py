"""Compiles the forward passes of pretrained encoders for TPU slices, as `extract` runs them: no TPU, no weights.

    pip install 'jax[tpu]'
    python benchmarks/tpu_encoders.py --write

For each encoder and chip: does it compile on one chip and data-parallel, and what a chip must hold. Only shapes are
used. Each compiled case is a line of the record, so an interrupted run continues; delete the record to start over.

Operations are those of products and convolutions in the traced program, two a multiplication, a loop's body times its
length (the compiler's own count takes a loop once). The bound divides them, and the bytes that must cross the memory
(parameters, input, output), by the published rates of a chip. Nothing is measured.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
RECORD = ROOT / "benchmarks" / "results" / "tpu_encoders.jsonl"
# Slices and how many of their chips run: one process each, because libtpu describes one slice per process.
SLICES = [("v5e:2x2", 1), ("v6e:2x2", 1), ("v5e:2x4", 8), ("v6e:2x4", 8), ("v5e:2x2", 4), ("v6e:2x2", 4)]


@dataclasses.dataclass(frozen=True)
class Case:
    """An encoder: `model_type` and the content of its config.json, items a chip, tokens a text (0: images)."""

    model_type: str
    config: dict[str, Any]
    batch: int
    tokens: int = 0


def _sizes(width: int, depth: int, heads: int, hidden: int | None = None) -> dict[str, Any]:
    sizes = {"hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": heads}
    return sizes | ({"intermediate_size": hidden} if hidden else {})


_BASE, _LARGE = _sizes(768, 12, 12, 3072), _sizes(1024, 24, 16, 4096)
_MINI = _sizes(384, 6, 12, 1536)
CASES = {
    "ViT-B/16, 224 px": Case("vit", {**_BASE, "image_size": 224, "patch_size": 16}, 256),
    "DINOv2-B/14, registers, 224 px": Case(
        "dinov2_with_registers", {**_sizes(768, 12, 12), "image_size": 518, "patch_size": 14}, 256
    ),
    "CLIP ViT-L/14, 224 px": Case(
        "clip_vision_model", {**_LARGE, "image_size": 224, "patch_size": 14, "projection_dim": 768}, 256
    ),
    "SigLIP so400m/14, 384 px": Case(
        "siglip_vision_model", {**_sizes(1152, 27, 16, 4304), "image_size": 384, "patch_size": 14}, 64
    ),
    "MiniLM-L6, 64 tokens": Case("bert", _MINI, 1024, 64),
    "MiniLM-L6, 512 tokens": Case("bert", _MINI, 128, 512),
    "BGE-base, 64 tokens": Case("bert", _BASE, 1024, 64),
    "BGE-base, 512 tokens": Case("bert", _BASE, 128, 512),
    "E5-large, 64 tokens": Case("bert", _LARGE, 1024, 64),
    "E5-large, 512 tokens": Case("bert", _LARGE, 128, 512),
}
PIXELS = {"dinov2_with_registers": 224}  # other than the position table's


def tower(case: Case) -> Any:
    """The module in bfloat16, with the parameters that published checkpoints of its form have."""
    import jax.numpy as jnp

    from alignment_jax.models.pretrained.families import FAMILIES
    from alignment_jax.models.pretrained.families.family import Checkpoint
    from alignment_jax.models.pretrained.pooling import SentenceModules
    from alignment_jax.models.pretrained.transformer import Numerics

    names = frozenset({"visual_projection.weight"})
    sentence = SentenceModules(ROOT, ("mean",), True)
    checkpoint = Checkpoint({"model_type": case.model_type, **case.config}, names, sentence)
    return FAMILIES[case.model_type].build(checkpoint, Numerics(dtype=jnp.dtype(jnp.bfloat16)))


def program(case: Case, mesh: Any) -> tuple[Any, list[Any]]:
    """(jitted function of parameters and a batch, their shapes): rows divided over the mesh, parameters copied.

    Images are uint8 and normalised on the chip; texts are token ids and a mask.
    """
    import jax
    import jax.numpy as jnp
    from jax.sharding import NamedSharding
    from jax.sharding import PartitionSpec as P

    from alignment_jax.models.pretrained import ImagePreprocess

    module = tower(case)
    replicated, rows = NamedSharding(mesh, P()), NamedSharding(mesh, P(mesh.axis_names))
    shapes = jax.eval_shape(module.init, jax.random.key(0), *module.example())
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=replicated), shapes)
    count = case.batch * mesh.size
    if case.tokens:
        kinds = {"tokens": jnp.int32, "mask": jnp.bool_}
        batch = {k: jax.ShapeDtypeStruct((count, case.tokens), kind, sharding=rows) for k, kind in kinds.items()}

        def encode(variables: Any, batch: Any) -> Any:
            return module.apply(variables, **batch, method="encode_text")

    else:
        size = PIXELS.get(case.model_type, case.config["image_size"])
        batch = {"pixels": jax.ShapeDtypeStruct((count, size, size, 3), jnp.uint8, sharding=rows)}
        preprocess = ImagePreprocess()

        def encode(variables: Any, batch: Any) -> Any:
            return module.apply(variables, preprocess.normalize(batch["pixels"]), method="encode_image")

    return jax.jit(encode, out_shardings=rows), [shapes, batch]


def product_flops(jaxpr: Any, *, passes: bool = False) -> float:
    """Operations of all matrix products and convolutions of a traced program, loops of known length included.

    passes: times the bfloat16 passes of each product.
    """
    total = 0.0
    for equation, count in equations(jaxpr):
        name, sizes = equation.primitive.name, [math.prod(v.aval.shape) for v in equation.outvars]
        times = count * (product_passes(equation) if passes else 1)
        if name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            total += times * 2 * sizes[0] * math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        elif name == "conv_general_dilated":
            kernel, numbers = equation.invars[1].aval.shape, equation.params["dimension_numbers"]
            total += times * 2 * sizes[0] * math.prod(kernel) / kernel[numbers.rhs_spec[0]]
    return total


def equations(jaxpr: Any, times: int = 1) -> Iterator[tuple[Any, int]]:
    """Each equation of a traced program, those of inner programs too, and how often it runs; in a `while` loop once."""
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        yield equation, times
        inside = times * (equation.params["length"] if equation.primitive.name == "scan" else 1)
        for inner in programs(equation.params):
            yield from equations(inner, inside)


def product_passes(equation: Any) -> int:
    """The bfloat16 products that a TPU makes for a traced product."""
    from compiled_operations import ALGORITHMS, PASSES

    precision, kinds = equation.params.get("precision"), [str(v.aval.dtype) for v in equation.invars[:2]]
    if precision is None or kinds != ["float32", "float32"]:
        return 1
    names = [one.name.lower() for one in (precision if isinstance(precision, tuple) else (precision,))]
    return max(PASSES.get(name) or ALGORITHMS[f"dot_{name}"] for name in names)


def programs(parameters: dict[str, Any]) -> Iterator[Any]:
    """The programs inside an equation of a traced program, of a loop for example."""
    for value in parameters.values():
        for one in value if isinstance(value, (list, tuple)) else [value]:
            if hasattr(one, "eqns") or hasattr(one, "jaxpr"):
                yield one


def compile_one(name: str, devices: list[Any]) -> dict[str, Any]:
    """Compiles an encoder for these chips; sizes are bytes a chip, `flops` of one item."""
    import jax
    import numpy as np
    from compiled_operations import COLLECTIVES, occurrences

    case = CASES[name]
    function, shapes = program(case, jax.sharding.Mesh(np.array(devices), ("data",)))
    traced = function.trace(*shapes)
    start = time.perf_counter()
    compiled = traced.lower().compile()
    seconds = time.perf_counter() - start
    memory = compiled.memory_analysis()
    parameters = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(shapes[0]))
    return {
        "parameters": parameters,
        "arguments": memory.argument_size_in_bytes,
        "output": memory.output_size_in_bytes,
        "temporary": memory.temp_size_in_bytes,
        "code": memory.generated_code_size_in_bytes,
        "flops": product_flops(traced.jaxpr) / (case.batch * len(devices)),
        "collectives": sum(occurrences(compiled.as_text(), kind) for kind in COLLECTIVES),
        "seconds": seconds,
    }


def versions() -> dict[str, str]:
    """Those of the compilers."""
    import importlib.metadata

    return {package: importlib.metadata.version(package) for package in ("jax", "libtpu")}


def compile_slice(topology: str, chips: int, record: pathlib.Path, names: list[str]) -> None:
    """Compiles what the record lacks of some chips of a slice, and appends a line for each case."""
    import jax
    from jax.experimental import topologies
    from kept_rows import kept_row

    jax.default_backend = lambda: "tpu"  # forms are chosen as they would be there
    devices = list(topologies.get_topology_desc(platform="tpu", topology_name=topology).devices)[:chips]
    for name in names:
        key = {"slice": topology, "chips": chips, "encoder": name}
        kept_row(record, key, lambda name=name: compile_one(name, devices) | versions())


def bound(line: dict[str, Any]) -> float:
    """Items a second of one chip at most: operations and unavoidable bytes over the chip's published rates."""
    from tpu_roofline import CHIPS

    (chip,) = [one for one in CHIPS if one.name == line["slice"].partition(":")[0]]
    batch = CASES[line["encoder"]].batch
    seconds = max(batch * line["flops"] / chip.flops, (line["arguments"] + line["output"]) / chip.bandwidth)
    return batch / seconds


def text(lines: list[dict[str, Any]]) -> str:
    """The section of the page."""
    from alignment_jax.report import table, to_markdown

    rows = []
    for name, case in CASES.items():
        for kind in ("v5e", "v6e"):
            found = sorted(
                (x for x in lines if x["encoder"] == name and x["slice"].startswith(kind)), key=lambda x: x["chips"]
            )
            if not found:
                continue
            one = found[0]
            held = [f"{(x['arguments'] + x['output']) / 2**20:,.0f} + {x['temporary'] / 2**20:,.0f}" for x in found]
            rows.append(
                [
                    name,
                    kind,
                    ", ".join(str(x["chips"]) for x in found),
                    f"{case.batch:,}",
                    f"{one['parameters'] / 2**20:,.0f}",
                    ", ".join(dict.fromkeys(held)),
                    str(max(x["collectives"] for x in found)),
                    f"{one['flops'] / 1e9:,.1f}",
                    f"{bound(one):,.0f}",
                ]
            )
    names = [
        *("encoder", "chip", "chips", "batch a chip", "parameters, MiB", "held + temporary, MiB a chip"),
        *("collectives", "GFLOP an item", "bound, items/s a chip"),
    ]
    versions = sorted({f"jax {line['jax']}, libtpu {line['libtpu']}" for line in lines})
    head = f"`python benchmarks/tpu_encoders.py --write`, {'; '.join(versions)}."
    return f"{head}\n\n{to_markdown(table(names, rows))}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slice", help=argparse.SUPPRESS)
    parser.add_argument("--chips", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--record", type=pathlib.Path, default=RECORD, help="one line for each compiled case")
    parser.add_argument("--encoders", nargs="+", choices=CASES, default=list(CASES), metavar="NAME", help="some alone")
    parser.add_argument("--write", action="store_true", help="rewrite the table in benchmarks/results/tpu.md")
    arguments = parser.parse_args()
    if arguments.slice:
        compile_slice(arguments.slice, arguments.chips, arguments.record, arguments.encoders)
        return
    from sections import write_section

    from alignment_jax.report import read_rows

    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "PYTHONPATH": paths}
    for topology, chips in SLICES:
        command = [sys.executable, __file__, "--slice", topology, "--chips", str(chips)]
        command += ["--record", str(arguments.record)]
        subprocess.run([*command, "--encoders", *arguments.encoders], env=environment, check=True)
    shown = text(read_rows(arguments.record))
    if arguments.write:
        write_section("encoders", shown, page=ROOT / "benchmarks" / "results" / "tpu.md")
    print(shown)


if __name__ == "__main__":
    main()
