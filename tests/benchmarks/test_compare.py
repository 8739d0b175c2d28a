import subprocess
from pathlib import Path

import pytest

from xkd.benchmarks.compare import main
from xkd.benchmarks.results import read_csv
from xkd.benchmarks.revisions import checkout, in_turns, results

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
HEADER = "benchmark,case,provider,part,rounds,items,wall_p20_s,wall_p50_s,wall_p80_s,cpu_s,cpu,cpus,load,gpu,torch,commit"
# A benchmark of a checkout that does so many rounds of real work, more in one commit than in another.
PROGRAM = """
import sys, time
start = time.process_time()
for _ in range({work}):
    sorted(range(200_000), key=lambda value: -value)
took = time.process_time() - start
name, csv = sys.argv[2], sys.argv[sys.argv.index("--csv") + 1]
with open(csv, "a+") as file:
    if not file.tell():
        file.write("{header}\\n")
    file.write(f"{{name}},{{sys.argv[3]}},ours,total,1,1,{{took}},{{took}},{{took}},{{took}},EPYC,2,0.5,,2.11,{work}\\n")
"""


def line(provider="ours", part="total", cpu_s=1.0, *, case="c", spread=1.01, gpu="", torch="2.11", cpu="EPYC", load=0.5):
    return f"loader,{case},{provider},{part},5,1,1,1,{spread},{cpu_s},{cpu},2,{load},{gpu},{torch},abc"


@pytest.fixture
def written(tmp_path):
    def write(name, *lines):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("\n".join([HEADER, *lines]) + "\n")
        return str(tmp_path / name)

    return write


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A checkout one stands in, whose second commit has other results and takes three times the work."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    (tmp_path / "xkd").mkdir()
    (tmp_path / "xkd" / "cli.py").touch()

    def git(*words):
        subprocess.run(["git", "-c", "user.name=n", "-c", "user.email=e", *words], check=True, capture_output=True)

    git("init", "--quiet")
    for work in (1, 3):
        (tmp_path / "benchmarks" / "results" / "loader.csv").write_text(f"{HEADER}\n{line(cpu_s=work)}\n")
        (tmp_path / "xkd" / "__main__.py").write_text(PROGRAM.format(work=work, header=HEADER))
        git("add", ".")
        git("commit", "--quiet", "-m", "a commit")
    return tmp_path


def test_what_takes_more_cpu_time_than_threshold_and_noise_ends_with_1(written, capsys):
    a, b = written("a.csv", line(), line("peer")), written("b.csv", line(cpu_s=1.5), line("peer", cpu_s=1.01))
    assert main([a, b]) == 1
    shown = capsys.readouterr().out
    slow, same, told = shown.splitlines()[2:]
    assert "loader, c, ours" in slow
    assert "1.500" in slow
    assert "slower" in slow
    assert "the same, or within noise" in same
    assert told == "1 of 2 slower beyond 1.05 and beyond noise"


@pytest.mark.parametrize("options", [["--threshold", "2"], ["--run-to-run", "0.3"], ["--by", "wall"]])
def test_what_is_within_threshold_or_noise_or_another_time_ends_with_0(options, written):
    assert main([written("a.csv", line()), written("b.csv", line(cpu_s=1.5)), *options]) == 0


def test_a_busy_machine_hides_a_difference(written):
    a, b = line(load=4), line(load=4, cpu_s=1.2)
    assert main([written("a.csv", a), written("b.csv", b)]) == 0
    assert main([written("a.csv", line()), written("b.csv", line(cpu_s=1.2))]) == 1


def test_noisy_rounds_hide_a_difference(written):
    assert main([written("a.csv", line(spread=9)), written("b.csv", line(cpu_s=1.5, spread=9))]) == 0


def test_a_part_that_is_slower_is_shown_and_counts_if_asked(written, capsys):
    files = written("a.csv", line(), line(part="read")), written("b.csv", line(), line(part="read", cpu_s=2))
    assert main(files) == 0
    assert "slower" in capsys.readouterr().out.splitlines()[2]
    assert main([*files, "--parts"]) == 1


def test_folders_are_compared_file_by_file(written, tmp_path):
    for side, cpu_s in {"a": 1, "b": 2}.items():
        written(f"{side}/loader.csv", line(cpu_s=cpu_s))
        written(f"{side}/step.csv", line(case="d"))
    assert main([str(tmp_path / "a"), str(tmp_path / "b")]) == 1


def test_commits_are_compared_by_the_results_that_they_hold(repository):
    assert [row["cpu_s"] for row in results("HEAD~1")] == ["1"]
    assert main(["HEAD~1", "HEAD"]) == 1
    assert main(["HEAD", "HEAD~1"]) == 0


def test_commits_are_run_in_turns_and_their_checkouts_removed(repository, capfd):
    assert main(["HEAD~1", "HEAD", "--run", "sort 'the case'", "--pairs", "6", "--keep", "kept"]) == 1
    assert "sort, the case, ours" in capfd.readouterr().out
    assert [len(read_csv(repository / "kept" / f"{side}.csv")) for side in "AB"] == [6, 6]
    listed = subprocess.run(["git", "worktree", "list"], capture_output=True, text=True, check=True).stdout
    assert len(listed.splitlines()) == 1
    with pytest.raises(ValueError, match="kept holds the runs of another comparison"):
        main(["HEAD~1", "HEAD", "--run", "sort x", "--keep", "kept"])


def test_a_checkout_is_run_as_it_stands(repository):
    with checkout(".") as tree:
        assert tree == repository
    with checkout("HEAD~1") as tree:
        assert "range(1)" in (tree / "xkd" / "__main__.py").read_text()
    assert not tree.exists()


def test_a_run_that_fails_says_what_it_wrote(repository):
    (repository / "xkd" / "__main__.py").write_text("raise SystemExit('no such benchmark')")
    with pytest.raises(RuntimeError, match=r"ended with 1:\nno such benchmark"):
        main([".", "HEAD", "--run", "sort x"])


def test_sides_take_turns_in_being_first():
    assert "".join(in_turns("AB", 4)) == "ABBAABBA"


@pytest.mark.parametrize(
    ("a", "b", "says"),
    [
        ([line()], [line(case="other")], "no timed measurement in common: A has loader, c, ours; B has loader, other, ours"),
        ([line()], [line(cpu="Xeon")], r"different machines \(cpu EPYC / Xeon\): measure both on one, or add --other-machine"),
    ],
)
def test_what_cannot_be_compared_is_refused(a, b, says, written):
    with pytest.raises(ValueError, match=says):
        main([written("a.csv", *a), written("b.csv", *b)])


def test_rows_of_other_measurements_may_be_of_another_machine(written):
    a, b = written("a.csv", line(), line(case="d")), written("b.csv", line(cpu_s=2), line(case="e", cpu="Xeon"))
    assert main([a, b]) == 1


def test_another_machine_is_allowed_and_other_versions_are_told(written, capsys):
    a, b = written("a.csv", line()), written("b.csv", line(cpu="Xeon", torch="2.12"))
    assert main([a, b, "--other-machine"]) == 0
    assert "differs: torch 2.11 / 2.12" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["a", "HEAD"], "a: is neither a csv file, nor a folder of them, nor a commit"),
        ([".", "HEAD"], r"\.: holds no csv file"),
        (["HEAD", "HEAD", "--threshold", "0.9"], "--threshold: 0.9 is less than 1"),
        (["HEAD", "HEAD", "--run", "loader", "--pairs", "5"], "--pairs: 5 are too few"),
    ],
)
def test_wrong_use_is_told(arguments, says, repository):
    with pytest.raises(ValueError, match=says):
        main(arguments)


def test_rows_that_both_hold_are_not_compared(written, capsys):
    a, b = written("a.csv", line(), line("peer")), written("b.csv", line(), line("peer", cpu_s=2))
    assert main([a, b]) == 1
    assert "ours" not in capsys.readouterr().out


def test_the_committed_results_compared_with_themselves_show_nothing_new(capsys):
    assert main([str(RESULTS), str(RESULTS)]) == 0
    assert capsys.readouterr().out == "A and B hold the same rows: nothing was measured in between\n"
