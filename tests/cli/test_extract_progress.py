"""The lines of an extraction: a speed for each side, no line twice, no time left before it is known."""

import io

from alignment_jax.cli.extract_progress import ExtractProgress


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def shown(calls, **options):
    """The lines after calls (seconds, side, done, total, encoded)."""
    clock, stream = Clock(), io.StringIO()
    show = ExtractProgress(stream=stream, clock=clock, **options)
    for seconds, *call in calls:
        clock.now += seconds
        show(*call)
    return stream.getvalue().splitlines()


BEGIN = [(0, "image", 0, 100, False), (0, "text", 0, 400, False)]


def test_both_sides_have_their_own_speed_and_the_time_left_is_that_of_both():
    images = [(2, "image", done, 100, True) for done in (20, 40, 60, 80, 100)]
    texts = [(1, "text", done, 400, True) for done in (100, 200, 300, 400)]
    lines = shown([*BEGIN, *images, *texts], interval=0.0)
    assert lines[0] == "20 of 100 images, 10.0 a second; 0 of 400 texts; 8.0 s left for images"
    assert lines[4] == "100 of 100 images, 10.0 a second; 0 of 400 texts"
    assert lines[5] == "100 of 100 images, 10.0 a second; 100 of 400 texts, 100.0 a second; 3.0 s left"
    assert lines[8] == "100 of 100 images, 10.0 a second; 400 of 400 texts, 100.0 a second"
    assert len(lines) == 9


def test_existing_items_have_no_speed():
    found = [(5, "image", 50, 100, False), (0, "text", 200, 400, False)]
    now = [(10, "image", 100, 100, True), (2, "text", 400, 400, True)]
    lines = shown([*BEGIN, *found, *now], interval=0.0)
    assert lines[0] == "100 of 100 images, 5.0 a second; 200 of 400 texts"
    assert lines[1] == "100 of 100 images, 5.0 a second; 400 of 400 texts, 100.0 a second"
    everything = [(0, "image", 100, 100, False), (0, "text", 400, 400, False)]
    assert shown([*BEGIN, *everything]) == ["100 of 100 images; 400 of 400 texts"]


def test_lines_come_at_intervals_and_at_the_end_and_none_twice():
    images = [(1, "image", done, 100, True) for done in range(5, 101, 5)]
    texts = [(1, "text", done, 400, True) for done in range(20, 401, 20)]
    lines = shown([*BEGIN, *images, *texts], interval=10.0)
    assert len(lines) == len(set(lines)) == 5
    assert lines[-1].startswith("100 of 100 images, 5.0 a second; 400 of 400 texts, 20.0 a second")
    assert shown([*BEGIN, *images, *texts], quiet=True) == []
