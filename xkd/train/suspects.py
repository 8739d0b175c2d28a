"""Which ranks keep the others of a run from going on, as their heartbeats tell."""

import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from xkd.train.heartbeat import PHASES, Beat, interval, read_beats

Beats = Sequence[Beat | None]  # of each rank what it has told last; None where its file cannot be read
SILENT_BEATS = 3  # so many that do not come mean a rank that is gone
SHOWN_RANKS = 8


def listen(run_dir: Path, world_size: int) -> tuple[Beats, Beats]:
    """All heartbeats twice, so far apart that each rank that is still there has written another."""
    before = read_beats(run_dir, world_size)
    time.sleep(SILENT_BEATS * interval(world_size))
    return before, read_beats(run_dir, world_size)


def verdict(before: Beats, now: Beats) -> str:
    """The ranks that the others wait for: those that are gone; else those that are not as far; else nobody can be told."""
    if found := gone(before, now):
        return found
    places = [(beat.step, PHASES.index(beat.phase)) for beat in now]
    behind = [beat for beat, place in zip(now, places, strict=True) if place == min(places)]
    if len(behind) == len(now):
        return f"no rank is behind: {_where(now[0])}{', as all are' if len(now) > 1 else ''}"
    return f"{_shown([_where(beat) for beat in behind])}; the others are waiting further on"


def gone(before: Beats, now: Beats) -> str | None:
    """The ranks that have ended or are not heard of any more; None where all are there."""
    pairs = enumerate(zip(before, now, strict=True))
    found = [_gone(rank, beat) for rank, (was, beat) in pairs if beat is None or beat.phase == "ended" or beat == was]
    return _shown(found) if found else None


def _gone(rank: int, beat: Beat | None) -> str:
    if beat is None:
        return f"rank {rank} has left no heartbeat"
    last = datetime.fromisoformat(beat.time).strftime("%H:%M:%S UTC")
    if beat.phase == "ended":
        return f"{_who(beat)} has ended at {last} after {beat.step} steps"
    return f"{_who(beat)} has not been heard of since {last}, in {beat.phase} after {beat.step} steps"


def _where(beat: Beat) -> str:
    return f"{_who(beat)} has been in {beat.phase} after {beat.step} steps for {beat.phase_seconds:.0f} s"


def _who(beat: Beat) -> str:
    return f"rank {beat.rank} (pid {beat.pid} on {beat.host})"


def _shown(ranks: list[str]) -> str:
    more = len(ranks) - SHOWN_RANKS
    return "; ".join(ranks[:SHOWN_RANKS]) + (f"; and {more} more" if more > 0 else "")
