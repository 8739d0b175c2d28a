"""Results of several evaluations side by side, under the numbers of the paper: results on different data never in one column."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xkd.eval.paper import ABLATION, PUBLISHED, Published
from xkd.eval.results import FORMAT, RESULTS

# The tables, in order, and the protocols in each.
TABLES = {"Linear": ("svm", "linear"), "Fine-tuned": ("finetune",), "Nearest neighbours": ("knn",), "Retrieval": ("retrieval",)}
SHOWN_DIGITS = 8  # of an identity


@dataclass(frozen=True)
class Result:
    """What an evaluation has left, and where."""

    path: Path
    found: dict

    @property
    def net(self) -> str:
        """Which encoders were evaluated, in words."""
        facts = self.found["evaluated"]
        seed = f", seed {facts['seed']}" if "seed" in facts else ""
        return f"{facts['checkpoint']}{seed} ({facts['backbone']})"

    @property
    def encoders(self) -> Mapping[str, str]:
        """Their checksums by modality."""
        return self.found["evaluated"]["encoders_sha256"]

    @property
    def basis(self) -> tuple:
        """What results must have in common to stand in one column: the samples learnt from and tested on, and the folds."""
        return (
            *(self.found["data"][split]["identity"] for split in ("train", "test")),
            tuple(record["fold"] for record in self.found["folds"]),
        )


@dataclass(frozen=True)
class Column:
    """What the numbers of a column have in common."""

    dataset: str
    protocol: str
    modality: str
    metric: str
    basis: tuple

    @property
    def place(self) -> tuple[str, str, str]:
        return self.dataset, self.protocol, self.modality


@dataclass
class Row:
    """The numbers of one net: {column: (measure, result)}."""

    name: str
    encoders: dict[str, str] = field(default_factory=dict)
    cells: dict[Column, tuple[dict, Result]] = field(default_factory=dict)

    def takes(self, result: Result, columns: Iterable[Column]) -> bool:
        """Whether a result is of this net, and of what it has no number for yet."""
        agrees = all(self.encoders.get(modality, checksum) == checksum for modality, checksum in result.encoders.items())
        return self.name == result.net and agrees and not self.cells.keys() & set(columns)


def read_results(paths: Sequence[Path]) -> list[Result]:
    """The results in files, and in or below folders. Raises ValueError where there are none, or they are of another format."""
    files: dict[Path, None] = {}
    for path in paths:
        found = [path] if path.is_file() else sorted(path.rglob(RESULTS))
        if not found:
            raise ValueError(f"{path}: holds no {RESULTS}; give what `xkd eval` wrote, a folder above it, or one run directory")
        files |= dict.fromkeys(found)
    return [Result(file, _parsed(file)) for file in files]


def _parsed(file: Path) -> dict:
    try:
        found = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file}: is not json ({error}); evaluate again") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ValueError(f"{file}: is not a result of format {FORMAT}; evaluate again with this version")
    return found


def rows_of(results: Sequence[Result]) -> list[Row]:
    """A row for each net, in the order of the results; a second one where a net was evaluated twice on the same, or has changed."""
    rows: list[Row] = []
    for result in results:
        measures = measures_of(result)
        row = next((row for row in rows if row.takes(result, measures)), None)
        if row is None:
            rows.append(row := Row(result.net))
        row.encoders |= result.encoders
        row.cells |= {column: (measure, result) for column, measure in measures.items()}
    return rows


def measures_of(result: Result) -> dict[Column, dict]:
    """The measures that count, one a modality."""
    found = result.found
    return {
        Column(found["dataset"], found["protocol"], modality, found["metric"], result.basis): measures[found["metric"]]
        for modality, measures in found["scores"].items()
        if found["metric"] in measures
    }


def tables(rows: Sequence[Row]) -> dict[str, list[list[str]]]:
    """The lines of each table, the first of them its heading: the paper's numbers, then ours."""
    made = {}
    for title, protocols in TABLES.items():
        columns = dict.fromkeys(column for row in rows for column in row.cells if column.protocol in protocols)
        columns = sorted(columns, key=lambda column: (column.dataset, column.protocol))
        if columns:
            lines = [["", *heads(columns)], *_published("paper", PUBLISHED, columns), *_published("ablation", ABLATION, columns)]
            ours = [row for row in rows if row.cells.keys() & set(columns)]
            made[title] = lines + [
                [_name(row, rows), *(cell(*row.cells[column]) if column in row.cells else "-" for column in columns)]
                for row in ours
            ]
    return made


def heads(columns: Sequence[Column]) -> list[str]:
    """What each column is headed: also by its folds, and by its data where other columns of the same rest on other data."""
    return [_head(column, columns) for column in columns]


def _head(column: Column, columns: Sequence[Column]) -> str:
    *identities, folds = column.basis
    alike = [other for other in columns if other.place[:2] == column.place[:2]]
    parts = [column.dataset, column.protocol]
    if len({other.modality for other in alike}) > 1:
        parts.append(column.modality)
    if folds != (None,):
        parts.append(f"fold {folds[0]}" if len(folds) == 1 else f"{len(folds)} folds")
    if len({other.basis[:2] for other in alike}) > 1:
        parts.append("data " + "/".join(identity[:SHOWN_DIGITS] for identity in dict.fromkeys(identities)))
    return f"{' '.join(parts)}, {column.metric}"


def _published(source: str, published: Sequence[Published], columns: Sequence[Column]) -> list[list[str]]:
    lines = []
    for row in published:
        numbers = [row.values.get(column.place) for column in columns]
        if any(number is not None for number in numbers):
            lines.append([f"{source}: {row.name}", *("-" if number is None else f"{number:.1f}" for number in numbers)])
    return lines


def _name(row: Row, rows: Sequence[Row]) -> str:
    """The net, and, of several of the same name, the files of this one."""
    if sum(other.name == row.name for other in rows) == 1:
        return row.name
    return f"{row.name}: {', '.join(dict.fromkeys(str(result.path) for _, result in row.cells.values()))}"


def cell(measure: Mapping[str, float], result: Result) -> str:
    """A number in per cent, with a star where only a part of the published data set was tested on, or clips are in both splits."""
    star = "\\*" if is_partial(result) or any(record["leaks"] for record in result.found["folds"]) else ""
    spread = f" +- {100 * measure['std']:.1f}" if "std" in measure else ""
    return f"{100 * measure['mean']:.1f}{spread}{star}"


def is_partial(result: Result) -> bool:
    """Whether what was learnt from or tested on is less than the published data set."""
    counts = [result.found["data"][split]["completeness"] for split in ("train", "test")]
    return any(count["official"] is not None and count["converted"] < count["official"] for count in counts)


def mixed_data(rows: Sequence[Row]) -> list[str]:
    """A sentence for each data set and protocol whose results rest on different data or folds."""
    bases: dict[tuple[str, str], set] = {}
    for row in rows:
        for column in row.cells:
            bases.setdefault((column.dataset, column.protocol), set()).add(column.basis)
    return [
        f"{dataset} {protocol}: these results rest on {len(found)} different sets of samples or folds, each in a column of its own"
        for (dataset, protocol), found in bases.items()
        if len(found) > 1
    ]
