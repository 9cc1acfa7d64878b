"""The comparison of fine-tuning steps refuses different work; its page is its record."""

import pytest

from alignment_jax.report import read_rows


@pytest.fixture
def finetune(benchmark_script):
    return benchmark_script("finetune")


def test_different_losses_or_gradients_are_refused(finetune):
    case, steps = finetune.CASES["minilm"], [[4.0, 0.9], [3.0, 0.8]]
    finetune.check_same_work(case, steps, [[4.0 * (1 + 1e-6), 0.9], [3.0, 0.8]])
    for changed in ([[4.01, 0.9], [3.0, 0.8]], [[4.0, 0.91], [3.0, 0.8]], [[4.0, 0.9], [3.1, 0.8]]):
        with pytest.raises(SystemExit):
            finetune.check_same_work(case, steps, changed)


def test_the_page_is_the_record(finetune):
    lines = read_rows(finetune.RECORD)
    assert {(line["case"], line["tune"]) for line in lines} == {(c, t) for c in finetune.CASES for t in finetune.TUNES}
    assert finetune.text(finetune.in_order(lines)) in finetune.PAGE.read_text(encoding="utf-8")
