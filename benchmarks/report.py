"""One page of all results, which opens without a network: who is faster, what was not measured, how it went over the commits."""

import argparse
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from html import escape
from pathlib import Path

from xkd.benchmarks import compare_power
from xkd.benchmarks.history import Course, courses, legend, machine, svg
from xkd.benchmarks.results import Row, read_csv
from xkd.benchmarks.standings import OURS, Standing, not_measured, standings, work
from xkd.benchmarks.timings import MACHINE, VERSIONS, name
from xkd.env import commit

RESULTS = Path("benchmarks/results")
PAGE = "index.html"
ORIGIN = ("date", "benchmark", "load", *MACHINE, *VERSIONS, "commit", "command")
STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; max-width: 1240px; margin: 24px auto; padding: 0 16px; color: #1f2328; }
h2 { margin-top: 36px; border-bottom: 1px solid #d8dee4; }
table { border-collapse: collapse; margin: 4px 0; }
th, td { padding: 2px 10px; border-bottom: 1px solid #eaeef2; text-align: left; }
th { color: #57606a; font-weight: 600; } td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
tr.ours { background: #eef6ff; } tr.ahead td { color: #b3261e; } p.origin, figcaption { color: #57606a; font-size: 12px; }
figure { display: inline-block; width: 560px; max-width: 100%; margin: 8px 8px 8px 0; vertical-align: top; }
div.wide { overflow-x: auto; } svg { width: 100%; } svg text { font-size: 11px; fill: #57606a; }
nav a { margin-right: 12px; } code { font-size: 12px; }
"""
NUMBER = re.compile(r"-?[\d.]+(e[-+]\d+)?( \(.+\))?")
WORDS = {"ahead": "ahead of ours: a loss", "behind": "behind ours", "even": "even, within noise", "": ""}


def page(files: Mapping[str, Sequence[Row]], today: str) -> str:
    """The page of the rows of these files. What rows hold is text: whatever it is, it stays text."""
    sections = {file: section(rows) for file, rows in sorted(files.items(), key=_place) if rows}
    links = "".join(f'<a href="#{escape(file)}">{escape(file)}</a>' for file in sections)
    lost = sum(of.verdict == "ahead" for rows in files.values() for of in standings(rows))
    bodies = "".join(f'<section id="{escape(file)}"><h2>{escape(file)}</h2>{body}</section>' for file, body in sections.items())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>XKD-Train: benchmarks</title>'
        f"<style>{STYLE}</style></head><body><h1>Benchmarks</h1><p>{escape(today)}. Times are milliseconds an item: of all CPUs "
        "together where no GPU works, else of the clock. A peer's time over ours has the interval in which 95 of 100 such "
        f"comparisons lie; above 1, ours is faster. Peers ahead of ours: {lost}.</p><nav>{links}</nav>{bodies}</body></html>\n"
    )


def _place(file: tuple[str, Sequence[Row]]) -> tuple[bool, bool, str]:
    """Where a file stands on the page: first those with peers, last those that tell nobody's time."""
    name, rows = file
    return name not in OURS, "provider" not in rows[0] if rows else True, name


def section(rows: Sequence[Row]) -> str:
    """What a file says: standings of who did the work and their course; the rates of a study; else the rows of its last command."""
    if rows[-1].get("planted_percent"):
        return table(list(compare_power.rates(rows))) + origin(rows[-1])
    drawn = "".join(map(figure, courses(rows)))
    if "provider" in rows[-1]:
        return "".join([drawn, *commands(standings(rows)), missing(not_measured(rows))])
    last = [row for row in rows if row.get("date") == rows[-1].get("date")]
    return drawn + table([{column: row[column] for column in row if column not in ORIGIN} for row in last]) + origin(last[-1])


def commands(found: Iterable[Standing]) -> Iterator[str]:
    """A table for each command of which rows are the newest; the command that ran last comes first."""
    grouped: dict[str, list[Standing]] = {}
    for of in found:
        grouped.setdefault(of.row.get("date", ""), []).append(of)
    for _, own in sorted(grouped.items(), reverse=True):
        classes = [
            of.verdict or ("ours" if of.row.get("provider") in OURS.get(of.row.get("benchmark", ""), ()) else "") for of in own
        ]
        yield table(list(_lines(own)), classes) + origin(own[-1].row)


def _lines(own: Iterable[Standing]) -> Iterator[dict[str, str]]:
    before = None
    for of in own:
        row, beside, case = of.row, of.beside_ours, name(work(of.key), ["benchmark"])
        interval = f"{beside.ratio:.2f} ({beside.low:.2f} to {beside.high:.2f})" if beside else ""
        yield {
            "case": "" if case == before else case,
            "provider": row.get("provider", ""),
            f"{of.by} ms an item": f"{of.milliseconds:.4g}",
            "items a second": row.get("items_per_s", ""),
            "peak MiB": row.get("peak_mib", ""),
            "rounds": row.get("rounds", ""),
            "its time / ours": interval,
            "": WORDS[of.verdict],
        }
        before = case


def missing(rows: Sequence[Row]) -> str:
    """What was not measured, and why."""
    return table(
        [{name: row.get(name, "") for name in ("case", "provider", "part")} | {"not measured": row["not_measured"]} for row in rows]
    )


def figure(course: Course) -> str:
    caption = f"{escape(course.title)}; {escape(course.machine)}<br>{legend(course)}"
    return f"<figure>{svg(course)}<figcaption>{caption}</figcaption></figure>"


def table(lines: Sequence[Mapping[str, str]], classes: Sequence[str] = ()) -> str:
    """Rows that have the same columns; those that all leave empty are left out."""
    columns = [
        column for column in dict.fromkeys(column for line in lines for column in line) if any(line.get(column) for line in lines)
    ]
    if not columns:
        return ""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = []
    for number, line in enumerate(lines):
        cells = "".join(f"<td{_alignment(line.get(column, ''))}>{escape(line.get(column, ''))}</td>" for column in columns)
        body.append(f'<tr class="{classes[number]}">{cells}</tr>' if classes else f"<tr>{cells}</tr>")
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table></div>'


def _alignment(text: str) -> str:
    return ' class="number"' if NUMBER.fullmatch(text) else ""


def origin(row: Row) -> str:
    """Where a row comes from."""
    load = f", load {row['load']}" if row.get("load") else ""
    where = f"{machine(row)}{load}; commit {row.get('commit', '')[:7]}, {row.get('date', '')[:10]}"
    return f'<p class="origin">{escape(where)}: <code>{escape(row.get("command", ""))}</code></p>'


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="xkd bench report", description="Write a page of all results: tables and history.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=f"folder to write {PAGE} to")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="folder of csv files (default %(default)s)")
    options = parser.parse_args(arguments)
    files = {file.stem: read_csv(file) for file in sorted(options.results.glob("*.csv"))}
    if not any(files.values()):
        raise ValueError(f"--results: {options.results} holds no rows: run a benchmark, or name the folder of its csv files")
    options.out.mkdir(parents=True, exist_ok=True)
    today = f"Written on {datetime.now(timezone.utc):%Y-%m-%d} by the code of {(commit() or 'no known commit')[:7]}"
    (options.out / PAGE).write_text(page(files, today))
    print(options.out / PAGE)
    return 0
