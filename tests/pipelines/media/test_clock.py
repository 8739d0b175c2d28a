from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from xkd.pipelines.media.clock import SLACK_SECONDS, sample_and_hold

durations = st.lists(st.fractions(min_value=Fraction(1, 120), max_value=2, max_denominator=120), min_size=1, max_size=30)


def timeline(lengths):
    """(begin, end, number) of items that follow one another."""
    ends = [sum(lengths[: index + 1]) for index in range(len(lengths))]
    return [(end - length, end, index) for index, (length, end) in enumerate(zip(lengths, ends, strict=True))]


@given(lengths=durations, rate=st.sampled_from([4, 8, 25]))
def test_each_step_shows_the_last_item_that_had_begun(lengths, rate):
    timed = timeline(lengths)
    for step, shown in enumerate(sample_and_hold(timed, Fraction(rate))):
        now = Fraction(step, rate) + SLACK_SECONDS
        assert shown == max(index for begin, _, index in timed if begin <= now)


@given(lengths=durations, rate=st.sampled_from([4, 8, 25]))
def test_the_result_is_as_long_as_the_source_to_less_than_a_step(lengths, rate):
    shown = list(sample_and_hold(timeline(lengths), Fraction(rate)))
    assert len(shown) >= 1
    assert len(shown) == 1 or abs(len(shown) - sum(lengths) * rate) < 1


def test_a_source_at_the_same_rate_passes_unchanged_even_on_a_millisecond_clock():
    source = [
        (Fraction(round(1000 * index / 30), 1000), Fraction(round(1000 * (index + 1) / 30), 1000), index) for index in range(90)
    ]
    assert list(sample_and_hold(source, Fraction(30))) == list(range(90))


def test_no_items_give_no_steps():
    assert list(sample_and_hold([], Fraction(8))) == []
