"""Compares golden files, values computed by another implementation of XKD, with this one, quantity by quantity.

Exit code 0 where every quantity passes, 1 where one misses.
"""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from xkd.benchmarks.parity_encoder import compare_autoencoder, compare_encoder
from xkd.benchmarks.parity_parts import compare_distillation, compare_head, compare_masks, compare_mmd, compare_refinement
from xkd.benchmarks.parity_rows import Comparison, Golden, Row
from xkd.benchmarks.parity_step import StepSettings
from xkd.benchmarks.parity_xkd import compare_network
from xkd.benchmarks.results import markdown

# What a file raises whose arrays do not fit each other, or this network.
MISFITS = (ValueError, TypeError, RuntimeError, LookupError, AssertionError)
COLUMNS = ("file", "quantity", "error", "tolerance", "measure", "pass")


@dataclass(frozen=True)
class Options:
    """What no file says: numbers of heads (by default as in the files' README), and settings of the whole step."""

    heads: int | None = None
    decoder_heads: int | None = None
    step: StepSettings = field(default_factory=StepSettings)


def compare_audio(golden: Golden) -> Comparison:
    from xkd.benchmarks import parity_audio  # loads DALI

    return parity_audio.compare_audio(golden)


@dataclass(frozen=True)
class Kind:
    """A kind of golden file: the arrays that it is known by, how it is compared, and why some of its arrays are not."""

    keys: tuple[str, ...]
    compare: Callable[[Golden, Options], Comparison]
    left_out: str = ""


FLOAT32_MMD = "the float64 values are compared instead: float32 ones carry the release's cancellation noise"
KINDS = {
    "encoder": Kind(("x_global", "tok_global", "sd/enc_pos_embed"), lambda golden, given: compare_encoder(golden, given.heads)),
    "masks": Kind((r"\d+/noise", r"\d+/ids_keep"), lambda golden, _: compare_masks(golden)),
    "autoencoder": Kind(
        ("x", "noise", "latent", "pred", "sd/dec_pos_embed"),
        lambda golden, given: compare_autoencoder(golden, given.heads, given.decoder_heads),
    ),
    "mmd": Kind(("x", "y", "val_f64"), lambda golden, _: compare_mmd(golden), FLOAT32_MMD),
    "distillation": Kind((r"\d+/\d+/student", r"\d+/\d+/teacher"), lambda golden, _: compare_distillation(golden)),
    "refinement": Kind((r"\d+/vattn", r"\d+/aattn"), lambda golden, _: compare_refinement(golden)),
    "head": Kind(("x", "y", r"sd/mlp\.0\.weight"), lambda golden, _: compare_head(golden)),
    "network": Kind(
        ("frames0", "frames1", "specs0", "specs1", "noise_vid", "[a-z]+(64)?/loss/loss"),
        lambda golden, given: compare_network(golden, given.step, given.heads, given.decoder_heads),
        FLOAT32_MMD,
    ),
    "audio": Kind(
        ("wav", "global_reflect_norm"),
        lambda golden, _: compare_audio(golden),
        "steps on the way to those compared, zero padding (the method reflects), and the release's own random draws",
    ),
}


def kind_of(golden: Golden) -> str | None:
    """The kind whose keys (patterns) the file has, or None."""
    for name, kind in KINDS.items():
        if all(any(re.fullmatch(pattern, key) for key in golden.arrays) for pattern in kind.keys):
            return name
    return None


@dataclass(frozen=True)
class Result:
    """What became of one file: its rows, remarks, and what was wrong with it."""

    file: str
    rows: list[Row]
    remarks: list[str]
    fault: str = ""

    @property
    def passed(self) -> bool:
        return not self.fault and all(row.passed for row in self.rows)


def compare_file(path: Path, options: Options) -> Result:
    """One file compared; a file that cannot be read, or does not fit its kind, is a fault."""
    try:
        golden = Golden.open(path)
        name = kind_of(golden)
        if name is None:
            return Result(path.stem, [], ["not compared: of no known kind"])
        comparison = KINDS[name].compare(golden, options)
    except MISFITS as error:
        return Result(path.stem, [], [], f"{type(error).__name__}: {error}")
    if not comparison.rows:
        return Result(path.stem, [], [], f"of kind {name}, but with nothing to compare")
    remarks = [f"read as {comparison.read_as}"] if comparison.read_as else []
    if golden.unread:
        reason = f" ({KINDS[name].left_out})" if KINDS[name].left_out else ""
        remarks.append(f"not compared: {_shortened(sorted(golden.unread))}{reason}")
    return Result(path.stem, comparison.rows, remarks)


def _shortened(keys: Sequence[str], most: int = 6) -> str:
    rest = f" and {len(keys) - most} more" if len(keys) > most else ""
    return ", ".join(keys[:most]) + rest


def report(results: Sequence[Result]) -> str:
    """The table, the remarks under it, and one line on the whole."""
    rows = [
        {
            "file": result.file,
            "quantity": row.quantity,
            "error": f"{row.error:.2g}",
            "tolerance": f"{row.tolerance:.2g}",
            "measure": row.measure,
            "pass": "yes" if row.passed else "MISS",
        }
        for result in results
        for row in result.rows
    ]
    lines = [f"{result.file}: {remark}" for result in results for remark in result.remarks]
    lines += [f"{result.file}: MISS: {result.fault}" for result in results if result.fault]
    compared = [result for result in results if result.rows or result.fault]
    missed = sum(not row.passed for result in results for row in result.rows) + sum(bool(result.fault) for result in results)
    verdict = f"{missed} missed" if missed else "all pass" if compared else "nothing is shown"
    lines.append(f"{len(compared)} of {len(results)} files compared, {len(rows)} quantities: {verdict}")
    return "\n".join([markdown(rows, COLUMNS) if rows else "", *lines])


def golden_files(folder: Path) -> list[Path]:
    """The npz files of a folder; raises ValueError where there is none."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder: give the one that holds the golden files")
    files = sorted(folder.glob("*.npz"))
    if not files:
        raise ValueError(f"{folder}: holds no npz file: give the folder of the golden files")
    return files


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m xkd.benchmarks.parity", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="folder of golden files (*.npz)")
    parser.add_argument("--heads", type=int, help="attention heads of the encoders, where the file does not show them (default 3)")
    parser.add_argument("--decoder-heads", type=int, help="attention heads of the decoders (default 3)")
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="settings of the whole step that differ from the golden files' README, such as loss.video.teacher_temperature=0.09",
    )
    options = parser.parse_args(arguments)
    try:
        given = Options(options.heads, options.decoder_heads, StepSettings.given(options.set))
        results = [compare_file(path, given) for path in golden_files(options.folder)]
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(report(results))
    return 0 if all(result.passed for result in results) else 1


if __name__ == "__main__":
    raise SystemExit(main())
