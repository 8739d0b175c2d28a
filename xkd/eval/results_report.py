"""The report of evaluations: their tables beside the paper's, what each number rests on, and pictures of the classes."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from xkd.eval import charts
from xkd.eval.comparison import Result, Row, mixed_data, read_results, rows_of, tables
from xkd.eval.results import report

LEGEND = (
    "Per cent; +- is the standard deviation over folds. \\*: of less than the whole published data set, or with clips that are in"
    " both splits; what each number rests on is told below. The paper's numbers are copied, not measured here."
)


def write_results_report(paths: Sequence[Path], out: Path) -> str:
    """Writes report.md, report.json and pictures to `out`; returns the tables. Raises ValueError where there are no results."""
    results = read_results(paths)
    rows = rows_of(results)
    out.mkdir(parents=True, exist_ok=True)
    summary = summarised(rows)
    sections = [section(number, result, out) for number, result in enumerate(results, 1)]
    (out / "report.md").write_text("\n".join([summary, *sections]))
    (out / "report.json").write_text(json.dumps(list(facts(rows)), indent=2) + "\n")
    return summary


def summarised(rows: Sequence[Row]) -> str:
    """The tables, and what must be known to read them."""
    lines = ["# Evaluations", "", LEGEND, ""]
    lines += [f"- {sentence}" for sentence in mixed_data(rows)]
    for title, table in tables(rows).items():
        heading, *body = table
        lines += ["", f"## {title}", "", _line(heading), _line(["---"] * len(heading)), *map(_line, body)]
    return "\n".join([*lines, ""])


def section(number: int, result: Result, out: Path) -> str:
    """What one result says of itself, and its pictures, which are drawn."""
    found = result.found
    lines = [f"## {result.net}: {found['dataset']}, {found['protocol']}", "", f"`{result.path}`", "", report(found)]
    for modality in found["scores"]:
        records = [record["modalities"][modality] for record in found["folds"]]
        for kind, draw in (("confusion", charts.confusion), ("per_class", charts.per_class)):
            if kind in records[0]:
                name = f"{number:02d}-{found['protocol']}-{found['dataset']}-{modality}-{kind.replace('_', '-')}.png"
                title = f"{found['dataset']}, {found['protocol']}, {modality}"
                draw(records, found["classes"], title, out / name)
                lines.append(f"![{title}: {kind.replace('_', ' ')}]({name})\n")
    return "\n".join(lines)


def facts(rows: Sequence[Row]) -> Iterator[dict]:
    """The numbers of ours, one each, for programs."""
    for row in rows:
        for column, (measure, result) in row.cells.items():
            *identities, folds = column.basis
            yield {
                "net": row.name,
                "encoders_sha256": row.encoders,
                "dataset": column.dataset,
                "protocol": column.protocol,
                "modality": column.modality,
                "metric": column.metric,
                **measure,
                "of_folds": folds,
                "train_identity": identities[0],
                "test_identity": identities[1],
                "results": str(result.path),
            }


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
