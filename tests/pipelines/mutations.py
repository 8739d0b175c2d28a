"""Damage of every kind that storage and copying do to shard folders, drawn at random."""

import os
import re
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

BLOCK = tarfile.BLOCKSIZE
Change = Callable[[bytearray, np.random.Generator], bytes]


@dataclass(frozen=True)
class Mutation:
    """What becomes of one file of a shard, when, and what comes of it most of the time."""

    apply: Callable[[Path, np.random.Generator], None]
    outcome: Literal["marked", "refused", "unharmed"]
    suffix: str = ".tar"
    when: Literal["before opening", "after opening", "after the first step"] = "before opening"


def rewritten(change: Change) -> Callable[[Path, np.random.Generator], None]:
    """The file with other bytes, in place: who has it open sees them."""

    def apply(path: Path, random: np.random.Generator) -> None:
        data = change(bytearray(path.read_bytes()), random)
        with path.open("r+b") as file:
            file.write(data)
            file.truncate()

    return apply


def flipped_bytes(data: bytearray, random: np.random.Generator) -> bytes:
    for place in random.integers(0, len(data), random.integers(1, 40)):
        data[place] ^= random.integers(1, 256)
    return data


def flipped_bit(data: bytearray, random: np.random.Generator) -> bytes:
    data[random.integers(len(data))] ^= 1 << random.integers(8)
    return data


def zeros(data: bytearray, random: np.random.Generator) -> bytes:
    begin = random.integers(len(data) // 2)
    size = random.integers(1, len(data) // 2)
    data[begin : begin + size] = bytes(size)
    return data


def exchanged_blocks(data: bytearray, random: np.random.Generator) -> bytes:
    one, other = _two_runs(data, random)
    data[one], data[other] = data[other], data[one]
    return data


def repeated_blocks(data: bytearray, random: np.random.Generator) -> bytes:
    one, other = _two_runs(data, random)
    data[one] = data[other]
    return data


def cut_out_and_padded(data: bytearray, random: np.random.Generator) -> bytes:
    cut = cut_out(bytearray(data), random)
    return cut + bytes(len(data) - len(cut))


def cut_out(data: bytearray, random: np.random.Generator) -> bytes:
    begin = random.integers(len(data) - 1)
    del data[begin : begin + random.integers(1, 1 + min(20 * BLOCK, len(data) - begin))]
    return data


def truncated(data: bytearray, random: np.random.Generator) -> bytes:
    return data[: random.integers(len(data))]


def appended(data: bytearray, random: np.random.Generator) -> bytes:
    return data + random.bytes(random.integers(1, 2000))


def another_number(data: bytearray, random: np.random.Generator) -> bytes:
    """One digit of one number of a json file is another."""
    place = random.choice([found.start(1) for found in re.finditer(rb"[ \n](\d+),?\n", data)])
    data[place] = ord("1") + (data[place] - ord("1") + random.integers(1, 9)) % 9
    return data


def noise_in_a_header(path: Path, random: np.random.Generator) -> None:
    with tarfile.open(path) as tar:
        offset = random.choice([member.offset for member in tar.getmembers()])
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(random.bytes(BLOCK))


def exchanged_with_another(path: Path, random: np.random.Generator) -> None:
    other = random.choice([file for file in sorted(path.parent.glob(f"*{path.suffix}")) if file != path])
    path.write_bytes(other.read_bytes())


def removed(path: Path, random: np.random.Generator) -> None:
    path.unlink()


def a_folder_instead(path: Path, random: np.random.Generator) -> None:
    path.unlink()
    path.mkdir()


def emptied(path: Path, random: np.random.Generator) -> None:
    os.truncate(path, 0)


def _two_runs(data: bytearray, random: np.random.Generator) -> tuple[slice, slice]:
    """Two runs of whole blocks, equally long and apart."""
    size = random.integers(1, 1 + min(20, len(data) // BLOCK // 2))
    first, second = sorted(random.choice(len(data) // BLOCK // size, 2, replace=False) * size * BLOCK)
    return slice(first, first + size * BLOCK), slice(second, second + size * BLOCK)


SIDECAR, MANIFEST, INDEX = ".safetensors", "manifest.json", ".idx"
OPENED, RUNNING = "after opening", "after the first step"

MUTATIONS = {
    "flipped bytes": Mutation(rewritten(flipped_bytes), "marked"),
    "flipped bit": Mutation(rewritten(flipped_bit), "marked"),
    "zeros": Mutation(rewritten(zeros), "marked"),
    "exchanged blocks": Mutation(rewritten(exchanged_blocks), "marked"),
    "repeated blocks": Mutation(rewritten(repeated_blocks), "marked"),
    "cut out and padded": Mutation(rewritten(cut_out_and_padded), "marked"),
    "another shard's bytes": Mutation(exchanged_with_another, "marked"),
    "noise in a tar header": Mutation(noise_in_a_header, "unharmed"),
    "cut out": Mutation(rewritten(cut_out), "refused"),
    "truncated": Mutation(rewritten(truncated), "refused"),
    "appended": Mutation(rewritten(appended), "refused"),
    "removed": Mutation(removed, "refused"),
    "flipped bytes, opened": Mutation(rewritten(flipped_bytes), "marked", when=OPENED),
    "cut out, opened": Mutation(rewritten(cut_out), "marked", when=OPENED),
    "truncated, opened": Mutation(rewritten(truncated), "marked", when=OPENED),
    "appended, opened": Mutation(rewritten(appended), "unharmed", when=OPENED),
    "removed, opened": Mutation(removed, "marked", when=OPENED),
    "emptied, opened": Mutation(emptied, "marked", when=OPENED),
    "a folder instead, opened": Mutation(a_folder_instead, "marked", when=OPENED),
    "flipped bytes, running": Mutation(rewritten(flipped_bytes), "marked", when=RUNNING),
    "zeros, running": Mutation(rewritten(zeros), "marked", when=RUNNING),
    "truncated, running": Mutation(rewritten(truncated), "marked", when=RUNNING),
    "removed, running": Mutation(removed, "marked", when=RUNNING),
    "sidecar: flipped bytes": Mutation(rewritten(flipped_bytes), "refused", SIDECAR),
    "sidecar: flipped bit": Mutation(rewritten(flipped_bit), "refused", SIDECAR),
    "sidecar: zeros": Mutation(rewritten(zeros), "refused", SIDECAR),
    "sidecar: exchanged blocks": Mutation(rewritten(exchanged_blocks), "refused", SIDECAR),
    "sidecar: another's": Mutation(exchanged_with_another, "refused", SIDECAR),
    "sidecar: truncated": Mutation(rewritten(truncated), "refused", SIDECAR),
    "sidecar: removed": Mutation(removed, "refused", SIDECAR),
    "manifest: flipped bytes": Mutation(rewritten(flipped_bytes), "refused", MANIFEST),
    "manifest: flipped bit": Mutation(rewritten(flipped_bit), "unharmed", MANIFEST),
    "manifest: another number": Mutation(rewritten(another_number), "refused", MANIFEST),
    "manifest: zeros": Mutation(rewritten(zeros), "refused", MANIFEST),
    "manifest: cut out": Mutation(rewritten(cut_out), "refused", MANIFEST),
    "manifest: truncated": Mutation(rewritten(truncated), "refused", MANIFEST),
    "manifest: removed": Mutation(removed, "refused", MANIFEST),
    "index: flipped bytes": Mutation(rewritten(flipped_bytes), "unharmed", INDEX),
    "index: removed": Mutation(removed, "unharmed", INDEX),
}
