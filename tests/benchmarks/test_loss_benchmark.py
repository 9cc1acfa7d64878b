"""Benchmark cases of a loss have the same value; an interrupted benchmark continues."""

import numpy as np
import pytest

from alignment_jax.benchmarking import loss_benchmark, loss_cases
from alignment_jax.benchmarking.goals import goals


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2, 16, 8))
    za, zb = np.float32(z / np.linalg.norm(z, axis=-1, keepdims=True))
    return za, zb, rng.uniform(0.1, 0.2, 16).astype(np.float32)


@pytest.mark.slow
def test_cases_of_infonce_have_the_same_value(batch):
    expected = loss_cases.make_infonce("tiled:8")(*batch)
    for form in (
        loss_cases.log_softmax_loss,
        loss_cases.log_sum_exp_loss,
        loss_cases.make_infonce("dense"),
    ):
        np.testing.assert_allclose(form(*batch), expected, rtol=1e-6)


def test_every_case_is_timed():
    forms = [
        loss_cases.jax_case("tiled", loss_cases.make_infonce("tiled")),
        loss_cases.four_products_case(),
    ]
    seconds = loss_benchmark.time_cases(forms, 512, 512, rounds=1)
    assert set(seconds) == {"tiled", "four products"}
    assert all(value > 0 for value in seconds.values())


def test_memory_of_log_softmax_is_quadratic():
    plain = [loss_benchmark.compiled_memory(n, 1, "log_softmax") for n in (1024, 2048)]
    assert plain[1] > 3 * plain[0]


@pytest.mark.parity
def test_pytorch_cases_have_the_same_values(batch):
    import torch

    found = {case.name: case.prepare(*batch)() for case in loss_cases.torch_cases(torch)}
    np.testing.assert_allclose(found.pop("one product, PyTorch"), batch[0] @ batch[1].T, rtol=1e-5, atol=1e-6)
    infonce, hinge = (float(loss("dense")(*batch)) for loss in (loss_cases.make_infonce, loss_cases.make_max_margin))
    assert found == {
        "InfoNCE, open_clip in PyTorch": pytest.approx(infonce, rel=1e-5),
        "InfoNCE, MM-TS in PyTorch": pytest.approx(infonce, rel=1e-5),
        "max-margin, MM-TS in PyTorch": pytest.approx(hinge, rel=1e-5),
    }


def test_an_interrupted_benchmark_continues_and_a_complete_one_restarts(tmp_path, monkeypatch):
    calls = []

    def stand_in(compared, n, d, rounds):
        calls.append((n, d))
        return {case.name: 1.0 for case in compared}

    def interrupted(sizes):
        raise RuntimeError

    monkeypatch.setattr(loss_benchmark, "time_cases", stand_in)
    monkeypatch.setattr(loss_benchmark, "memory_rows_in_subprocess", interrupted)
    record = tmp_path / "quick.json"
    with pytest.raises(RuntimeError):
        loss_benchmark.run_benchmark(quick=True, record=record)
    assert calls == list(loss_benchmark.QUICK_SIZES)
    monkeypatch.setattr(loss_benchmark, "memory_rows_in_subprocess", lambda sizes: [[1, "infonce tiled", 3.0, 4.0]])
    assert "| infonce tiled |" in loss_benchmark.run_benchmark(quick=True, record=record)
    assert len(calls) == len(loss_benchmark.QUICK_SIZES)
    loss_benchmark.run_benchmark(quick=True, record=record)
    assert len(calls) == 2 * len(loss_benchmark.QUICK_SIZES)


def test_goals_are_met_or_missed():
    memory = [
        [devices, f"{loss} {form}", 10.0, 20.0, 40.0, 80.0, 160.0]
        for devices, form in ((1, "tiled"), (8, "ring"), (8, "gathered"))
        for loss in ("infonce", "max_margin", "sigmoid")
    ]
    times = {
        "512 x 512": {"InfoNCE, tiled": 1.0, "InfoNCE, dense": 1.0},
        "8192 x 512": {"InfoNCE, tiled": 1.0, "InfoNCE, log_softmax": 1.2, "four products": 0.9},
    }
    found = {goal: rest for goal, *rest in goals({"memory": memory, "times": times})}
    rows = {goal: (wanted, measured, met) for goal, (wanted, measured, _, met) in found.items()}
    assert rows["infonce, ring: MiB a device, 8 devices, n = 32,768"] == ("≤ 64", "160", "no")
    assert rows["infonce, gathered: MiB a device, 8 devices, n = 32,768"] == ("≤ 256", "160", "yes")
    assert rows["time of InfoNCE, log_softmax / InfoNCE, tiled, 8192 x 512"] == ("≥ 1.5", "1.20", "no")
    assert found["time of InfoNCE, log_softmax / InfoNCE, tiled, 8192 x 512"][2] == "1.33"
    assert rows["time of InfoNCE, tiled / four products, 8192 x 512"] == ("≤ 1.15", "1.11", "yes")
    assert not [goal for goal in rows if "PyTorch" in goal]
