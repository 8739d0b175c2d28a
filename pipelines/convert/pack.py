"""Packs results into shards, the same whatever the number of workers and wherever a run goes on."""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from xkd.pipelines.convert.journal import ListedFailure, Stretch
from xkd.pipelines.convert.plan import Plan
from xkd.pipelines.convert.sample import Converted, Failure
from xkd.pipelines.convert.shard import ShardWriter

# A result and its item's place in the order of the whole.
Placed = tuple[int, Converted | Failure]


def pack(out: Path, plan: Plan, groups: Iterable[Iterator[Placed]], number: int) -> Iterator[Stretch]:
    """Write each group of results to one shard or more, the first of which has the number given."""
    settings = plan.settings
    for group in groups:
        left = True
        while left:
            with ShardWriter(out, f"{settings.split}-{number:06d}", settings.profile, plan.listing.classes) as writer:
                begin, end, failures, left = _fill(writer, group, plan)
                shard = writer.finish(begin) if len(writer) else None
            number += shard is not None
            yield Stretch(end, shard, failures)
            group = chain(left, group)


def _fill(writer: ShardWriter, results: Iterator[Placed], plan: Plan) -> tuple[int, int, list[ListedFailure], list[Placed]]:
    """Add results until one does not fit: the places of the first and after the last, the failures, what did not fit."""
    failures, begin = [], None
    for place, result in results:
        begin = place if begin is None else begin
        if isinstance(result, Failure):
            failures.append(listed(place, result))
        elif len(writer) and writer.size_with(result) > plan.settings.shard_bytes:
            return begin, place, failures, [(place, result)]
        else:
            writer.add(result, plan.items[place].roles)
        end = place + 1
    return begin, end, failures, []


def listed(place: int, failure: Failure) -> ListedFailure:
    """A failure as it is listed."""
    return ListedFailure(place, failure.name, failure.reason, failure.error)
