"""The command line: the tables of xkd.commands, made into a parser, and what comes of a command that fails."""

import argparse
import signal
import sys
from collections.abc import Sequence

from xkd.commands import bench, data, findings, runs
from xkd.commands.row import DONE, FAILED, WRONG_USAGE

EXIT_CODES = (
    f"exit codes: {DONE} done, {FAILED} failed, {WRONG_USAGE} wrong usage or configuration, "
    "75 stopped on request after saving (start again to go on)"
)
COMMANDS = (*data.COMMANDS, *runs.COMMANDS, *findings.COMMANDS, *bench.COMMANDS)


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
