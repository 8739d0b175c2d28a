"""The command line: its table, its exit codes, and errors without a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from xkd.cli import COMMANDS, main, parser
from xkd.commands.bench import BENCHMARKS
from xkd.commands.data import DATASETS
from xkd.config import load
from xkd.jobs import schemas

ROOT = Path(__file__).parent.parent
DEMO = str(ROOT / "configs/pretrain/demo.yaml")


@pytest.mark.parametrize("command", [row for row in COMMANDS if not row.passes_rest], ids=lambda row: row.name)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*command.name.split(), "--help"])
    assert ended.value.code == 0
    assert command.summary in capsys.readouterr().out


def test_the_help_names_every_dataset():
    from xkd.pipelines.convert import sources

    assert tuple(sources.DATASETS) == DATASETS


def test_the_help_of_the_whole_lists_every_command(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert all(f"    {command.name.split()[0]} " in shown for command in COMMANDS)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_reads_its_own_options(name, capsys):
    args, rest = parser().parse_known_args(["bench", name, "--rounds", "3"])
    assert (args.command.name, rest) == (f"bench {name}", ["--rounds", "3"])
    with pytest.raises(SystemExit) as ended:
        main(["bench", name, "--help"])
    assert ended.value.code == 0
    assert f"usage: xkd bench {name}" in capsys.readouterr().out


WRITE = ["shards", "write", "media", "--dataset", "folder", "--split", "train", "--out", "shards"]
WRITE_WRONGLY = [[*WRITE, "--part", "2"], [*WRITE, "--part", "a/b"], [*WRITE, "--max-failures", "few"]]
NUMBERS = ["--workers", "--limit", "--shard-samples", "--shard-bytes"]
WRITE_WRONGLY += [[*WRITE, "--dry-run", option, number] for option in NUMBERS for number in ("0", "-2", "x")]
CHECK_WRONGLY = [
    ["shards", "check", "shards", "--workers", "-1"],
    ["shards", "preview", "shards", "--out", "a.png", "--samples", "0"],
]


@pytest.mark.parametrize(
    "arguments",
    [*WRITE_WRONGLY, *CHECK_WRONGLY, [], ["trian"], ["shards"], ["env", "--fast"], ["train"], ["avdigits", "out", "--train", "x"]],
)
def test_wrong_usage_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: xkd" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["config", "show", DEMO, "model.sharing=students"], "model.sharing: 'students' is not one of none, student, both"),
        (["config", "show", "pretrain/none.yaml"], "pretrain/none.yaml: no such configuration file"),
        (["eval", DEMO, "checkpoint=run"], "job: 'pretrain' is not one of eval, linear, finetune"),
        (["shards", "write", "none", "--dataset", "folder", "--split", "train", "--out", "shards"], "none: no such folder"),
        (
            ["shards", "write", ".", "--dataset", "folder", "--split", "train", "--out", "../shards", "--part", "3/2"],
            "part: 3/2 is not one of 1/2 to 2/2",
        ),
        (["shards", "write", ".", "--dataset", "folder", "--split", "train", "--out", "shards"], "shards: lies in SOURCE, ."),
        (["shards", "merge", "part", "--out", "shards"], "part: no such shard folder"),
        (["avdigits", "out", "--train", "-1", "--test", "1"], "train=-1 must be at least 0"),
    ],
)
def test_what_a_user_got_wrong_is_told_in_a_sentence_and_exits_with_2(arguments, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert says in told.err
    assert "Traceback" not in told.err
    assert told.out == ""


def test_shards_are_planned_written_in_parts_and_merged(media_folder, tmp_path, capsys):
    write = ["shards", "write", str(media_folder), "--dataset", "folder", "--split", "train", "--workers", "1", "--limit", "4"]
    assert main([*write, "--out", str(tmp_path / "1"), "--dry-run"]) == 0
    assert "would convert 4 items of 2 classes" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    for part in ("1", "2"):
        assert main([*write, "--shard-samples", "2", "--out", str(tmp_path / part), "--part", f"{part}/2"]) == 0
        assert f"part {part} of 2, 2 samples" in capsys.readouterr().out
    assert main(["shards", "merge", str(tmp_path / "2"), str(tmp_path / "1"), "--out", str(tmp_path / "all")]) == 0
    assert "4 samples of 2 classes in 2 shards" in capsys.readouterr().out


def test_a_conversion_that_goes_wrong_exits_with_1(tmp_path, capsys):
    (tmp_path / "media" / "a").mkdir(parents=True)
    (tmp_path / "media" / "a" / "bad.mp4").write_bytes(b"bad")
    write = ["shards", "write", str(tmp_path / "media"), "--dataset", "folder", "--split", "train", "--out", str(tmp_path / "out")]
    assert main([*write, "--max-failures", "0"]) == 1
    told = capsys.readouterr()
    assert "1 files failed, more than the 0 that --max-failures allows" in told.err
    assert "Traceback" not in told.err


def test_training_takes_the_argument_that_the_deepspeed_launcher_adds():
    args = parser().parse_args(["train", "--local_rank=1", "run.yaml", "seed=3", "optim.lr=1e-4"])
    assert (args.config, args.overrides) == ("run.yaml", ["seed=3", "optim.lr=1e-4"])


def test_the_traceback_is_shown_on_request():
    with pytest.raises(ValueError, match="no such configuration file"):
        main(["--traceback", "config", "show", "none.yaml"])


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("model.sharing=students", "command line: model.sharing: 'students' is not one of none, student, both"),
        ("data.train=no/such/shards", "no/such/shards"),
    ],
)
def test_training_that_cannot_start_says_why_before_deepspeed_is_loaded(override, says, tmp_path):
    script = f"""
import sys
from xkd.cli import main
code = main(["train", {DEMO!r}, {override!r}, "run_dir={tmp_path / "run"}"])
assert "deepspeed" not in sys.modules
sys.exit(code)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_the_printed_configuration_loads_to_the_same_one(capsys, tmp_path):
    overrides = ["train.epochs=3", "optim.lr=1e-4"]
    assert main(["config", "show", DEMO, *overrides]) == 0
    printed = tmp_path / "printed.yaml"
    printed.write_text(capsys.readouterr().out)
    assert load(printed, [], schemas()) == load(DEMO, overrides, schemas())


def test_the_environment_names_versions_hardware_and_commit(capsys, monkeypatch):
    monkeypatch.setenv("XKD_COMMIT", "0123abc")
    assert main(["env"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["torch"].startswith("2.11")
    assert shown["dali"].startswith("2.4")
    assert shown["cpus"] == len(os.sched_getaffinity(0))
    assert shown["commit"] == "0123abc"
