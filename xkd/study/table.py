"""The tables of a study, from the records that are there; what is not finished is shown as unfinished."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

import numpy as np

from xkd.study.cell import from_hex
from xkd.study.config import RowConfig, Score, StudyConfig
from xkd.study.intervals import LEVEL, Spread, spread
from xkd.study.plan import Cell

SCORES = get_args(Score)
Records = Mapping[str, Mapping[int, dict]]  # by row and seed


def read_records(cells: Sequence[Cell]) -> dict[str, dict[int, dict]]:
    """The records of those cells that are finished. Raises ValueError where a file is not the record that its name says."""
    found: dict[str, dict[int, dict]] = {}
    for cell in cells:
        by_seed = found.setdefault(cell.row.name, {})
        if cell.record.is_file():
            record = json.loads(cell.record.read_text())
            if record["identity"] != cell.identity:
                raise ValueError(f"{cell.record}: is of other settings than its name says: delete it, and run the study again")
            by_seed[cell.seed] = record
    return found


def tables(study: StudyConfig, cells: Sequence[Cell]) -> str:
    """Markdown: the primary comparison in a sentence, the rows, their differences from others, and what they rest on."""
    records = read_records(cells)
    asked = {row.name: len(row.seeds or study.seeds) for row in study.rows}
    return "\n".join(
        [
            _primary(study, records, asked),
            "",
            f"Accuracy in per cent: mean over seeds +- half of its {LEVEL:.0%} t interval over seeds, and in brackets the standard"
            " error from the choice of test clips.",
            "",
            *_lines(["", "seeds", *SCORES, "CPU s"], [_row(row, records[row.name], asked[row.name]) for row in study.rows]),
            "",
            "Differences in points, seed by seed on the same test clips: mean +- half of its interval (standard error from the"
            " clips).",
            "",
            *_lines(["", "pairs", *SCORES], [_difference_row(row, records, asked) for row in study.rows if row.against]),
            "",
            *_basis(records),
        ]
    )


def write_into(file: Path, name: str, text: str) -> None:
    """Replaces what stands between the marks of a study in a document. Raises ValueError where the marks are not there."""
    begin, end = f"<!-- study {name} -->\n", f"<!-- end of study {name} -->"
    document = file.read_text()
    before, found, rest = document.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"{file}: has no lines {begin.strip()!r} and {end!r}, between which the tables are written: add them")
    file.write_text(f"{before}{begin}\n{text}\n\n{end}{after}")


def difference(records: Records, row: str, against: str, score: str) -> Spread | None:
    """Accuracy of `row` minus that of `against`, over the seeds that both have; None where there are none."""
    ours, theirs = records[row], records[against]
    seeds = [seed for seed in ours if seed in theirs]
    for seed in seeds:
        if ours[seed]["shards"]["test"] != theirs[seed]["shards"]["test"]:
            return None  # other media: their clips cannot be paired
    return spread([_correct(ours[seed], score) - _correct(theirs[seed], score) for seed in seeds]) if seeds else None


def _correct(record: dict, score: str) -> np.ndarray:
    return from_hex(record["correct"][score], record["clips"]).astype(np.float64)


def _primary(study: StudyConfig, records: Records, asked: Mapping[str, int]) -> str:
    row, score = study.row(study.primary.row), study.primary.score
    found = difference(records, row.name, row.against, score)
    pairs = min(asked[row.name], asked[row.against])
    words = f"**{row.name} - {row.against}, {score}** (the primary comparison): "
    if found is None:
        return f"{words}UNFINISHED, 0 of {pairs} seeds."
    state = "" if found.seeds == pairs else f" UNFINISHED, {found.seeds} of {pairs} seeds."
    return f"{words}{_signed(found)} points over {found.seeds} seeds.{state}"


def _row(row: RowConfig, records: Mapping[int, dict], asked: int) -> list[str]:
    found = list(records.values())
    cells = [_number(spread([_correct(record, score) for record in found])) if found else "-" for score in SCORES]
    whole = [record["took"]["cpu_seconds"] for record in found if record["took"]["steps"] == record["steps"]]
    return [row.name, _progress(len(found), asked), *cells, f"{np.median(whole):.0f}" if whole else "-"]


def _difference_row(row: RowConfig, records: Records, asked: Mapping[str, int]) -> list[str]:
    found = [difference(records, row.name, row.against, score) for score in SCORES]
    pairs = found[0].seeds if found[0] else 0
    cells = ["-" if one is None else _signed(one) for one in found]
    return [f"{row.name} - {row.against}", _progress(pairs, min(asked[row.name], asked[row.against])), *cells]


def _progress(done: int, asked: int) -> str:
    return str(done) if done == asked else f"UNFINISHED, {done} of {asked}"


def _number(found: Spread) -> str:
    half = "" if found.half_width is None else f" +- {100 * found.half_width:.1f}"
    return f"{100 * found.mean:.1f}{half} ({100 * found.clip_error:.1f})"


def _signed(found: Spread) -> str:
    text = _number(found)
    return text if found.mean < 0 else f"+{text}"


def _lines(heading: list[str], rows: Sequence[list[str]]) -> list[str]:
    return [f"| {' | '.join(line)} |" for line in (heading, ["---"] * len(heading), *rows)]


def _basis(records: Records) -> list[str]:
    found = [record for by_seed in records.values() for record in by_seed.values()]
    if not found:
        return ["No cell is finished yet."]
    commits = sorted({_short(record["versions"]["commit"] or "unknown") for record in found})
    machines = sorted({f"{record['versions']['cpus']} x {record['versions']['cpu']}" for record in found})
    clips = sorted({record["clips"] for record in found})
    return [
        f"{', '.join(map(str, clips))} test clips; commits {', '.join(commits)}; on {', '.join(machines)}. CPU s: of a cell's"
        " training, median over the cells that were not interrupted."
    ]


def _short(commit: str) -> str:
    return re.sub(r"^([0-9a-f]{12})[0-9a-f]*", r"\1", commit)
