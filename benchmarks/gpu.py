"""Loss, training steps and extraction on one GPU: times, pairs a second, memory.

    python benchmarks/gpu.py --seconds 500 --write

The order is that of worth: the rate of matrix products, the loss against the floor of four products at that rate, tile
sizes and where tiles begin to pay, whole training steps, encoders. Each finished case is a line of the record, so that
a run that is cut short has kept its cases and the next one continues. After `--seconds` no case is begun. Times are
the median of repeated calls on a device that does nothing else. Needs jax, flax and optax alone.

`--quick` takes small sizes on any device, to see that every case works.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import pathlib
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tpu_encoders
from kept_rows import kept_row
from sections import write_section
from tpu_sharded_state import matrices, two_tower

from alignment_jax import losses, models
from alignment_jax.models.pretrained import ImagePreprocess
from alignment_jax.report import read_rows, table, to_markdown
from alignment_jax.similarity import Implementation
from alignment_jax.train.device_data_set import DeviceDataSet
from alignment_jax.train.objective import Contrastive, infonce_pair_loss, model_temperature
from alignment_jax.train.optimizer import make_optimizer
from alignment_jax.train.state import create_state
from alignment_jax.train.step import Placement, make_step

ROOT = pathlib.Path(__file__).resolve().parent.parent
RECORD, PAGE = ROOT / "benchmarks" / "results" / "gpu.jsonl", ROOT / "benchmarks" / "results" / "gpu.md"
DIM = 768
SIZES, DENSE_UP_TO = (16_384, 65_536, 131_072, 262_144), 32_768
TILES, TILED_ROWS = (1024, 2048, 4096, 8192), 65_536
CROSSOVER = (512, 1024, 2048, 4096, 8192)
DTYPES = ("bfloat16", "float32")
PAIRS, WIDTHS, BATCH = (600, 12_000, 600_000), (1024, 768), 4096
CLIP_B32 = {"image_size": 224, "patch_size": 32, "projection_dim": 768}  # of the size of the text's projection
ENCODERS = ("ViT-B/16, 224 px", "CLIP ViT-L/14, 224 px", "MiniLM-L6, 64 tokens")
Row = dict[str, Any]


def milliseconds(call: Callable[[], Any], *, least: float = 0.5, rounds: int = 5) -> float:
    """Median of `rounds` repetitions, each of enough calls for `least` seconds in all."""
    jax.block_until_ready(call())
    start = time.perf_counter()
    jax.block_until_ready(call())
    times = max(1, int(least / rounds / max(time.perf_counter() - start, 1e-6)))
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(times):
            result = call()
        jax.block_until_ready(result)
        found.append(1e3 * (time.perf_counter() - start) / times)
    return statistics.median(found)


def product(n: int, dtype: str, precision: str) -> Row:
    """FLOP/s of an n x n x n product."""
    x = jax.random.normal(jax.random.key(0), (n, n), dtype)
    multiply = jax.jit(lambda x: jax.lax.dot(x, x, precision=precision, preferred_element_type=jnp.float32))
    took = milliseconds(lambda: multiply(x))
    return {"ms": took, "tflops": 2 * n**3 / took / 1e9}


def loss(n: int, dtype: str, form: str, precision: str = "float32", dim: int = DIM) -> Row:
    """Value and gradients of InfoNCE; `form` as `similarity` takes it, "ring" over a mesh of one device."""
    keys = jax.random.split(jax.random.key(0), 2)
    za, zb = (losses.l2_normalize(jax.random.normal(key, (n, dim))).astype(dtype) for key in keys)
    axis = "data" if form.startswith("ring") else None
    implementation = dataclasses.replace(Implementation.parse(form), precision=precision)

    def value(za: jax.Array, zb: jax.Array) -> jax.Array:
        pair = losses.infonce(za, zb, temperature=0.05, similarity=implementation, axis_name=axis)
        return losses.reduce(*pair, axis_name=axis)

    step: Any = jax.value_and_grad(value, (0, 1))
    if axis is not None:
        mesh, rows = jax.sharding.Mesh(np.array(jax.devices()[:1]), (axis,)), jax.sharding.PartitionSpec(axis)
        step = jax.shard_map(step, mesh=mesh, in_specs=rows, out_specs=(jax.sharding.PartitionSpec(), rows))
    compiled = jax.jit(step).lower(za, zb).compile()
    memory: Any = compiled.memory_analysis()
    took = milliseconds(lambda: compiled(za, zb))
    return {"ms": took, "temporary": memory.temp_size_in_bytes, "tflops": 8 * n * n * dim / took / 1e9}


def frozen_step(pairs: int, batch: int, precision: str, widths: tuple[int, int] = WIDTHS, dim: int = 512) -> Row:
    """A step on latents that stay on the device, 32 in a call, as the trainer takes them."""
    batch, rng = min(batch, pairs), np.random.default_rng(0)
    module = models.Adapters(dim=dim, blocks_a=1, blocks_b=1)
    tables = {
        side: rng.standard_normal((pairs, width), dtype=np.float32).astype(np.float16)
        for side, width in zip("ab", widths, strict=True)
    }
    params = module.init(jax.random.key(0), *(jnp.asarray(x[:2], jnp.float32) for x in tables.values()))["params"]

    def apply(params, model_state, a, b, *, train, rows, where, key):
        rngs = {"dropout": key}
        return module.apply({"params": params}, a, b, train=train, rows=rows, where=where, rngs=rngs), model_state

    placement, state = _training(apply, params, Implementation(precision=precision))
    steps = DeviceDataSet(placement, tables)
    numbers = [rng.permutation(pairs)[:batch].astype(np.int32) for _ in range(steps.max_steps)]
    where = np.ones(batch, bool)
    batches = [{"a": rows, "b": rows, "index": rows, "where": where} for rows in numbers]

    def call() -> Any:
        nonlocal state
        state, metrics = steps(state, batches)
        return metrics

    took = milliseconds(call) / len(batches)
    return {"ms": took, "pairs_per_second": batch / took * 1e3}


def towers_step(batch: int, tokens: int, config: dict[str, Any], text: dict[str, Any], precision: str) -> Row:
    """A step of the size of CLIP ViT-B/32, bfloat16 towers, images and tokens already on the device."""
    clip = tpu_encoders.Case("clip_vision_model", config, batch)
    module = two_tower(clip, tpu_encoders.Case("bert", text, batch, tokens))
    size, rng = config["image_size"], np.random.default_rng(0)
    images = rng.integers(0, 256, (batch, size, size, 3), np.uint8)
    texts = rng.integers(1, text.get("vocab_size", 20_000), (batch, tokens)).astype(np.int32)
    params = jax.jit(module.init)(jax.random.key(0), images[:1], texts[:1])["params"]

    def apply(params, model_state, a, b, *, train, rows, where, key):
        return module.apply({"params": params}, a, b), model_state

    placement, state = _training(apply, params, Implementation(precision=precision))
    rows = np.arange(batch, dtype=np.int32)
    put = placement.put_batch({"a": images, "b": texts, "index": rows, "where": np.ones(batch, bool)})

    def call() -> Any:
        nonlocal state
        state, metrics, _ = placement.run(state, put)
        return metrics

    return {"ms": (took := milliseconds(call, least=2.0)), "pairs_per_second": batch / took * 1e3}


def _training(apply: Callable[..., Any], params: Any, similarity: Implementation) -> tuple[Placement, Any]:
    objective = Contrastive(infonce_pair_loss(similarity), anchor_scale=model_temperature)
    optimizer = make_optimizer("adamw", optax.constant_schedule(1e-4), weight_decay=0.1, mask=matrices, clip=1.0)
    placement = Placement(jax.devices()[:1], lambda axis: make_step(objective, apply, optimizer, axis_name=axis))
    state = create_state(
        params=params,
        model_state={},
        optimizer=optimizer,
        method_state=objective.init(),
        key=jax.random.key(0),
        averaged=False,
    )
    return placement, placement.put_state(state)


def encode(case: tpu_encoders.Case) -> Row:
    """Items a second of an encoder in bfloat16, as `extract` runs it, inputs already on the device."""
    batch = case.batch
    module: nn.Module = tpu_encoders.tower(case)
    variables = jax.jit(module.init)(jax.random.key(0), *module.example())
    rng = np.random.default_rng(0)
    if case.tokens:
        tokens = jnp.asarray(rng.integers(1000, 20_000, (batch, case.tokens)), jnp.int32)
        mask = jnp.ones(tokens.shape, bool)
        run = jax.jit(lambda v: module.apply(v, tokens=tokens, mask=mask, method="encode_text"))
    else:
        size = case.config["image_size"]
        pixels, preprocess = jnp.asarray(rng.integers(0, 256, (batch, size, size, 3), np.uint8)), ImagePreprocess()
        run = jax.jit(lambda v: module.apply(v, preprocess.normalize(pixels), method="encode_image"))
    took = milliseconds(lambda: run(variables), least=1.0)
    return {"ms": took, "items_per_second": batch / took * 1e3}


def cases(quick: bool) -> Iterator[tuple[Row, Callable[[], Row]]]:
    """(key of the record, measurement), in order."""
    n = 64 if quick else 8192
    for dtype, precision in (("bfloat16", "default"), ("float32", "highest"), ("float32", "default")):
        yield (
            {"part": "product", "dtype": dtype, "precision": precision},
            functools.partial(product, n, dtype, precision),
        )
    sizes, dense = ((64,), 64) if quick else (SIZES, DENSE_UP_TO)
    for rows in sizes:
        for form in ("tiled", "ring", *(["dense"] if rows <= dense else [])):
            for dtype in DTYPES:
                yield _key("loss", rows, dtype, form), functools.partial(loss, rows, dtype, form)
    rows = 64 if quick else TILED_ROWS
    for precision in ("bfloat16_3x", "bfloat16"):
        key = {**_key("loss", rows, "float32", "tiled"), "precision": precision}
        yield key, functools.partial(loss, rows, "float32", "tiled", precision)
    for tile in (32,) if quick else TILES:
        for dtype in DTYPES:
            form = f"tiled:{tile}"
            yield _key("tile", rows, dtype, form), functools.partial(loss, rows, dtype, form)
    for rows in (64,) if quick else CROSSOVER:
        for form in ("dense", "tiled"):
            yield _key("crossover", rows, "bfloat16", form), functools.partial(loss, rows, "bfloat16", form)
    for pairs in (60, 600) if quick else PAIRS:
        for precision in ("float32", "bfloat16_3x"):
            key = {"part": "frozen", "pairs": pairs, "precision": precision}
            yield (
                key,
                functools.partial(frozen_step, pairs, *((16, precision, (12, 10), 8) if quick else (BATCH, precision))),
            )
    if quick:
        tiny = tpu_encoders._sizes(32, 1, 2, 64)
        vision, text, batch = {**tiny, **CLIP_B32, "image_size": 64}, {**tiny, "vocab_size": 100}, 2
    else:
        vision = {**tpu_encoders._sizes(768, 12, 12, 3072), **CLIP_B32}
        text, batch = tpu_encoders._sizes(512, 12, 8, 2048), 1024
    for precision in ("float32", "bfloat16_3x"):
        key = {"part": "towers", "pairs": batch, "precision": precision}
        yield key, functools.partial(towers_step, batch, 8 if quick else 64, vision, text, precision)
    encoders = {name: tpu_encoders.CASES[name] for name in ENCODERS}
    if quick:
        encoders = {"tiny": tpu_encoders.Case("vit", {**tiny, "image_size": 64, "patch_size": 32}, 2)}
    for name, case in encoders.items():
        yield {"part": "encoder", "name": name, "batch": case.batch}, functools.partial(encode, case)


def _key(part: str, rows: int, dtype: str, form: str) -> Row:
    return {"part": part, "rows": rows, "dtype": dtype, "form": form, "precision": "float32"}


def attempt(measure: Callable[[], Row]) -> Row:
    """The measurement, or one line of the error: a case that does not fit must not end the others."""
    try:
        return measure()
    except Exception as error:
        return {"error": f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"}


def text(lines: list[Row]) -> str:
    """The page."""
    rates = {(x["dtype"], x["precision"]): x["tflops"] for x in lines if x["part"] == "product" and "tflops" in x}
    products = [[dtype, precision, f"{rate:.0f}"] for (dtype, precision), rate in rates.items()]
    blocks = [to_markdown(table(["products of", "precision", "TFLOP/s"], products))]
    rows = []
    for x in lines:
        if x["part"] in ("loss", "tile", "crossover"):
            # The floor of the arithmetic that was asked for: float32 embeddings at "highest", others in bfloat16.
            exact = x["dtype"] == "float32" and x["precision"] == "float32"
            rate = rates.get(("float32", "highest") if exact else ("bfloat16", "default"))
            cells = [x.get("error", ""), "", ""]
            if "ms" in x:
                floor = f"{rate / x['tflops']:.2f}" if rate else ""
                cells = [f"{x['ms']:.2f}", floor, f"{x['temporary'] / 2**20:,.0f}"]
            rows.append([f"{x['rows']:,}", x["dtype"], x["precision"], x["form"], *cells])
    blocks.append(to_markdown(table(["rows", "embeddings", "products", "form", "ms", "times the floor", "MiB"], rows)))
    steps = [
        [x["part"], f"{x['pairs']:,}", x["precision"], f"{x['ms']:.3f}" if "ms" in x else x["error"]]
        for x in lines
        if x["part"] in ("frozen", "towers")
    ]
    blocks.append(to_markdown(table(["training step", "pairs", "products of the loss", "ms"], steps)))
    encoders = [
        [x["name"], str(x["batch"]), f"{x['items_per_second']:,.0f}" if "items_per_second" in x else x["error"]]
        for x in lines
        if x["part"] == "encoder"
    ]
    blocks.append(to_markdown(table(["encoder", "batch", "items/s"], encoders)))
    devices = ", ".join(sorted({f"{x['device']}, jax {x['jax']}" for x in lines}))
    return "\n\n".join([f"`python benchmarks/gpu.py --write`, {devices}, {DIM} dimensions.", *blocks])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=500.0, help="begin no case after this time")
    parser.add_argument("--record", type=pathlib.Path, default=RECORD)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/gpu.md")
    arguments = parser.parse_args()
    about = {"device": jax.devices()[0].device_kind, "jax": jax.__version__}
    start = time.monotonic()
    for key, measure in cases(arguments.quick):
        if time.monotonic() - start > arguments.seconds:
            print(f"{arguments.seconds:g} s have passed; the same command continues")
            break
        kept_row(arguments.record, {**key, **about}, functools.partial(attempt, measure))
    shown = text(read_rows(arguments.record))
    if arguments.write:
        if not PAGE.exists():
            PAGE.write_text("# One GPU\n", encoding="utf-8")
        write_section("gpu", shown, page=PAGE)
    print(shown)


if __name__ == "__main__":
    main()
