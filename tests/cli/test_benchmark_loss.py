"""The benchmark compares like with like: every form of a loss has the same value, and every form is timed."""

import numpy as np
import pytest

from alignment_jax.benchmarking import implementations as benchmark_forms
from alignment_jax.benchmarking import losses as benchmark_loss
from alignment_jax.benchmarking.goals import goals


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2, 16, 8))
    za, zb = np.float32(z / np.linalg.norm(z, axis=-1, keepdims=True))
    return za, zb, rng.uniform(0.1, 0.2, 16).astype(np.float32)


def test_forms_of_infonce_have_one_value(batch):
    expected = benchmark_forms.infonce_loss("tiled:8")(*batch)
    for form in (
        benchmark_forms.log_softmax_loss,
        benchmark_forms.log_sum_exp_loss,
        benchmark_forms.infonce_loss("dense"),
    ):
        np.testing.assert_allclose(form(*batch), expected, rtol=1e-6)


def test_every_form_is_timed():
    forms = [
        benchmark_forms.jax_form("tiled", benchmark_forms.infonce_loss("tiled")),
        benchmark_forms.products_form(),
    ]
    seconds = benchmark_loss.time_forms(forms, 512, 512, rounds=1)
    assert set(seconds) == {"tiled", "four products"}
    assert all(value > 0 for value in seconds.values())


def test_memory_of_the_textbook_form_is_quadratic():
    plain = [benchmark_loss.compiled_memory(n, 1, "log_softmax") for n in (1024, 2048)]
    assert plain[1] > 3 * plain[0]


def test_pytorch_forms_have_the_values_of_ours(batch):
    torch = benchmark_forms.torch_or_none()
    if torch is None:
        pytest.skip("PyTorch is not installed")
    found = {form.name: form.prepare(*batch)() for form in benchmark_forms.torch_forms(torch)}
    np.testing.assert_allclose(found.pop("one product, PyTorch"), batch[0] @ batch[1].T, rtol=1e-5, atol=1e-6)
    infonce, hinge = (
        float(loss("dense")(*batch)) for loss in (benchmark_forms.infonce_loss, benchmark_forms.max_margin_loss)
    )
    assert found == {
        "InfoNCE, open_clip in PyTorch": pytest.approx(infonce, rel=1e-5),
        "InfoNCE, MM-TS in PyTorch": pytest.approx(infonce, rel=1e-5),
        "max-margin, MM-TS in PyTorch": pytest.approx(hinge, rel=1e-5),
    }


def test_an_interrupted_run_goes_on_and_a_complete_one_begins_anew(tmp_path, monkeypatch):
    calls = []

    def stand_in(compared, n, d, rounds):
        calls.append((n, d))
        return {form.name: 1.0 for form in compared}

    def interrupted(sizes):
        raise RuntimeError

    monkeypatch.setattr(benchmark_loss, "time_forms", stand_in)
    monkeypatch.setattr(benchmark_loss, "memory_in_own_process", interrupted)
    record = tmp_path / "quick.json"
    with pytest.raises(RuntimeError):
        benchmark_loss.run_benchmark(quick=True, record=record)
    assert calls == list(benchmark_loss.QUICK_SIZES)
    monkeypatch.setattr(benchmark_loss, "memory_in_own_process", lambda sizes: [[1, "infonce tiled", 3.0, 4.0]])
    assert "| infonce tiled |" in benchmark_loss.run_benchmark(quick=True, record=record)
    assert len(calls) == len(benchmark_loss.QUICK_SIZES)
    benchmark_loss.run_benchmark(quick=True, record=record)
    assert len(calls) == 2 * len(benchmark_loss.QUICK_SIZES)


def test_goals_say_what_is_met_and_what_is_not():
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
    assert rows["time of InfoNCE, tiled / four products, 8192 x 512"] == ("≤ 1.25", "1.11", "yes")
    assert not [goal for goal in rows if "PyTorch" in goal]
