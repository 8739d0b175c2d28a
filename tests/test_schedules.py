"""Schedules hit their ends and stay there."""

import pytest

from xkd.schedules import cosine, linear, warmup_cosine


@pytest.mark.parametrize("schedule", [linear, cosine])
def test_a_schedule_starts_and_ends_where_told_and_stays(schedule):
    assert schedule(0, 10, 0.997, 1.0) == pytest.approx(0.997)
    assert schedule(5, 10, 0.997, 1.0) == pytest.approx(0.9985)
    assert schedule(10, 10, 0.997, 1.0) == schedule(25, 10, 0.997, 1.0) == 1.0


@pytest.mark.parametrize("schedule", [linear, cosine])
def test_a_schedule_of_no_steps_is_at_its_end(schedule):
    assert schedule(0, 0, 0.1, 0.9) == 0.9


def test_warmup_rises_to_the_peak_then_falls_to_the_final_value():
    values = [warmup_cosine(step, 100, 10, 2.0, 0.5) for step in range(101)]
    assert values[0] == 0
    assert values[5] == pytest.approx(1.0)
    assert values[10] == max(values) == 2.0
    assert values[55] == pytest.approx(1.25)
    assert values[100] == pytest.approx(0.5)
    assert values[:11] == sorted(values[:11])
    assert values[10:] == sorted(values[10:], reverse=True)


def test_without_warmup_the_first_step_has_the_peak():
    assert warmup_cosine(0, 100, 0, 2.0) == 2.0
