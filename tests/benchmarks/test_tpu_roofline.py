"""The counts of a compiled program, and the times that follow from them, against numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alignment_jax.report import read_rows

N, D, LAYERS = 6, 8, 3


@pytest.fixture
def operations(benchmark_script):
    return benchmark_script("compiled_operations")


@pytest.fixture
def roofline(benchmark_script):
    return benchmark_script("tpu_roofline")


def test_a_loop_counts_as_often_as_it_runs(operations):
    """On two devices: a product and a hop of the ring in each of three turns, then a reduction."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("batch",))

    def turn(x, kernel):
        x = jax.lax.ppermute(x, "batch", [(0, 1), (1, 0)])
        return jnp.sin(x @ kernel), None

    def program(x, kernels):
        return jax.lax.psum(jnp.sum(jax.lax.scan(turn, x, kernels)[0]), "batch")

    step = jax.jit(jax.shard_map(program, mesh=mesh, in_specs=(jax.P("batch"), jax.P()), out_specs=jax.P()))
    arguments = np.ones((2 * N, D), np.float32), np.ones((LAYERS, D, D), np.float32)
    found = operations.count(step.lower(*arguments).compile().as_text())
    assert found.products == LAYERS * 2 * N * D * D
    assert found.sent == {"collective-permute": LAYERS * 4 * N * D, "all-reduce": 4}


# As libtpu writes it: a loop of 8 turns with a float32 product of six passes, and a bfloat16 product for each of 12
# batch elements, which is a convolution with holes: of the 12 x 12 places of its window only 12 meet a number.
TPU = """HloModule jit_program

%body (arg: (s32[], f32[32,16])) -> (s32[], f32[32,16]) {
  %arg = (s32[]{:T(128)}, f32[32,16]{1,0:T(8,128)S(1)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%arg), index=0
  %x = f32[32,16]{1,0:T(8,128)} get-tuple-element(%arg), index=1
  %k = f32[16,16]{1,0:T(8,128)} constant({...})
  %product = f32[32,16]{1,0:T(8,128)} convolution(%x, %k), dim_labels=bf_io->bf, operand_precision={highest,highest}
  ROOT %tuple.1 = (s32[], f32[32,16]) tuple(%i, %product)
}

%condition (arg: (s32[], f32[32,16])) -> pred[] {
  %limit = s32[]{:T(128)} constant(8), metadata={op_name="a (b) c"}
  %arg = (s32[]{:T(128)}, f32[32,16]{1,0:T(8,128)S(1)}) parameter(0)
  %j = s32[]{:T(128)} get-tuple-element(%arg), index=0
  ROOT %lt = pred[]{:T(512)} compare(%j, %limit), direction=LT
}

ENTRY %main (p: f32[32,16], q: bf16[12,4,8], r: bf16[12,5,8]) -> f32[12,4,5] {
  %zero = s32[] constant(0)
  %copy.1 = s32[]{:T(128)} copy(%zero)
  %p = f32[32,16]{1,0:T(8,128)} parameter(0)
  %q = bf16[12,4,8]{2,1,0:T(8,128)(2,1)} parameter(1)
  %r = bf16[12,5,8]{2,1,0:T(8,128)(2,1)} parameter(2)
  %tuple.0 = (s32[], f32[32,16]) tuple(%copy.1, %p)
  %while.1 = (s32[], f32[32,16]) while(%tuple.0), condition=%condition, body=%body
  ROOT %each = f32[12,4,5] convolution(%q, %r), window={size=12 stride=11 lhs_dilate=12}, dim_labels=0bf_0oi->0bf
}
"""


def test_products_of_the_tpu_compiler(operations):
    looped, batched = 8 * 2 * 32 * 16 * 16, 2 * 12 * 4 * 5 * 8
    found = operations.count(TPU)
    assert (found.products, found.passes) == (looped + batched, 6 * looped + batched)
    three = operations.count(TPU.replace("operand_precision={highest,highest}", "algorithm=dot_bf16_bf16_f32_x3"))
    assert three.passes == 3 * looped + batched


def test_a_loop_of_unknown_length_is_an_error(operations):
    with pytest.raises(ValueError, match=r"loop while\.1"):
        operations.count(TPU.replace("constant(8)", "parameter(1)"))


def test_bounds_are_counts_over_rates(roofline):
    chip = roofline.Chip("unit", flops=1e9, memory=1e9, bandwidth=1e6, link=1e3, links=4)
    sent = {"collective-permute": 1e3, "all-gather": 1e3, "reduce-scatter": 4e3, "all-reduce": 4e3}
    found = roofline.bounds(chip, 4, {"passes": 2e9, "held": 3e6, "sent": sent})
    assert (found.products, found.memory, found.program) == (2.0, 3.0, found.exchange)
    assert found.exchange == pytest.approx(1 + 3 / 4 + 3 / 4 + 2 * 3 / 4)


def test_the_ring_hides_from_where_its_products_take_longer(roofline):
    line = {"chips": 4, "batch": 400, "passes": 1e9, "held": 0, "sent": {"collective-permute": 3e3}}
    chip = roofline.Chip("unit", flops=1e9, memory=1e9, bandwidth=1e9, link=1e3, links=4)
    rows = roofline.ring_hides_from(chip, line)
    larger = rows / 100
    found = roofline.bounds(chip, 4, {**line, "passes": 1e9 * larger**2, "sent": {"collective-permute": 3e3 * larger}})
    assert found.products == pytest.approx(found.exchange)


def test_every_product_of_the_loss_has_the_passes_that_were_asked_for(benchmark_script):
    """The TPU compiler may drop some: six in float32, three with `auto`, one with bfloat16; towers always have one."""
    same = {"slice": "v5e:2x4", "what": "frozen step", "form": "ring"}
    lines = [line for line in read_rows(benchmark_script("tpu_compile").RECORD) if line.items() >= same.items()]
    passes = {line["precision"]: line["passes"] for line in lines}
    assert passes["bfloat16"] == lines[0]["products"]
    loss = (passes["float32"] - passes["bfloat16"]) / 5
    assert loss > 4 * 2 * 32_768**2 / 8 * 512 * 0.99
    assert passes["auto"] - passes["bfloat16"] == pytest.approx(2 * loss, rel=1e-3)


def test_the_page_is_the_record(benchmark_script, roofline, repository):
    compiled = benchmark_script("tpu_compile")
    lines = read_rows(compiled.RECORD)
    assert [{name: line[name] for name in vars(case)} for line, case in zip(lines, compiled.CASES, strict=True)] == [
        vars(case) for case in compiled.CASES
    ]
    page = (repository / "benchmarks" / "results" / "tpu.md").read_text(encoding="utf-8")
    assert compiled.text(lines).strip() in page
    assert roofline.text(lines).strip() in page
