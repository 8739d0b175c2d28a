"""The journal of an unfinished shard folder: what decides its bytes, and which shards of it are done.

Its first line is the header. A line follows for each stretch of items once its shard is on disk, complete and under its final name.
A run that was killed leaves at most a torn last line, which is cut off.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from xkd.pipelines.convert.shard import write_durably
from xkd.pipelines.shards.manifest import Settings, ShardRecord

JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class Header:
    """What must be the same for a run to go on with what another one began."""

    settings: Settings
    versions: dict[str, str]


@dataclass(frozen=True)
class ListedFailure:
    """A line of failures.jsonl: an item's place in the order of the whole, its name, the reason in words, the exception's class."""

    item: int
    name: str
    reason: str
    error: str


@dataclass(frozen=True)
class Stretch:
    """Items that are done, up to the place `end`: the shard that holds them (None if all failed), and those that failed."""

    end: int
    shard: ShardRecord | None
    failures: Sequence[ListedFailure]


def begin_journal(folder: Path, header: Header, stretches: Sequence[Stretch] = ()) -> None:
    """Write a journal anew."""
    first = json.dumps({"settings": header.settings.model_dump(), "versions": header.versions})
    write_durably(folder / JOURNAL, "".join(f"{line}\n" for line in [first, *map(_to_json, stretches)]).encode())


def append_to_journal(folder: Path, stretch: Stretch) -> None:
    """Note a stretch, whose shard must be on disk by now; on return the note is too."""
    with (folder / JOURNAL).open("ab") as file:
        file.write(f"{_to_json(stretch)}\n".encode())
        file.flush()
        os.fsync(file.fileno())


def read_journal(folder: Path) -> tuple[Header, list[Stretch]]:
    """The header and what is done; ValueError if the file is no journal."""
    path = folder / JOURNAL
    first, *rest = path.read_bytes().split(b"\n")[:-1] or [b""]
    try:
        header = json.loads(first)
        header = Header(Settings.model_validate_json(json.dumps(header["settings"])), header["versions"])
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path}: is not a journal of this version of xkd; delete {folder} and start again") from None
    stretches = []
    for line in rest:
        try:
            stretches.append(_from_json(line))
        except ValueError:
            break
    return header, stretches


def _to_json(stretch: Stretch) -> str:
    shard = stretch.shard and stretch.shard.model_dump()
    return json.dumps({"end": stretch.end, "shard": shard, "failures": [asdict(failure) for failure in stretch.failures]})


def _from_json(line: bytes) -> Stretch:
    found = json.loads(line)
    shard = found["shard"] and ShardRecord.model_validate_json(json.dumps(found["shard"]))
    return Stretch(found["end"], shard, [ListedFailure(**failure) for failure in found["failures"]])
