"""Progress: right speeds, rate-limited lines, a log with the time on every line."""

import io
import re
import sys

import pytest

from alignment_jax.report import Progress, format_bytes, format_seconds, host_memory, peak_host_memory


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


def _run(progress, clock, steps, *, seconds=0.1, first=5.0):
    for step in steps:
        clock.now += first if step == progress.start_step + 1 else seconds
        progress.update(step, {"train/loss": 1.0})


def test_speed_leaves_out_compilation_and_pauses():
    clock, shown = Clock(), io.StringIO()
    with Progress(100, pairs_per_step=32, stream=shown, clock=clock) as progress:
        _run(progress, clock, range(1, 21))
        with progress.pause("evaluating val"):
            clock.now += 40.0  # compiled
        # The first evaluation includes compilation.
        assert progress.seconds_left() == pytest.approx(80 * 0.1)
        _run(progress, clock, range(21, 41))
        with progress.pause("evaluating val"):
            clock.now += 20.0
        _run(progress, clock, range(41, 51))
        # 50 steps left at 0.1 s, and two evaluations in 50 steps as so far.
        assert progress.seconds_left() == pytest.approx(50 * (0.1 + 2 * 20 / 50))
        totals = progress.totals()
        _run(progress, clock, range(51, 101))
    last = shown.getvalue().splitlines()[-1]
    assert all(part in last for part in ("100/100", "10 steps/s", "320 pairs/s", "1 min 15 s"))
    assert totals["steps"] == 50
    assert totals["pairs"] == 50 * 32
    assert totals["seconds"] == pytest.approx(5 + 49 * 0.1 + 60)
    assert totals["pairs_per_second"] == pytest.approx(50 * 32 / (5 + 49 * 0.1))


@pytest.mark.parametrize("steps", [1, 8])  # at once: a training set on the device takes several
def test_the_first_line_has_the_time_of_compilation_and_neither_speed_nor_time_left(steps):
    clock, shown = Clock(), io.StringIO()
    with Progress(100, pairs_per_step=32, stream=shown, interval=0.0, clock=clock) as progress:
        clock.now += 30.0
        progress.update(steps)
        assert progress.seconds_left() is None
        clock.now += 0.1 * steps
        progress.update(2 * steps)
    first, second = shown.getvalue().splitlines()
    assert "30.0 s with compilation" in first
    assert "steps/s" not in first
    assert "pairs/s" not in first
    assert "left" not in first
    assert "10 steps/s, 320 pairs/s" in second
    assert f"{(100 - 2 * steps) * 0.1:.1f} s left" in second


def test_lines_are_rate_limited_but_first_and_last_always_show():
    clock, shown = Clock(), io.StringIO()
    with Progress(1000, stream=shown, interval=10.0, clock=clock) as progress:
        _run(progress, clock, range(1, 1001), first=0.1)
    lines = shown.getvalue().splitlines()
    assert lines[0].startswith("step 1/1000")
    assert lines[-1].startswith("step 1000/1000")
    assert 11 <= len(lines) <= 12


def test_metrics_are_not_looked_at_when_nothing_is_shown():
    clock, looked = Clock(), []

    class Metric:
        def __float__(self):
            looked.append(1)
            return 1.0

    with Progress(1000, stream=io.StringIO(), interval=10.0, clock=clock) as progress:
        for step in range(1, 100):
            clock.now += 0.05
            progress.update(step, {"loss": Metric()})
    assert len(looked) == 1


def test_a_resumed_run_counts_from_its_first_step():
    clock, shown = Clock(), io.StringIO()
    with Progress(200, 150, stream=shown, pairs_per_step=10, clock=clock) as progress:
        _run(progress, clock, range(151, 201))
        assert progress.totals()["pairs"] == 500
    assert "step 151/200 (75 %)" in shown.getvalue()
    assert "10 steps/s" in shown.getvalue().splitlines()[-1]


def test_true_pair_counts_win_over_the_nominal_ones():
    clock = Clock()
    with Progress(4, quiet=True, pairs_per_step=32, clock=clock) as progress:
        for step, pairs in ((1, 32), (2, 32), (3, 32), (4, 7)):
            clock.now += 1
            progress.update(step, pairs=pairs)
        assert progress.totals()["pairs"] == 103


def test_the_log_has_every_message_and_the_time_and_is_appended_to(tmp_path):
    path = tmp_path / "run" / "log.txt"
    for word in ("first", "second"):
        with Progress(2, log_path=path, quiet=True) as progress:
            progress.message(f"{word}\nwith two lines")
            progress.update(2, {"train/loss": 0.25})
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 6
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d{4}  ", line) for line in lines)
    assert lines[0].endswith("  first")
    assert "train/loss 0.25" in lines[2]
    assert lines[3].endswith("  second")


def test_quiet_shows_nothing(capsys):
    with Progress(1, quiet=True) as progress:
        progress.message("hush")
        progress.update(1)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_it_shows_on_the_error_stream_so_that_output_stays_clean(capsys):
    with Progress(1) as progress:
        progress.message("hello")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "hello\n")


def test_a_terminal_gets_a_bar_and_messages_above_it():
    pytest.importorskip("tqdm", reason="needs the extra 'train'")
    clock, shown = Clock(), Terminal()
    with Progress(20, 10, stream=shown, pairs_per_step=4, clock=clock) as progress:
        _run(progress, clock, range(11, 21), seconds=1.0)
        progress.message("saved a checkpoint")
    text = shown.getvalue()
    assert "20/20" in text
    assert "1 steps/s, 4 pairs/s" in text
    assert "saved a checkpoint\n" in text
    assert not re.search(r"^step \d+/20", text, re.MULTILINE)


def test_a_terminal_without_tqdm_gets_lines(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    shown = Terminal()
    with Progress(1, stream=shown) as progress:
        progress.update(1)
    assert shown.getvalue().startswith("step 1/1 (100 %)")


def test_device_memory_is_shown_where_known_and_its_peak_kept():
    used = iter([3 * 2**30, 2**30])
    shown = io.StringIO()
    with Progress(2, stream=shown, interval=0.0, device_memory=lambda: next(used)) as progress:
        progress.update(1)
        progress.update(2)
        assert progress.totals()["peak_device_bytes"] == 3 * 2**30
    assert "device 3.0 GiB" in shown.getvalue()
    with Progress(1, stream=shown, device_memory=lambda: None) as progress:
        progress.update(1)
        assert "peak_device_bytes" not in progress.totals()


def test_memory_of_this_process_is_plausible():
    held = bytearray(64 * 2**20)
    now, peak = host_memory(), peak_host_memory()
    assert now is not None
    assert peak is not None
    assert len(held) < now < 2**40
    assert now <= peak * 1.05


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.0 s"),
        (59.96, "1 min 00 s"),
        (3599.6, "1 h 00 min"),
        (float("nan"), "unknown"),
        (float("inf"), "unknown"),
    ],
)
def test_durations_roll_over_to_the_next_unit(seconds, text):
    assert format_seconds(seconds) == text


def test_sizes():
    assert [format_bytes(size) for size in (0, 1023, 1024, 5 * 2**40)] == ["0 B", "1023 B", "1 KiB", "5.0 TiB"]
