"""Golden files, and rows that say how far this model is from them."""

import math
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

TOKEN_RTOL, TOKEN_ATOL = 1e-4, 2e-5
LOSS, GRADIENT = 1e-5, 1e-4
# What storing a reference rounds away, relative to the value: half a unit in the last place.
STORED = {torch.float16: 2.0**-11, torch.float32: 2.0**-24}
# What numpy raises on files that are damaged, or are something else.
UNREADABLE = (ValueError, OSError, EOFError, TypeError, AttributeError, LookupError, RuntimeError, zipfile.BadZipFile, zlib.error)

Candidate = TypeVar("Candidate")


@dataclass(frozen=True)
class Row:
    """One quantity of a file; it passes where the error is at most the tolerance, so never where it is NaN."""

    quantity: str
    error: float
    tolerance: float
    measure: str

    @property
    def passed(self) -> bool:
        return self.error <= self.tolerance


@dataclass(frozen=True)
class Comparison:
    """All rows of one file, and what had to be inferred to read it."""

    rows: list[Row]
    read_as: str = ""


@dataclass(frozen=True)
class Golden:
    """The arrays of one file, as tensors; it remembers which of them were never asked for."""

    path: Path
    arrays: Mapping[str, np.ndarray]
    unread: set[str] = field(default_factory=set)

    @classmethod
    def open(cls, path: Path) -> "Golden":
        """Raises ValueError where the file is no npz of plain arrays."""
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {key: file[key] for key in file.files}
        except UNREADABLE as error:
            reason = str(error).partition(". ")[0]  # numpy goes on with the advice to read the file unprotected
            raise ValueError(f"{path}: cannot be read as an npz file of plain arrays ({reason}): copy it again") from None
        return cls(path, arrays, set(arrays))

    @property
    def name(self) -> str:
        return self.path.stem

    def __contains__(self, key: str) -> bool:
        return key in self.arrays

    def __getitem__(self, key: str) -> Tensor:
        array = np.asarray(self._array(key))
        if array.dtype.kind not in "biuf":
            raise ValueError(f"{self.path}: the array {key!r} holds {array.dtype}, not real numbers: make it anew")
        return torch.from_numpy(array)

    def real(self, key: str, dtype: torch.dtype = torch.float32) -> Tensor:
        return self[key].to(dtype)

    def lines(self, key: str) -> list[str]:
        """An array of strings; none where it is absent."""
        return self._array(key).tolist() if key in self else []

    def below(self, prefix: str) -> dict[str, Tensor]:
        """Every array whose key starts with the prefix, by the rest of its key."""
        return {name: self[f"{prefix}{name}"] for name in self.names(prefix)}

    def names(self, prefix: str) -> list[str]:
        """The rest of every key that starts with the prefix."""
        return [key.removeprefix(prefix) for key in self.arrays if key.startswith(prefix)]

    def groups(self, pattern: str) -> list[str]:
        """What the pattern's one group matches in the keys, each once, in the file's order."""
        matches = (re.match(pattern, key) for key in self.arrays)
        return list(dict.fromkeys(match.group(1) for match in matches if match))

    def state(self) -> dict[str, Tensor]:
        """The state dict, in float32; float16 entries are exact in it."""
        return {key: value.float() for key, value in self.below("sd/").items()}

    def _array(self, key: str) -> np.ndarray:
        if key not in self.arrays:
            raise ValueError(f"{self.path}: has no array {key!r}, which files of its kind have: make it anew")
        self.unread.discard(key)
        return self.arrays[key]


def close(quantity: str, found: Tensor, expected: Tensor) -> Row:
    """Elementwise, as tokens are compared; a reference that was stored as float16 may be off by its rounding."""
    rtol = TOKEN_RTOL + (STORED[torch.float16] if expected.dtype == torch.float16 else 0)
    found, expected = _pair(quantity, found, expected)
    error = ((found - expected).abs() / (TOKEN_ATOL + rtol * expected.abs())).max().item()
    return Row(quantity, error, 1.0, f"max |a - b| / ({TOKEN_ATOL:.0e} + {rtol:.1e} |b|)")


def relative(quantity: str, found: Tensor, expected: Tensor, tolerance: float, note: str = "") -> Row:
    """Of the whole tensor: |a - b| / |b|."""
    found, expected = _pair(quantity, found, expected)
    difference, size = (found - expected).norm().item(), expected.norm().item()
    error = difference / size if size else math.inf if difference else 0.0
    return Row(quantity, error, tolerance, f"|a - b| / |b|{note}")


def absolute(quantity: str, found: Tensor, expected: Tensor, tolerance: float) -> Row:
    found, expected = _pair(quantity, found, expected)
    return Row(quantity, (found - expected).abs().max().item(), tolerance, "max |a - b|")


def exact(quantity: str, found: Tensor, expected: Tensor) -> Row:
    found, expected = _pair(quantity, found, expected)
    return Row(quantity, (found != expected).sum().item(), 0, "elements that differ")


def worst(quantity: str, rows: Iterable[Row], shown: int = 3) -> Iterator[Row]:
    """Of many tensors the ones furthest out, where any misses, or else the one nearest to its tolerance; nothing of none."""
    rows = sorted(rows, key=lambda row: (row.passed, -row.error / row.tolerance))
    missed = sum(not row.passed for row in rows)
    count = f"{len(rows)}, {missed} missed" if missed else f"{len(rows)}"
    for row in rows[: min(missed, shown) or 1]:
        yield Row(f"{quantity} ({count}): {row.quantity}", row.error, row.tolerance, row.measure)


def gradients(golden: Golden, tensors: Mapping[str, Tensor]) -> Iterator[Row]:
    """`grad/NAME` and `gradnorm/NAME` against the gradients of the tensors under their released names."""
    grads, norms = golden.below("grad/"), golden.below("gradnorm/")
    yield from worst("grad", (relative(name, gradient(tensors, name), grads[name], GRADIENT) for name in grads))
    yield from worst("gradnorm", (relative(name, gradient(tensors, name).norm(), norms[name], GRADIENT) for name in norms))


def gradient(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    """Raises ValueError where there is no such tensor, or it has no gradient."""
    grad = tensors[name].grad if name in tensors else None
    if grad is None:
        raise ValueError(f"{name}: the file has a gradient for it, but this model gives none: is it of this variant?")
    return grad


def first_that_passes(candidates: Iterable[Candidate], compare: Callable[[Candidate], Iterator[Row]]) -> Comparison:
    """The rows of the first candidate of which all pass; of none such, those of the one that passes furthest.

    For what neither shapes nor keys say, such as how 1,024 values a token are cut from a clip. A candidate is left at its first
    miss, and a wrong one fails at once, so that only a model that agrees in everything passes.
    """
    furthest, best = -1, None
    for candidate in candidates:
        rows = []
        for row in compare(candidate):
            rows.append(row)
            if not row.passed:
                break
        else:
            return Comparison(rows, str(candidate))
        if len(rows) > furthest:
            furthest, best = len(rows), candidate
    return Comparison(list(compare(best)), str(best))


def _pair(quantity: str, found: Tensor, expected: Tensor) -> tuple[Tensor, Tensor]:
    if found.shape != expected.shape:
        raise ValueError(f"{quantity}: this model gives shape {tuple(found.shape)}, the file has {tuple(expected.shape)}")
    return found.detach().double(), expected.double()
