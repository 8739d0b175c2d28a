"""Reads the headers of a shard's tar; unlike tarfile, it goes on behind a damaged one and looks at the padding too."""

import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

BLOCK = tarfile.BLOCKSIZE
TRAILER = 2 * BLOCK  # a tar ends with at least so many zero bytes


@dataclass(frozen=True)
class Member:
    """A file in a tar, `offset` being where its data begins."""

    name: str
    offset: int
    size: int

    @property
    def key(self) -> str:
        return self.name.partition(".")[0]

    @property
    def extension(self) -> str:
        return self.name.partition(".")[2]

    @property
    def end(self) -> int:
        """Where the next header begins."""
        return self.offset + -(-self.size // BLOCK) * BLOCK


def walk(path: Path, names: Mapping[int, str]) -> tuple[list[Member], list[str]]:
    """The members that a tar holds, in order, and what is wrong with its structure.

    `names` (offset of data: name) says which member a damaged header belonged to.
    """
    members, problems, position = [], [], 0
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        for begin, header in _headers(file.fileno(), size):
            if begin != position:
                problems += _damaged_headers(names, position, begin)
            member = Member(header.name, begin + BLOCK, header.size)
            if member.offset + member.size > size:
                problems.append(f"it ends at byte {size}, within {member.name}")
                return members, problems
            if any(os.pread(file.fileno(), member.end - member.offset - member.size, member.offset + member.size)):
                problems.append(f"the padding behind {member.name} (at byte {member.offset + member.size}) is not zero")
            members.append(member)
            position = member.end
        trailer = os.pread(file.fileno(), size - position, position)
    if any(trailer):
        problems += _damaged_headers(names, position, size)
    elif len(trailer) < TRAILER:
        problems.append(f"it ends at byte {size}, without the {TRAILER} zero bytes that end a tar")
    return members, problems


def index_text(members: Iterable[Member]) -> str:
    """DALI's index (v1.2) of a tar with these members, neighbours of the same key being one sample."""
    lines = [
        " ".join(f"{member.extension} {member.offset} {member.size} {member.name}" for member in sample)
        for _, sample in groupby(members, key=lambda member: member.key)
    ]
    return "\n".join([f"v1.2 {len(lines)}", *lines, ""])


def index_members(text: str) -> list[Member]:
    """The members that an index names; words of it that make no sense are left out."""
    members = []
    for line in text.splitlines()[1:]:
        words = line.split()
        for _, offset, size, name in zip(*[iter(words)] * 4, strict=False):
            if offset.isdigit() and size.isdigit():
                members.append(Member(name, int(offset), int(size)))
    return members


def _damaged_headers(names: Mapping[int, str], begin: int, end: int) -> list[str]:
    lost = [(offset - BLOCK, names[offset]) for offset in sorted(names) if begin <= offset - BLOCK < end]
    return [f"the header of {name} (at byte {place}) is damaged" for place, name in lost or [(begin, "a member, or the end,")]]


def _headers(descriptor: int, size: int) -> Iterator[tuple[int, tarfile.TarInfo]]:
    """Every header with its place: the next one is looked for block by block from the end of the member before."""
    position = 0
    while position + BLOCK <= size:
        header = _parse(os.pread(descriptor, BLOCK, position))
        if header is None:
            position += BLOCK
        else:
            yield position, header
            position = Member(header.name, position + BLOCK, header.size).end


def _parse(block: bytes) -> tarfile.TarInfo | None:
    """The header in a block, None unless it is one as the converter writes it, to the byte."""
    if block[257:262] != b"ustar":
        return None
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        return header if header.tobuf(tarfile.USTAR_FORMAT) == block else None
    except (tarfile.HeaderError, ValueError):
        return None
