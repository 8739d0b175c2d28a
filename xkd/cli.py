"""The command line: a table of commands; what a command needs is imported when it runs."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path

DONE, FAILED, WRONG_USAGE = 0, 1, 2
EXIT_CODES = (
    f"exit codes: {DONE} done, {FAILED} failed, {WRONG_USAGE} wrong usage or configuration, "
    "75 stopped on request after saving (start again to go on)"
)
BENCHMARKS = {  # module of xkd.benchmarks: what it measures
    "all": "with each of the benchmarks, at sizes that this machine has room for",
    "checkpointing": "what checkpoints take from training",
    "communication": "bytes that each rank sends in a step at each ZeRO stage",
    "convert": "converting a clip to the form that shards store",
    "decode": "decoders on encoded clips",
    "features": "frozen features from shards, beside loading and the bare forward pass",
    "kernels": "the fused kernels, torch eager and torch.compile; what each kernel gains a step",
    "loader": "clips per second from shards to tensors",
    "memory": "peak memory of a training step at each ZeRO stage, beside the plan's",
    "model": "CPU time of a full step, beside one that is not optimised",
    "order": "block order against global: shards touched, shuffling, time",
    "scaling": "nothing: a model of efficiency on many GPUs, from what communication measured",
    "scale": "training steps on several ranks: ZeRO stages, DDP, and what sending takes",
    "source": "reading samples ahead of use, from fast and slow storage",
    "startup": "seconds from the launcher's start to the first step, with small and large shard sets",
    "step": "time and memory of a training step",
    "sweep": "settings of the loader or of a step, one after another: which are fastest",
}

DATASETS = ("kinetics400", "kinetics_sound", "audioset", "vggsound", "ucf101", "hmdb51", "esc50", "fsd50k", "folder")


@dataclass(frozen=True)
class Command:
    """One row of the table; `run` returns an exit code, or None for done."""

    name: str  # "shards write" is the command `write` of the group `shards`
    summary: str
    run: Callable[[argparse.Namespace], int | None]
    arguments: tuple = ()
    passes_rest: bool = False  # arguments that are not listed above, `--help` too, are for `run`, as args.rest


def argument(*names, **options):
    return names, options


def avdigits(args):
    from xkd.pipelines.avdigits.write import write_dataset

    write_dataset(args.out, train=args.train, test=args.test, seed=args.seed, workers=args.workers or len(os.sched_getaffinity(0)))


def shards_write(args):
    names = ("dataset", "split", "profile", "codec", "audio", "short_side", "gop")
    names += ("workers", "limit", "shuffle", "shard_samples", "shard_bytes", "part")
    choices = {name: getattr(args, name) for name in names}
    if args.dry_run:
        from xkd.pipelines.convert.estimate import estimate_shards

        sys.stdout.write(f"{estimate_shards(args.source, **choices)}\n")
        return DONE
    from xkd.pipelines.convert.write import write_shards

    return _show(partial(write_shards, args.source, args.out, max_failures=args.max_failures, **choices))


def shards_merge(args):
    from xkd.pipelines.convert.merge import merge_shards

    return _show(partial(merge_shards, args.parts, args.out))


def _show(write):
    """Print the summary of what was written; that it could not be, through no fault of the arguments, is a failure."""
    from xkd.pipelines.convert.output import StoppedRun

    try:
        sys.stdout.write(f"{write()}\n")
    except StoppedRun as error:
        sys.stderr.write(f"{error}\n")
        return FAILED


def shards_check(args):
    from xkd.pipelines.inspect.check import check_shards, summary

    problems = check_shards(args.folder, decode=args.decode, workers=args.workers)
    sys.stdout.write("".join(f"{line}\n" for line in [*problems, summary(args.folder, problems, args.decode)]))
    return FAILED if problems else DONE


def shards_info(args):
    from xkd.pipelines.inspect.describe import describe

    sys.stdout.write(describe(args.folder))


def shards_preview(args):
    from xkd.pipelines.inspect.preview import contact_sheet
    from xkd.pipelines.shards.index import ShardSet

    contact_sheet(ShardSet.open(args.folder), args.out, samples=args.samples)
    sys.stdout.write(f"{args.out}\n")


def pretrain(args):
    from xkd.config import load
    from xkd.train.config import PretrainConfig

    config = load(args.config, args.overrides, {"pretrain": PretrainConfig})
    from xkd.train.pretraining import PretrainJob
    from xkd.train.run import train

    return train(PretrainJob, config)


def launch(args):
    from xkd.launch.start import start

    choices = {name: getattr(args, name) for name in ("ranks", "master_addr", "master_port")}
    return start(args.config, args.overrides, listed=args.hostfile, doctor=args.doctor, dry_run=args.dry_run, **choices)


def evaluate(args):
    from xkd.config import load
    from xkd.jobs import schemas

    config = load(
        args.config, args.overrides, {job: schema for job, schema in schemas().items() if job not in ("pretrain", "study")}
    )
    from xkd.eval.results import report

    if config.job == "eval":
        from xkd.eval.run import run

        sys.stdout.write(report(run(config)))
        return DONE
    from xkd.eval.training_run import run

    code, found = run(config)
    if found:
        sys.stdout.write(report(found))
    return code


def features(args):
    from xkd.config import load
    from xkd.eval.config import EvalConfig

    config = load(args.config, args.overrides, {"eval": EvalConfig})
    from xkd.eval.run import keep_features

    sys.stdout.write("".join(f"{line}\n" for line in keep_features(config)))


def report(args):
    given = {name: getattr(args, name) for name in ("backbone", "supervised_epochs", "seed") if getattr(args, name) is not None}
    if len(args.paths) == 1 and (args.paths[0] / "config.yaml").is_file():
        from xkd.report import write_report

        return DONE if write_report(*args.paths, args.out, **given) else FAILED
    if given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ValueError(
            f"{options}: of the report of one run directory, and {args.paths[0]} is none, or not the only one: leave out"
        )
    from xkd.eval.results_report import write_results_report

    sys.stdout.write(write_results_report(args.paths, args.out))


def study(args):
    from xkd.study.plan import find_cell, load_cells

    planned, cells = load_cells(args.config, args.overrides)
    if args.cell:
        from xkd.study.cell import run_cell

        return run_cell(find_cell(cells, args.cell))
    from xkd.study.table import tables, write_into

    code = DONE
    if not args.table:
        from xkd.study.run import run_study

        arguments = [args.config, *args.overrides]
        code = run_study(cells, arguments, args.workers or 1, lambda line: sys.stdout.write(f"{line}\n") and sys.stdout.flush())
    text = tables(planned, cells)
    if args.into:
        write_into(args.into, Path(args.config).stem, text)
    sys.stdout.write(f"{text}\n")
    return code


def bench(name, args):
    return import_module(f"xkd.benchmarks.{name}").main(args.rest)


def demo(args):
    from xkd.demo import main

    return main(args.rest)


def config_show(args):
    from xkd.config import dump, load
    from xkd.jobs import schemas

    sys.stdout.write(dump(load(args.config, args.overrides, schemas())))


def env(args):
    from xkd.env import bug_report

    for name, value in bug_report().items():
        sys.stdout.write(f"{name}: {', '.join(value) if isinstance(value, list) else value}\n")


def doctor(args):
    from xkd.config import load
    from xkd.doctor.run import diagnose
    from xkd.train.config import PretrainConfig

    found = diagnose(load(args.config, args.overrides, {"pretrain": PretrainConfig}) if args.config else None)
    sys.stdout.write(found.text)
    sys.stdout.flush()
    if found.hangs:  # what has hung would keep the process from ending
        os._exit(FAILED)
    return DONE if found.healthy else FAILED


def plan(args):
    from xkd.config import load
    from xkd.plan.command import plan as make_plan
    from xkd.plan.estimate import Form
    from xkd.train.config import PretrainConfig

    names = ("dataset_clips", "clips_per_gpu", "gpus_per_node", "gpu_tflops", "gpu_memory_gib")
    assumed = {name: value for name in ("mfu", "network_gb_per_s") if (value := getattr(args, name)) is not None}
    choices = {name: getattr(args, name) for name in names} | {"assumed": assumed}
    config = load(args.config, args.overrides, {"pretrain": PretrainConfig})
    sys.stdout.write(make_plan(config, args.config, args.gpus, form=Form(args.profile, args.codec, args.audio), **choices))


def export(args):
    import json

    from xkd.config import from_overrides
    from xkd.export.config import ExportConfig
    from xkd.export.run import export as write

    config = from_overrides([f"checkpoint={json.dumps(args.run)}", *args.overrides], ExportConfig)
    files = [entry.file for entry in write(config, args.out, args.format).encoders.values()]
    sys.stdout.write(f"{args.out}: {', '.join([*files, 'config.json', 'README.md'])}\n")


def visualize(args):
    import json

    from xkd.config import from_overrides
    from xkd.visualize.run import VisualizeConfig
    from xkd.visualize.run import visualize as draw

    given = {"checkpoint": args.run, "samples": args.samples, "out": args.out}
    fields = [f"{name}={json.dumps(value, default=str)}" for name, value in given.items() if value is not None]
    sys.stdout.write("".join(f"{line}\n" for line in draw(from_overrides([*fields, *args.overrides], VisualizeConfig))))


def replay(args):
    import json

    from xkd.pipelines.inspect.preview import save
    from xkd.train.replay import replay as do_again
    from xkd.visualize.step import step_sheet

    out = args.out or args.run / "replay" / f"step-{args.step:06d}"
    found = do_again(args.run, args.step, out, args.overrides, args.most_steps)
    out.mkdir(parents=True, exist_ok=True)
    (out / "step.json").write_text(json.dumps(found.facts(), indent=2) + "\n")
    save(step_sheet(found.batch, found.hidden, found.titles(), found.worst(args.samples), found.config.data), out / "views.png")
    sys.stdout.write(f"{found.told()}\n{out}/step.json, views.png\n")
    return DONE if found.agrees else FAILED


def _part(text: str) -> tuple[int, int]:
    number, slash, of = text.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form i/n, such as 1/8")
    return int(number), int(of)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 1 or more")
    return int(text)


def _above_zero(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def _count_or_share(text: str) -> float:
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number, such as 20, nor a share, such as 0.05") from None


_WORKERS = argument("--workers", type=_positive, metavar="N", help="processes (default: one per usable core)")
_FOLDER = argument("folder", metavar="DIR", type=Path, help="shard folder")
# The deepspeed launcher passes it; the environment variable LOCAL_RANK, which is read, says the same.
_LOCAL_RANK = argument("--local_rank", type=int, help=argparse.SUPPRESS)
_OVERRIDES = argument("overrides", metavar="section.key=value", nargs="*", help="gives a field another value")
_CONFIG = (argument("config", metavar="CONFIG", help="yaml file, or its path below configs/"), _OVERRIDES)

COMMANDS = (
    Command(
        "avdigits",
        "write the embedded data set: mp4 files in class folders",
        avdigits,
        (
            argument("out", metavar="OUT", type=Path, help="folder to write"),
            argument("--train", type=int, required=True, metavar="N", help="number of training clips"),
            argument("--test", type=int, required=True, metavar="N", help="number of test clips"),
            argument("--seed", type=int, default=0, help="(default 0)"),
            _WORKERS,
        ),
    ),
    Command(
        "shards write",
        "convert a data set to shards",
        shards_write,
        (
            argument("source", metavar="SOURCE", type=Path, help="where the data set lies"),
            argument("--dataset", required=True, metavar="NAME", help=f"its kind: {', '.join(DATASETS)}"),
            argument("--split", required=True, help="such as train, val or test; all for data sets with folds"),
            argument("--out", type=Path, required=True, metavar="DIR", help="shard folder to write"),
            argument("--profile", default="pretrain", help="what is stored (default pretrain)"),
            argument("--codec", metavar="NAME", help="of video, in place of the profile's: vp9, h264, hevc or mjpeg"),
            argument("--audio", metavar="NAME", help="codec of sound, in place of the profile's: pcm16 or flac"),
            argument("--short-side", type=_positive, metavar="PIXELS", help="of the pictures, in place of the profile's"),
            argument("--gop", type=_positive, metavar="N", help="frames from one key frame to the next (default 8)"),
            _WORKERS,
            argument("--limit", type=_positive, metavar="N", help="convert the first N items only"),
            argument("--shuffle", type=int, metavar="SEED", help="another order (default: that of the names' hashes)"),
            argument("--shard-samples", type=_positive, default=1000, metavar="N", help="items a shard (default 1000)"),
            argument("--shard-bytes", type=_positive, default=2 * 10**9, metavar="N", help="largest tar (default 2000000000)"),
            argument("--part", type=_part, metavar="i/n", help="the i-th of n parts, from 1 on; join them with `shards merge`"),
            argument("--max-failures", type=_count_or_share, metavar="N", help="stop beyond: a number, or a share such as 0.05"),
            argument("--dry-run", action="store_true", help="say what would be done, from a few items; write nothing"),
        ),
    ),
    Command(
        "shards merge",
        "join the parts of a shard set",
        shards_merge,
        (
            argument("parts", metavar="PART_DIR", nargs="+", type=Path, help="what `shards write --part i/n` wrote, all n"),
            argument("--out", type=Path, required=True, metavar="DIR", help="shard folder to make, of links where possible"),
        ),
    ),
    Command(
        "shards check",
        "compare a shard folder with its checksums",
        shards_check,
        (
            _FOLDER,
            argument("--decode", action="store_true", help="decode every member as well"),
            _WORKERS,
        ),
    ),
    Command("shards info", "say what a shard folder holds", shards_info, (_FOLDER,)),
    Command(
        "shards preview",
        "draw samples of a shard folder",
        shards_preview,
        (
            _FOLDER,
            argument("--out", type=Path, required=True, metavar="FILE.png", help="picture to write"),
            argument("--samples", type=_positive, default=12, metavar="N", help="the first N samples (default 12)"),
        ),
    ),
    Command("train", "pre-train", pretrain, (*_CONFIG, _LOCAL_RANK)),
    Command(
        "launch",
        "train through deepspeed: on this machine, a hostfile's or a SLURM job's",
        launch,
        (
            argument("--ranks", type=_positive, metavar="N", help="processes a machine (default: one a GPU, or one without GPUs)"),
            argument("--hostfile", type=Path, metavar="FILE", help="lines `host slots=8`: machines to start through pdsh and ssh"),
            argument("--master-addr", metavar="HOST", help="where the ranks meet (default: the first machine)"),
            argument("--master-port", type=_positive, metavar="PORT", help="and on which port (default: one that should be free)"),
            argument("--doctor", action="store_true", help="run `xkd doctor` on all ranks in place of training"),
            argument("--dry-run", action="store_true", help="show the command; start nothing"),
            *_CONFIG,
        ),
    ),
    Command("eval", "evaluate a checkpoint: checkpoint=RUN", evaluate, (*_CONFIG, _LOCAL_RANK)),
    Command("features", "compute and keep the features that an evaluation reads", features, (*_CONFIG, _LOCAL_RANK)),
    Command(
        "report",
        "tables of results beside the paper's, or the report of a run",
        report,
        (
            argument(
                "paths", metavar="PATH", nargs="+", type=Path, help="results of `xkd eval`, folders of them, or a run directory"
            ),
            argument("--out", type=Path, required=True, metavar="DIR", help="folder to write"),
            argument("--backbone", choices=("student", "teacher"), help="of a run: encoders to evaluate (default student)"),
            argument("--supervised-epochs", type=int, metavar="N", help="of a run: epochs of the supervised net (default 12)"),
            argument("--seed", type=int, help="of a run: of untrained and supervised nets, and cross-validation (default 0)"),
        ),
    ),
    Command(
        "export",
        "write encoders with all that is needed to use them elsewhere",
        export,
        (
            argument("run", metavar="RUN", help="a run directory, or whatever `xkd eval` takes as checkpoint"),
            argument("--out", type=Path, required=True, metavar="DIR", help="folder to write"),
            argument("--format", choices=("safetensors", "release", "timm"), default="safetensors", help="(default safetensors)"),
            _OVERRIDES,
        ),
    ),
    Command(
        "visualize",
        "draw reconstructions, attention, a map of features and training curves",
        visualize,
        (
            argument("run", metavar="RUN", help="a run directory, or whatever `xkd eval` takes as checkpoint"),
            argument("--samples", type=_positive, metavar="N", help="clips to draw (default 4)"),
            argument("--out", type=Path, metavar="DIR", help="folder to write (default RUN/pictures)"),
            _OVERRIDES,
        ),
    ),
    Command(
        "study",
        "train and evaluate what is left of a study, and show its tables",
        study,
        (
            *_CONFIG,
            argument("--workers", type=_positive, metavar="N", help="cells at once, on a core each (default 1)"),
            argument("--cell", metavar="ROW-seedN", help="this cell alone, in this process"),
            argument("--table", action="store_true", help="start nothing: the tables of what is finished"),
            argument("--into", type=Path, metavar="FILE.md", help="put the tables between the marks of the study in this document"),
        ),
    ),
    *(Command(f"bench {name}", f"measure {what}", partial(bench, name), passes_rest=True) for name, what in BENCHMARKS.items()),
    Command(
        "bench compare",
        "say what is slower in B than in A: results, or commits run in turns",
        partial(bench, "compare"),
        passes_rest=True,
    ),
    Command("bench report", "draw the history of results and their tables, as a page", partial(bench, "report"), passes_rest=True),
    Command("demo", "run the main job on the embedded data set and write a report", demo, passes_rest=True),
    Command("config show", "print a configuration with every field", config_show, _CONFIG),
    Command(
        "plan",
        "say what a pre-training run needs: storage, GB/s, memory, days",
        plan,
        (
            argument(
                "--gpus", required=True, metavar="NxNAME", help="such as 16xH100; a name that is not known lists those that are"
            ),
            argument(
                "--dataset-clips", type=_positive, metavar="N", help="clips to train on (default: those of data.train's shards)"
            ),
            argument("--profile", default="pretrain", help="of shards that are not there yet (default pretrain)"),
            argument("--codec", default="vp9", help="likewise, of video (default vp9)"),
            argument("--audio", default="pcm16", help="likewise, of sound (default pcm16)"),
            argument("--clips-per-gpu", type=_above_zero, metavar="X", help="clips/s that you have measured on one of the GPUs"),
            argument(
                "--mfu", type=_above_zero, metavar="SHARE", help="else: the share of a GPU's peak that is reached (default 0.35)"
            ),
            argument("--gpus-per-node", type=_positive, metavar="N", help="(default 8)"),
            argument(
                "--gpu-tflops", type=_above_zero, metavar="X", help="of a GPU, in bfloat16, dense (default: the data sheet's)"
            ),
            argument("--gpu-memory-gib", type=_above_zero, metavar="X", help="of a GPU (default: the data sheet's)"),
            argument("--network-gb-per-s", type=_above_zero, metavar="X", help="of all adapters of a node (default 320)"),
            *_CONFIG,
        ),
    ),
    Command(
        "replay",
        "do one step of a run again: its clips, views, masks, losses",
        replay,
        (
            argument("run", metavar="RUN", type=Path, help="run directory, which is only read"),
            argument("--step", type=_positive, required=True, metavar="N", help="as in metrics.jsonl; the first is 1"),
            argument("--out", type=Path, metavar="DIR", help="folder to write (default: RUN/replay/step-N)"),
            argument(
                "--samples", type=_positive, default=16, metavar="N", help="draw so many, the largest losses first (default 16)"
            ),
            argument(
                "--most-steps", type=_positive, default=1000, metavar="N", help="steps to be done again before it (default 1000)"
            ),
            _OVERRIDES,
        ),
    ),
    Command("env", "print what a report of a bug needs: versions, hardware, commit, variables", env),
    Command(
        "doctor",
        "look whether this machine, or every node of a launch, can train",
        doctor,
        (
            argument("config", metavar="CONFIG", nargs="?", help="of the run: yaml file, or its path below configs/"),
            _OVERRIDES,
            _LOCAL_RANK,
        ),
    ),
)


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog="xkd", description="Audio-visual self-supervised pre-training (XKD).", epilog=EXIT_CODES)
    root.add_argument("--traceback", action="store_true", help="on wrong usage or configuration, show where it was found")
    groups = {"": root.add_subparsers(metavar="COMMAND", required=True)}
    for command in COMMANDS:
        group, _, name = command.name.rpartition(" ")
        if group not in groups:
            groups[group] = _add_group(groups[""], group)
        own = groups[group].add_parser(
            name, help=command.summary, description=command.summary, allow_abbrev=False, add_help=not command.passes_rest
        )
        for names, options in command.arguments:
            own.add_argument(*names, **options)
        own.set_defaults(command=command)
    return root


def _add_group(commands, group: str):
    members = " | ".join(row.name.split()[1] for row in COMMANDS if row.name.startswith(f"{group} "))
    return commands.add_parser(group, help=members).add_subparsers(metavar=members, required=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; argparse itself exits with 2 on wrong usage."""
    root = parser()
    args, rest = root.parse_known_args(arguments)
    if "overrides" in args:  # argparse takes none of those that follow an option
        args.overrides += [word for word in rest if not word.startswith("-")]
        rest = [word for word in rest if word.startswith("-")]
    if rest and not args.command.passes_rest:
        root.error(f"unrecognized arguments: {' '.join(rest)} (see `xkd {args.command.name} --help`)")
    args.rest = rest
    try:
        return args.command.run(args) or DONE
    except (ValueError, FileNotFoundError) as error:
        if args.traceback:
            raise
        sys.stderr.write(f"{_sentence(error)}\n")
        return WRONG_USAGE
    except KeyboardInterrupt:
        sys.stderr.write(f"xkd {args.command.name}: interrupted\n")
        return FAILED


def _sentence(error: Exception) -> str:
    return f"{error.filename}: no such file or folder" if isinstance(error, FileNotFoundError) and error.filename else str(error)


def main_of_rank(command: str) -> int:
    """`main` of a command that launchers start on every rank, with this process's arguments."""
    for number in (signal.SIGTERM, signal.SIGUSR1):  # launchers under `xkd launch` ignore them; a rank answers for itself
        signal.signal(number, signal.SIG_DFL)
    return main([command, *sys.argv[1:]])
