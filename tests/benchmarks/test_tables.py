import re
from pathlib import Path

import pytest

from xkd.benchmarks import tables
from xkd.benchmarks.tables import MARKED, TABLES, documents, main, peers, rewritten

ROOT = Path(__file__).parents[2]
WITH_TABLES = [path for path in documents(ROOT) if "<!-- table: " in path.read_text()]
MARKERS = "<!-- table: {} -->\n{}<!-- end of table -->"


@pytest.mark.parametrize(
    "document", [path for path in documents(ROOT) if "<!-- table: " in path.read_text()], ids=lambda path: path.name
)
def test_the_tables_of_a_document_are_those_of_the_committed_results(document):
    text = document.read_text()
    assert text.count("<!-- table: ") == len(MARKED.findall(text))
    assert text == rewritten(text), "run `python -m xkd.benchmarks.tables`"


def test_the_readme_has_the_table_of_throughput():
    assert "throughput" in [found["name"] for found in MARKED.finditer((ROOT / "README.md").read_text())]


def test_writing_puts_tables_between_their_marks_and_leaves_the_rest(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(TABLES, "a", lambda: "| new |\n")
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text(f"before\n\n{MARKERS.format('a', '| old |')}\nafter {MARKERS.format('a', '')}\n")
    assert main(["--root", str(tmp_path)]) == 0
    written = (tmp_path / "README.md").read_text()
    assert written == f"before\n\n{MARKERS.format('a', '| new |' + chr(10))}\nafter {MARKERS.format('a', '| new |' + chr(10))}\n"
    assert str(tmp_path / "README.md") in capsys.readouterr().out
    main(["--root", str(tmp_path)])
    assert capsys.readouterr().out == ""


def test_a_table_that_nobody_knows_is_refused():
    with pytest.raises(ValueError, match="<!-- table: speed -->: there is no such table: write one of throughput"):
        rewritten(MARKERS.format("speed", ""))


def test_a_table_of_peers_has_a_line_for_each_work_of_the_newest_command(monkeypatch):
    def row(provider, seconds, date, case):
        times = dict.fromkeys(("wall_p20_s", "wall_p50_s", "wall_p80_s", "cpu_s"), seconds)
        found = {"benchmark": "loader", "case": case, "provider": provider, "part": "total", "rounds": "5", "items": "1"}
        return found | times | {"date": date, "cpu": "EPYC", "cpus": "2", "commit": "abcdefgh", "command": "xkd bench loader"}

    rows = [row("xkd", "1", "d1", "old"), row("peer", "2", "d1", "old"), row("xkd", "2", "d2", "c"), row("peer", "1", "d2", "c")]
    monkeypatch.setattr(tables, "_rows", lambda benchmark: [*rows, row("xkd", "9", "d3", "alone")])
    cells = [re.split(r" *\| *", line)[1:-1] for line in peers("loader").splitlines() if line.startswith("|")]
    assert cells[2:] == [["loader, c", "cpu", "2000", "peer 0.50"]]
    assert "EPYC, 2 CPUs, no GPU: `xkd bench loader` on d2 at abcdefg." in peers("loader")
