"""The sentences of the results page follow from the records."""

import collections
import json
import sys

import numpy as np
import pytest

from alignment_jax.core.jsonl import append_row
from alignment_jax.train.loop import Finished
from alignment_jax.train.position import Position


@pytest.fixture
def results(benchmark_script):
    yield benchmark_script("results")
    for name in ("results", "claims", "noise_table", "sections", "recipe", "bss_av_digits", "unpaired_latents"):
        sys.modules.pop(name, None)


def test_a_page_with_a_search_counts_its_trial_runs(results, tmp_path):
    about = {"metric": "rsum", "baseline": "baseline", "modalities": ["image", "text"], "complete": True}
    (tmp_path / "comparison.json").write_text(json.dumps({**about, "methods": ["baseline", "vals"]}))
    for method in ("baseline", "vals"):
        run = {"method": method, "seed": 0, "test": {"rsum": 400.0}, "cost": {"seconds": 2.0}}
        append_row(tmp_path / "runs.jsonl", {**run, "fraction": 1.0, "mismatched": 0.0})
    text = results.text(results.read(results.PARTS[1], tmp_path))
    assert "2 runs, 4.0 s" in text
    assert "trial" not in text
    for trial in range(3):
        row = {"method": "vals", "trial": trial, "metric": "rsum", "seeds": [0, 1], "values": [1.0, 2.0]}
        append_row(tmp_path / "trials.jsonl", row)
    assert "6 trial runs" in results.text(results.read(results.PARTS[1], tmp_path))


def test_unpaired_latents_have_no_partner(results, tmp_path):
    count = 40
    a, b_to_a = np.arange(count, dtype="f4")[:, None], np.repeat(np.arange(count, dtype="i4"), 2)
    split = np.array(["train"] * 30 + ["val"] * 5 + ["test"] * 5)
    np.savez(tmp_path / "all.npz", a=a, b=100 + b_to_a[:, None], b_to_a=b_to_a, split=split)
    results.write_unpaired(tmp_path / "all.npz", tmp_path / "out.npz", pairs=8)
    with np.load(tmp_path / "out.npz") as found:
        assert collections.Counter(found["split"].tolist()) == {"train": 8, "val": 5, "test": 5}
        np.testing.assert_array_equal(100 + found["a"][found["b_to_a"]], found["b"])
        alone, partners = found["a_unpaired"].ravel(), np.unique(found["b_unpaired"].ravel()) - 100
        assert len(alone) == len(partners) == 11
        assert not set(alone) & set(partners)
        assert not (set(alone) | set(partners)) & set(found["a"].ravel())


def test_the_page_marks_claims_over_seeds_alone(results):
    parts = {claim.path[1] for part in results.PARTS for claim in part.claims if claim.path[0] != "test"}
    assert parts == {"retained", "calibration", "long_tail", "balance"}
    page = results.CLAIMS.read_text(encoding="utf-8")
    assert all(f"`{part}`" in page for part in parts)


def test_the_pages_show_the_commands_that_made_them(results):
    missing = [part.name for part in results.PARTS if results.shown(part) not in part.page.read_text(encoding="utf-8")]
    assert missing == []


def test_pages_equal_the_kept_rows(results, benchmark_script, repository):
    bss_av_digits, recipe = benchmark_script("bss_av_digits"), benchmark_script("recipe")
    page = (repository / "docs" / "results.md").read_text(encoding="utf-8")
    kept = repository / "benchmarks" / "results"
    rows = recipe.read_rows(kept / "recipe.jsonl")
    part, details = bss_av_digits.pages(kept / "bss_av_digits.jsonl")
    assert recipe.page(rows).strip() in page
    assert part.strip() in page
    assert details.strip() in bss_av_digits.PAGE.read_text(encoding="utf-8")


def test_a_stopped_training_is_no_result(benchmark_script, monkeypatch):
    complete_fit = benchmark_script("complete_fit")
    for preempted in (False, True):
        finished = Finished(Position(), {}, preempted, {})
        monkeypatch.setattr(complete_fit, "fit", lambda *_, finished=finished, **__: finished)
        if preempted:
            with pytest.raises(SystemExit):
                complete_fit.complete_fit(None)
        else:
            assert complete_fit.complete_fit(None) is finished
