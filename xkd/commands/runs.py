"""Training, and looking over runs and the machines that they are for."""

import os
import sys
from pathlib import Path

from xkd.commands.row import CONFIG, DONE, FAILED, LOCAL_RANK, OVERRIDES, Command, above_zero, argument, positive


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


def demo(args):
    from xkd.demo import main

    return main(args.rest)


def config_show(args):
    from xkd.config import dump, load
    from xkd.jobs import schemas

    sys.stdout.write(dump(load(args.config, args.overrides, schemas())))


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


COMMANDS = (
    Command("train", "pre-train", pretrain, (*CONFIG, LOCAL_RANK)),
    Command(
        "launch",
        "train through deepspeed: on this machine, a hostfile's or a SLURM job's",
        launch,
        (
            argument("--ranks", type=positive, metavar="N", help="processes a machine (default: one a GPU, or one without GPUs)"),
            argument("--hostfile", type=Path, metavar="FILE", help="lines `host slots=8`: machines to start through pdsh and ssh"),
            argument("--master-addr", metavar="HOST", help="where the ranks meet (default: the first machine)"),
            argument("--master-port", type=positive, metavar="PORT", help="and on which port (default: one that should be free)"),
            argument("--doctor", action="store_true", help="run `xkd doctor` on all ranks in place of training"),
            argument("--dry-run", action="store_true", help="show the command; start nothing"),
            *CONFIG,
        ),
    ),
    Command("demo", "run the main job on the embedded data set and write a report", demo, passes_rest=True),
    Command("config show", "print a configuration with every field", config_show, CONFIG),
    Command(
        "plan",
        "say what a pre-training run needs: storage, GB/s, memory, days",
        plan,
        (
            argument(
                "--gpus", required=True, metavar="NxNAME", help="such as 16xH100; a name that is not known lists those that are"
            ),
            argument(
                "--dataset-clips", type=positive, metavar="N", help="clips to train on (default: those of data.train's shards)"
            ),
            argument("--profile", default="pretrain", help="of shards that are not there yet (default pretrain)"),
            argument("--codec", default="vp9", help="likewise, of video (default vp9)"),
            argument("--audio", default="pcm16", help="likewise, of sound (default pcm16)"),
            argument("--clips-per-gpu", type=above_zero, metavar="X", help="clips/s that you have measured on one of the GPUs"),
            argument(
                "--mfu", type=above_zero, metavar="SHARE", help="else: the share of a GPU's peak that is reached (default 0.35)"
            ),
            argument("--gpus-per-node", type=positive, metavar="N", help="(default 8)"),
            argument("--gpu-tflops", type=above_zero, metavar="X", help="of a GPU, in bfloat16, dense (default: the data sheet's)"),
            argument("--gpu-memory-gib", type=above_zero, metavar="X", help="of a GPU (default: the data sheet's)"),
            argument("--network-gb-per-s", type=above_zero, metavar="X", help="of all adapters of a node (default 320)"),
            *CONFIG,
        ),
    ),
    Command(
        "replay",
        "do one step of a run again: its clips, views, masks, losses",
        replay,
        (
            argument("run", metavar="RUN", type=Path, help="run directory, which is only read"),
            argument("--step", type=positive, required=True, metavar="N", help="as in metrics.jsonl; the first is 1"),
            argument("--out", type=Path, metavar="DIR", help="folder to write (default: RUN/replay/step-N)"),
            argument(
                "--samples", type=positive, default=16, metavar="N", help="draw so many, the largest losses first (default 16)"
            ),
            argument(
                "--most-steps", type=positive, default=1000, metavar="N", help="steps to be done again before it (default 1000)"
            ),
            OVERRIDES,
        ),
    ),
    Command("env", "print what a report of a bug needs: versions, hardware, commit, variables", env),
    Command(
        "doctor",
        "look whether this machine, or every node of a launch, can train",
        doctor,
        (
            argument("config", metavar="CONFIG", nargs="?", help="of the run: yaml file, or its path below configs/"),
            OVERRIDES,
            LOCAL_RANK,
        ),
    ),
)
