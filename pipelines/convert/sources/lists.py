"""Reads the lists of a dataset, line by line; an error names the file, the line and what was expected."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile

from xkd.pipelines.convert.sources.item import Location


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a csv file, by column; `line` is the number of its last line."""

    values: dict[str, str]
    location: Location
    line: int

    def __getitem__(self, column: str) -> str:
        return self.values[column]

    def error(self, message: str) -> ValueError:
        return ValueError(f"{self.location}, line {self.line}: {message}")

    def number(self, column: str, kind: type = int):
        """A value as a number that is not negative."""
        try:
            value = kind(self[column])
        except ValueError:
            value = -1
        if not 0 <= value < float("inf"):
            raise self.error(f"{column} is {self[column]!r}; expected {'a whole' if kind is int else 'a'} number, 0 or more")
        return value


def read_lines(location: Location) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, without blanks around them, by their numbers."""
    for number, line in enumerate(_lines(location), 1):
        if line.strip():
            yield number, line.strip()


def read_comments(location: Location, comment: str) -> list[str]:
    """The lines at the begin of a file that start with `comment`."""
    return list(takewhile(lambda line: line.startswith(comment), _lines(location)))


def read_table(location: Location, columns: Sequence[str], *, header: bool, comment: str | None = None) -> Iterator[Row]:
    """The rows of a csv file. With a header, it names `columns` and maybe others; without, each row has exactly these.

    Lines at the begin that start with `comment` are left out. Blanks after a comma are no part of a value.
    """
    skipped = len(read_comments(location, comment)) if comment else 0
    rows = csv.reader(islice(_lines(location), skipped, None), skipinitialspace=True)
    try:
        if header:
            columns = _check_header(location, next(rows, []), columns)
        for values in rows:
            if not values:
                continue
            if len(values) != len(columns):
                raise ValueError(
                    f"{location}, line {skipped + rows.line_num}: has {len(values)} values;"
                    f" expected {len(columns)}: {','.join(columns)}"
                )
            yield Row(dict(zip(columns, values, strict=True)), location, skipped + rows.line_num)
    except csv.Error as error:
        raise ValueError(f"{location}, line {skipped + rows.line_num}: is not csv: {error}") from None


def _check_header(location: Location, found: list[str], columns: Sequence[str]) -> list[str]:
    if missing := [column for column in columns if column not in found]:
        raise ValueError(
            f"{location}, line 1: the header is {','.join(found) or 'empty'!r}, without {', '.join(missing)};"
            f" expected {','.join(columns)}"
        )
    return found


def _lines(location: Location) -> Iterator[str]:
    try:
        with location.open() as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
            yield from text
    except UnicodeDecodeError as error:
        raise ValueError(f"{location}: is not text in utf-8 ({error})") from None
    except OSError as error:
        raise ValueError(f"{location}: cannot be read: {error.strerror}") from None
