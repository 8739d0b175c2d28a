"""Clips a second of feature extraction, from shards to kept files, beside its bounds: loading, and the bare forward pass."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from xkd.benchmarks import command
from xkd.benchmarks.harness import Round, measure
from xkd.benchmarks.shards import given_or_natural
from xkd.eval.extraction import Extraction
from xkd.eval.splits import Part
from xkd.eval.subject import Evaluated
from xkd.features import counted_batches
from xkd.model.config import ENCODERS, AudioConfig, Modality, VideoConfig
from xkd.model.networks import initialise
from xkd.model.tokenizers import Tokenizer
from xkd.model.vit import Encoder, transformer_blocks
from xkd.pipelines.config import DataConfig
from xkd.pipelines.shards.index import ShardSet

FEATURES, LOADER, FORWARD = PROVIDERS = ("features", "loader", "forward")
PATCHES = {"video": VideoConfig().tubelet, "audio": AudioConfig().patch}


@contextmanager
def setup(extraction: Extraction, part: Part, provider: str) -> Iterator[Round]:
    """One pass over the part a round: its features, computed and written; its views; or its features from views at hand.

    The views at hand are those of the first batch, again and again.
    """
    with TemporaryDirectory() as folder:
        rounds = count()
        if provider == FEATURES:
            yield lambda lap: _extract(replace(extraction, root=Path(folder, str(next(rounds)))), part)
        elif provider == LOADER:
            with extraction.open_loader(part, "eval") as loader:
                yield lambda lap: sum(len(batch.keys) for batch in counted_batches(loader))
        else:
            with extraction.open_loader(part, "eval") as loader:
                batch, steps = next(counted_batches(loader)), len(loader)
            yield lambda lap: sum(len(_features(extraction, batch)) for _ in range(steps))


def _extract(extraction: Extraction, part: Part) -> int:
    extraction.fill([part], "eval")
    return len(part.ids)


def _features(extraction: Extraction, batch) -> np.ndarray:
    return next(iter(extraction.of_batch(batch).values()))


def encoders(size: str, streams: Sequence[Modality], data: DataConfig) -> dict[Modality, Encoder]:
    """Untrained encoders of a named size."""
    found = {}
    for modality in streams:
        shape = ENCODERS[size]
        tokenizer = Tokenizer(getattr(data, f"{modality}_shape"), PATCHES[modality], shape.dim, True, modality)
        found[modality] = Encoder(tokenizer, transformer_blocks(shape), shape.dim).eval()
        initialise(found[modality], seed=0)
    return found


def share(rows: Sequence[dict]) -> str:
    """The sentence that the rows of one case come to."""
    speed = {row["provider"]: float(row["items_per_s"]) for row in rows}
    bound = min(LOADER, FORWARD, key=speed.get)
    return (
        f"{rows[0]['case']}: {speed[FEATURES]:.4g} clips/s, {speed[FEATURES] / speed[FORWARD]:.0%} of the bare forward pass,"
        f" {speed[FEATURES] / speed[bound]:.0%} of the slower bound ({bound})"
    )


def parser() -> argparse.ArgumentParser:
    own = command.parser("features", "Compute features from shards, beside loading and the bare forward pass.", rounds=5)
    own.add_argument("--shards", type=Path, help="shard folder to read (default: a temporary one of made clips of 10 s)")
    own.add_argument("--clips", type=int, default=64, help="clips of a temporary one, which is a round (default 64)")
    own.add_argument("--codec", default="vp9", help="of a temporary one (default vp9)")
    own.add_argument("--size", nargs="+", choices=ENCODERS, default=["base"], help="of the encoders (default base)")
    own.add_argument("--streams", nargs="+", choices=("video", "audio"), default=["video", "audio"], help="(default: both)")
    own.add_argument("--batch-size", type=int, default=8, help="clips a forward pass (default 8)")
    own.add_argument("--precision", choices=("fp32", "autocast"), default=None, help="(default: autocast on a GPU, else fp32)")
    own.add_argument("--threads", type=int, default=None, help="DALI's threads (default: the cores)")
    return own


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = list(arguments or [])
    options = parser().parse_args(arguments)
    precision = options.precision or ("autocast" if torch.cuda.is_available() else "fp32")
    recorder, found = command.recorder("features", arguments), []
    with given_or_natural(options.shards, options.clips, options.codec) as folder:
        shards = ShardSet.open(folder)
        part = Part(shards, np.arange(len(shards)))
        data = DataConfig(train=str(folder), num_threads=options.threads)
        for size in options.size:
            nets = encoders(size, options.streams, data)
            subject = Evaluated(nets, {}, data, {"encoders_sha256": size})
            extraction = Extraction(subject, data, Path(), options.batch_size, precision, seed=0)
            case = f"size={size} streams={'+'.join(options.streams)} batch={options.batch_size} {precision}"
            measured = measure(partial(setup, extraction, part), PROVIDERS, rounds=options.rounds, warmup=1)
            found.append(recorder.rows(case, "clip", measured))
    command.finish([row for rows in found for row in rows], options.csv)
    for rows in found:
        print(share([row for row in rows if row["part"] == "total"]))
    return 0
