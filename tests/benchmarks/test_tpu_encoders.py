"""The operations that the table of compiled encoders counts, and the page against its record."""

import jax
import numpy as np
import pytest

from alignment_jax.report import read_rows


@pytest.fixture
def encoders(benchmark_script):
    return benchmark_script("tpu_encoders")


@pytest.mark.parametrize(
    ("name", "tokens", "width", "depth", "others"),
    [("MiniLM-L6, 64 tokens", 64, 384, 6, 0), ("ViT-B/16, 224 px", 197, 768, 12, 196 * (16 * 16 * 3) * 768)],
)
def test_operations_are_those_of_every_layer(encoders, name, tokens, width, depth, others):
    """A layer: four maps and an MLP of four times the width, scores and their weighting of values."""
    case = encoders.CASES[name]
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("data",))
    function, shapes = encoders.program(case, mesh)
    layer = tokens * 12 * width**2 + 2 * tokens**2 * width
    found = encoders.product_flops(function.trace(*shapes).jaxpr)
    assert found == 2 * (depth * layer + others) * case.batch * mesh.size


def test_the_page_is_the_record(encoders, repository):
    lines = read_rows(encoders.RECORD)
    assert {(line["slice"], line["chips"]) for line in lines} == set(encoders.SLICES)
    assert len(lines) == len(encoders.SLICES) * len(encoders.CASES)
    page = (repository / "benchmarks" / "results" / "tpu.md").read_text(encoding="utf-8")
    assert encoders.text(lines).strip() in page


def test_collectives_are_counted_with_the_length_of_their_loops(benchmark_script):
    module = benchmark_script("tpu_sharded_state")
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("batch",))

    def layer(x, kernel):
        return x @ jax.lax.all_gather(kernel, "batch", tiled=True), None

    def loss(kernels, x):
        return jax.lax.pmean(jax.numpy.sum(jax.lax.scan(layer, x, kernels)[0]), "batch")

    specs = jax.P(None, "batch"), jax.P("batch")
    step = jax.jit(jax.shard_map(jax.grad(loss), mesh=mesh, in_specs=specs, out_specs=specs[0]))
    found = module.collective_bytes(step.trace(np.ones((3, 4, 4), np.float32), np.ones((2, 4), np.float32)).jaxpr)
    assert found["all-gather"] == found["reduce-scatter"] == 3 * 4 * 4 * 4
