"""Making clips and shards."""

import argparse
import os
import sys
from functools import partial
from pathlib import Path

from xkd.commands.row import DONE, FAILED, WORKERS, Command, argument, positive

DATASETS = ("kinetics400", "kinetics_sound", "audioset", "vggsound", "ucf101", "hmdb51", "esc50", "fsd50k", "folder")


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


def part(text: str) -> tuple[int, int]:
    number, slash, of = text.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form i/n, such as 1/8")
    return int(number), int(of)


def count_or_share(text: str) -> float:
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number, such as 20, nor a share, such as 0.05") from None


FOLDER = argument("folder", metavar="DIR", type=Path, help="shard folder")


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
            WORKERS,
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
            argument("--short-side", type=positive, metavar="PIXELS", help="of the pictures, in place of the profile's"),
            argument("--gop", type=positive, metavar="N", help="frames from one key frame to the next (default 8)"),
            WORKERS,
            argument("--limit", type=positive, metavar="N", help="convert the first N items only"),
            argument("--shuffle", type=int, metavar="SEED", help="another order (default: that of the names' hashes)"),
            argument("--shard-samples", type=positive, default=1000, metavar="N", help="items a shard (default 1000)"),
            argument("--shard-bytes", type=positive, default=2 * 10**9, metavar="N", help="largest tar (default 2000000000)"),
            argument("--part", type=part, metavar="i/n", help="the i-th of n parts, from 1 on; join them with `shards merge`"),
            argument("--max-failures", type=count_or_share, metavar="N", help="stop beyond: a number, or a share such as 0.05"),
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
            FOLDER,
            argument("--decode", action="store_true", help="decode every member as well"),
            WORKERS,
        ),
    ),
    Command("shards info", "say what a shard folder holds", shards_info, (FOLDER,)),
    Command(
        "shards preview",
        "draw samples of a shard folder",
        shards_preview,
        (
            FOLDER,
            argument("--out", type=Path, required=True, metavar="FILE.png", help="picture to write"),
            argument("--samples", type=positive, default=12, metavar="N", help="the first N samples (default 12)"),
        ),
    ),
)
