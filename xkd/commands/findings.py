"""Evaluating nets, and what is made of them and of what was found."""

import sys
from pathlib import Path

from xkd.commands.row import CONFIG, DONE, FAILED, LOCAL_RANK, OVERRIDES, Command, argument, positive


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


COMMANDS = (
    Command("eval", "evaluate a checkpoint: checkpoint=RUN", evaluate, (*CONFIG, LOCAL_RANK)),
    Command("features", "compute and keep the features that an evaluation reads", features, (*CONFIG, LOCAL_RANK)),
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
            OVERRIDES,
        ),
    ),
    Command(
        "visualize",
        "draw reconstructions, attention, a map of features and training curves",
        visualize,
        (
            argument("run", metavar="RUN", help="a run directory, or whatever `xkd eval` takes as checkpoint"),
            argument("--samples", type=positive, metavar="N", help="clips to draw (default 4)"),
            argument("--out", type=Path, metavar="DIR", help="folder to write (default RUN/pictures)"),
            OVERRIDES,
        ),
    ),
    Command(
        "study",
        "train and evaluate what is left of a study, and show its tables",
        study,
        (
            *CONFIG,
            argument("--workers", type=positive, metavar="N", help="cells at once, on a core each (default 1)"),
            argument("--cell", metavar="ROW-seedN", help="this cell alone, in this process"),
            argument("--table", action="store_true", help="start nothing: the tables of what is finished"),
            argument("--into", type=Path, metavar="FILE.md", help="put the tables between the marks of the study in this document"),
        ),
    ),
)
