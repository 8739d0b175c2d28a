"""Resamples a stream of timed items (video frames) to a constant rate."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TypeVar

T = TypeVar("T")

# Containers that count in milliseconds begin a frame up to half a millisecond late; it still counts as begun.
SLACK_SECONDS = Fraction(1, 1000)


def sample_and_hold(timed: Iterable[tuple[Fraction, Fraction, T]], rate: Fraction) -> Iterator[T]:
    """Item k of the result is the last one that had begun at time k / rate.

    `timed` holds (begin, end, item) in order of begin, in seconds from the first. The result ends with the last item: a final
    step of which less than half is filled is left out, but there is always at least one.
    """
    step, end_of_all, shown = 0, Fraction(0), None
    for begin, end, item in timed:
        while shown is not None and step / rate < begin - SLACK_SECONDS:
            yield shown
            step += 1
        shown, end_of_all = item, max(end_of_all, end)
    if shown is None:
        return
    for _ in range(step, max(1, round(end_of_all * rate))):
        yield shown
