"""Tables of README and docs, written from committed results.

A document marks the place of each: `<!-- table: NAME -->`, the table, `<!-- end of table -->`. `python -m xkd.benchmarks.tables`
writes them anew; a test fails where a document and the results differ.
"""

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path

from xkd.benchmarks import compare_power, repeats
from xkd.benchmarks.history import machine
from xkd.benchmarks.results import Row, markdown, read_csv
from xkd.benchmarks.standings import OURS, Standing, standings, work
from xkd.benchmarks.timings import name

RESULTS = Path(__file__).parent / "results"
MARKED = re.compile(r"(?P<head><!-- table: (?P<name>.+?) -->\n).*?(?P<end><!-- end of table -->)", re.DOTALL)
IN_README = ("loader", "step", "scale")
SCALING = ("volumes", "weak", "strong", "sensitivity")  # as `xkd bench scaling` prints them


def peers(*benchmarks: str) -> str:
    """A line for each piece of work of the newest command that had peers: our time, and each peer's time over it."""
    found = [of for benchmark in benchmarks for of in _newest_command(standings(_rows(benchmark)))]
    lines = [_line(key, [of for of in found if work(of.key) == key]) for key in dict.fromkeys(work(of.key) for of in found)]
    origins = sorted({f"{machine(of.row)}: {_origin(of.row)}" for of in found})
    legend = "Milliseconds an item; where a ratio is below 1, the other takes less."
    return f"{markdown(lines, columns=tuple(lines[0]))}\n{legend} {'; '.join(origins)}.\n"


def _newest_command(found: Iterable[Standing]) -> list[Standing]:
    """Peers, and what they are held against, of the last command that measured any."""
    found = [of for of in found if of.beside_ours or of.row.get("provider") in OURS[of.row["benchmark"]]]
    dates = [of.row["date"] for of in found if of.beside_ours]
    works = {work(of.key) for of in found if of.beside_ours and of.row["date"] == max(dates)}
    return [of for of in found if of.row["date"] == max(dates, default="") and work(of.key) in works]


def _line(key, own: Sequence[Standing]) -> dict[str, str]:
    (ours,) = (of for of in own if not of.beside_ours)
    others = ", ".join(f"{of.row['provider']} {of.beside_ours.ratio:.2f}" for of in own if of.beside_ours)
    return {"work": name(key), "time": ours.by, "ours": f"{ours.milliseconds:.4g}", "peers, their time over ours": others}


def _origin(row: Row) -> str:
    return f"`{row['command']}` on {row['date'][:10]} at {row['commit'][:7]}"


def repeated() -> str:
    """Whether the ratios to peers came out again, of every benchmark that has peers."""
    return repeats.table(found for benchmark in OURS for found in repeats.repeats(_rows(benchmark)))


def power() -> str:
    """How often comparing finds what was planted."""
    rows = _rows("compare_power")
    spread = ", ".join(f"{compare_power.run_to_run(rows, by):.1%} ({by})" for by in compare_power.KINDS)
    where = f"{machine(rows[-1])}: {_origin(rows[-1])}"
    return f"{compare_power.table(rows)}\nStandard deviation from run to run of the same code: {spread}. {where}.\n"


def gpu_checks() -> str:
    """What needs a GPU, and when it ran last."""
    from xkd.benchmarks.gpu_table import table

    return table()


def explain_cases() -> str:
    """What the finder said of runs that were slowed down from outside."""
    from xkd.benchmarks.explain_cases import table

    return table(_rows("explain_cases"))


def memory() -> str:
    """What a step holds beside what the plan says."""
    from xkd.benchmarks.memory import table

    return table(_rows("memory"))


@cache
def _scaling() -> dict[str, str]:
    from xkd.benchmarks.scaling import MEASURED, Cluster, tables

    rows = read_csv(RESULTS / MEASURED.name)
    return dict(zip(SCALING, tables("pretrain/xkd.yaml", rows, Cluster()), strict=True))


TABLES: Mapping[str, Callable[[], str]] = {
    "throughput": partial(peers, *IN_README),
    **{f"peers of {benchmark}": partial(peers, benchmark) for benchmark in OURS},
    "repeats": repeated,
    "compare power": power,
    "gpu checks": gpu_checks,
    "memory": memory,
    "explain cases": explain_cases,
    **{f"scaling {table}": (lambda table=table: _scaling()[table]) for table in SCALING},
}


def rewritten(text: str) -> str:
    """A document with its tables as the results have them. Raises ValueError for a table of an unknown name."""
    return MARKED.sub(_table, text)


def _table(found: re.Match) -> str:
    if found["name"] not in TABLES:
        raise ValueError(f"<!-- table: {found['name']} -->: there is no such table: write one of {', '.join(TABLES)}")
    return f"{found['head']}{TABLES[found['name']]()}{found['end']}"


def _rows(benchmark: str) -> list[Row]:
    path = RESULTS / f"{benchmark}.csv"
    return read_csv(path) if path.exists() else []


def documents(root: Path) -> Iterator[Path]:
    yield from (root / "README.md", *sorted((root / "docs").glob("*.md")))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m xkd.benchmarks.tables", description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=Path(), help="folder of README.md and docs (default: this one)")
    for path in documents(parser.parse_args(arguments).root):
        text = path.read_text()
        if rewritten(text) != text:
            path.write_text(rewritten(text))
            print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
