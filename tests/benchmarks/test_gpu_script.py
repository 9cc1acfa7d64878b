"""Every case of the GPU script runs: there is little time on a lent machine to find a mistake."""

import pytest


@pytest.mark.slow
def test_every_case_measures_and_the_page_shows_it(benchmark_script, monkeypatch):
    gpu = benchmark_script("gpu")

    def once(call, **options):
        gpu.jax.block_until_ready(call())
        return 1.0

    monkeypatch.setattr(gpu, "milliseconds", once)
    lines = [{**key, "device": "test", "jax": "1", **gpu.attempt(measure)} for key, measure in gpu.cases(quick=True)]
    assert [line["error"] for line in lines if "error" in line] == []
    assert {line["part"] for line in lines} == {
        *("product", "loss", "tile", "crossover", "frozen", "towers", "encoder")
    }
    page = gpu.text(lines)
    assert all(
        str(line.get("form", line["part"])) in page for line in lines if line["part"] not in ("product", "encoder")
    )
    assert gpu.attempt(lambda: 1 / 0)["error"].startswith("ZeroDivisionError")
