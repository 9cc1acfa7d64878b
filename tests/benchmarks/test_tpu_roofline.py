"""The arithmetic behind the table of predicted times, against numbers worked out by hand."""

import pytest


@pytest.fixture
def roofline(benchmark_script):
    return benchmark_script("tpu_roofline")


def test_the_loss_of_one_chip_is_four_products(roofline):
    chip = roofline.Chip("unit", flops=1e9, memory=1e9, bandwidth=1e12, link=1e6, links=4)
    work = roofline.Workload("unit", batch=1000, dim=100, parameters=0, pair_flops=0)
    found = roofline.predict(chip, work, 1)
    assert found.loss == pytest.approx(4 * 2 * 1000 * 1000 * 100 / 1e9)
    assert found.ring == found.gather == 0


def test_an_exchange_moves_every_foreign_row_twice(roofline):
    chip = roofline.Chip("unit", flops=1e30, memory=1e9, bandwidth=1e30, link=1e6, links=4)
    work = roofline.Workload("unit", batch=1000, dim=100, parameters=0, pair_flops=0)
    found = roofline.predict(chip, work, 4)
    # 750 rows of others: bfloat16 forward, bfloat16 and a float32 gradient backward.
    assert found.ring == pytest.approx(750 * 100 * (2 + 2 + 4) / 1e6)
    assert found.gather == pytest.approx(found.ring / 4)
    assert found.with_ring == pytest.approx(found.ring)


def test_the_ring_hides_from_where_its_products_take_longer(roofline):
    for chip in roofline.CHIPS:
        rows = roofline.ring_hides_from(chip)
        work = roofline.Workload("unit", batch=int(8 * rows * 1.01), dim=512, parameters=0, pair_flops=0)
        found = roofline.predict(chip, work, 8)
        assert found.loss > found.ring
        assert found.with_ring == pytest.approx(found.loss)
        smaller = roofline.predict(chip, roofline.Workload("unit", int(8 * rows * 0.4), 512, 0, 0), 8)
        assert smaller.loss < smaller.ring


def test_the_table_on_the_page_equals_the_output_of_the_script(roofline, repository):
    page = (repository / "benchmarks" / "results" / "tpu.md").read_text(encoding="utf-8")
    assert roofline.text().strip() in page
