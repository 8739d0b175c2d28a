import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from xkd.benchmarks.history import courses, svg
from xkd.benchmarks.report import PAGE, main, page
from xkd.benchmarks.results import read_csv

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
EMPTY = {"meta", "br"}  # elements without an end
ROW = {
    **{"benchmark": "loader", "case": "c", "part": "total", "rounds": "5", "items": "10", "gpu": "", "cpu": "EPYC", "cpus": "2"},
    **{"wall_p20_s": "9", "wall_p50_s": "9", "wall_p80_s": "9", "not_measured": "", "command": "xkd bench loader"},
}


def row(provider, seconds, commit="abcdef0", day=1, **columns):
    times = {"cpu_s": seconds, "cpu_p20_s": seconds, "cpu_p80_s": seconds}
    return {**ROW, "provider": provider, "commit": commit, "date": f"2026-01-0{day}", **times, **columns}


class Reader(HTMLParser):
    """Every element and attribute of a page, and whether each that begins ends."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.attributes, self.text, self._open = [], [], "", []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append(tag)
        self.attributes += attributes
        if tag not in EMPTY:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    out = tmp_path_factory.mktemp("page")
    assert main(["--out", str(out), "--results", str(RESULTS)]) == 0
    return out / PAGE


def test_the_page_of_the_committed_results_refers_to_nothing_outside_of_it(written):
    found = Reader(written.read_text())
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & set(found.elements)
    links = [value for name, value in found.attributes if name in ("href", "src", "srcset", "data", "action", "xlink:href")]
    identifiers = {value for name, value in found.attributes if name == "id"}
    assert links
    assert {link.removeprefix("#") for link in links} == identifiers
    assert not re.search(r"url\(|@import|//", re.sub(r"<code>.*?</code>", "", written.read_text()))


def test_the_page_tells_every_file_and_every_loss(written):
    text = Reader(written.read_text()).text
    assert all(file.stem in text for file in RESULTS.glob("*.csv"))
    assert "torchcodec+opencv" in text
    assert "ahead of ours: a loss" in text


def test_what_rows_hold_stays_text():
    found = Reader(page({"loader": [row("<script>alert(1)</script>", "1"), row('"&x', "2")]}, "today"))
    assert "script" not in found.elements
    assert "<script>alert(1)</script>" in found.text


def test_a_peer_that_is_faster_is_marked_and_counted():
    text = page({"loader": [row("xkd", "2"), row("fast", "1"), row("slow", "3")]}, "today")
    assert "Peers ahead of ours: 1." in text
    assert re.findall(r'<tr class="(\w*)">', text) == ["ours", "ahead", "behind"]


def test_what_was_not_measured_is_on_the_page_with_its_reason():
    absent = {**row("gpu", ""), "wall_p50_s": "", "part": "", "not_measured": "needs a GPU"}
    assert "needs a GPU" in Reader(page({"loader": [row("xkd", "1"), absent]}, "today")).text


def test_only_what_was_measured_more_than_once_has_a_course_and_each_machine_its_own():
    rows = [
        row("xkd", "1"),
        row("xkd", "2", "1234567", day=2),
        row("peer", "1"),
        row("xkd", "5", day=3, cpu="Xeon"),
        row("a", "1", case="d"),
    ]
    (course,) = courses(rows)
    assert course.runs == [("2026-01-01", "abcdef0"), ("2026-01-02", "1234567")]
    assert [point.timing.seconds for point in course.providers["xkd"]] == [0.1, 0.2]


def test_a_course_is_drawn_with_time_upwards_from_zero_and_runs_to_the_right():
    (course,) = courses([row("xkd", "1"), row("xkd", "2", "1234567", day=2)])
    circles = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', svg(course))
    (x0, y0), (x1, y1) = (map(float, circle) for circle in circles)
    zero = max(float(value) for value in re.findall(r'<line x1="60" x2="\d+" y1="([\d.]+)"', svg(course)))
    assert x0 < x1
    assert zero - y1 == pytest.approx(2 * (zero - y0), abs=0.2)


def test_a_folder_without_rows_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"--results: .* holds no rows"):
        main(["--out", str(tmp_path), "--results", str(tmp_path)])


@pytest.mark.long
def test_a_browser_shows_the_page_where_no_name_resolves(written, tmp_path):
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser here: none of {', '.join(BROWSERS)}")
    shot = tmp_path / "page.png"
    options = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile", "--window-size=1240,1600")
    options += ("--host-resolver-rules=MAP * ~NOTFOUND", f"--screenshot={shot}")
    subprocess.run([browser, *options, f"file://{written}"], check=True, capture_output=True, timeout=120)

    from matplotlib.image import imread

    picture = imread(shot)[..., :3]
    assert picture.shape[1] == 1240
    assert 0.02 < (picture.min(axis=2) < 0.6).mean() < 0.5  # dark text on a light page


def test_the_committed_results_are_read(written):
    rows = read_csv(RESULTS / "loader.csv")
    assert rows[-1]["commit"][:7] in written.read_text()


def test_a_file_of_any_columns_is_shown():
    rows = [{"point": "1", "seconds": "2", "reason": ""}, {"point": "2", "seconds": "", "reason": "out of memory"}]
    found = Reader(
        page(
            {"sweep": rows, "timed": [{"provider": "a", "wall_p20_s": "1", "wall_p50_s": "1", "wall_p80_s": "1", "rounds": "1"}]},
            "",
        )
    )
    assert "out of memory" in found.text
    assert "1000" in found.text
