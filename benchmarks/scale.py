"""Training steps on several ranks of this machine or of a launcher: ZeRO's stages beside DDP, one rank, and sending nothing."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, islice

import torch

from xkd.benchmarks import command
from xkd.benchmarks.engines import ALONE, EXCHANGES, measure_on_ranks, process_group
from xkd.benchmarks.harness import TOTAL, Lap, Measurement, Round, peak_memory
from xkd.benchmarks.noise import noise_batch
from xkd.benchmarks.ranks import on_ranks
from xkd.benchmarks.results import markdown
from xkd.config import load
from xkd.jobs import schemas
from xkd.train.config import PretrainConfig
from xkd.train.distributed import Place, claim_device, find_place
from xkd.train.engine import precision_of

STEPS_PER_EPOCH = 1000  # as the schedules see it
NEEDS_RANKS = "needs 2 cores or 2 GPUs"


@dataclass(frozen=True)
class Work:
    """What a round trains: `steps` steps of the configuration, each rank on noise of its own and on `threads` threads."""

    config: PretrainConfig
    steps: int
    threads: int
    rounds: int = 5


@contextmanager
def setup(work: Work, provider: str) -> Iterator[Round]:
    """A trainer that goes on in every round where it stopped in the last."""
    place, config = find_place(), work.config
    device = {"cpu": "cpu", "gpu": "cuda"}[claim_device(place)]
    torch.set_num_threads(work.threads)
    with process_group():
        trainer, steps = EXCHANGES[provider].open(config, place, STEPS_PER_EPOCH), count()
        batch = noise_batch(config, config.train.global_batch // place.world_size, seed=place.rank, device=device)

        def run_round(lap: Lap) -> int:
            for step in islice(steps, work.steps):
                trainer.step(batch, step)
            return work.steps * config.train.global_batch

        yield run_round


def timed(place: Place, work: Work, providers: Sequence[str]) -> list[Measurement]:
    """The providers' rounds, in turn, on this rank."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return measure_on_ranks(partial(setup, work), providers, rounds=work.rounds, warmup=1, device=device)


def peak_mib(place: Place, work: Work, provider: str) -> float:
    """The highest resident memory of this rank in a round and what comes before it."""
    with peak_memory() as peak, setup(work, provider) as run_round:
        run_round(lambda part: None)
    return peak[0]


def on_this_machine(work: Work, providers: Sequence[str], ranks: int) -> list[Measurement]:
    """Times of all providers in turn, memory of each alone: that of the rank with most."""
    found = on_ranks(timed, work, tuple(providers), ranks=ranks)[0]
    peaks = {provider: max(on_ranks(peak_mib, work, provider, ranks=ranks)) for provider in providers}
    return [replace(measurement, peak_mib=peaks[measurement.provider]) for measurement in found]


def efficiencies(measurements: Mapping[int, Iterable[Measurement]]) -> list[dict]:
    """What the measurements on each number of ranks come to, for all but the one rank.

    `communication` is what a step takes longer than with no gradient or weight sent, as a share of it; `efficiency` clips a second
    over those of one rank times the ranks, where one was measured.
    """
    speed = {(ranks, one.provider): one.items_per_s for ranks, found in measurements.items() for one in found if one.part == TOTAL}
    return [
        {
            "ranks": ranks,
            "provider": provider,
            "clips_per_s": f"{clips:.4g}",
            "communication": f"{1 - clips / speed[ranks, ALONE]:.1%}" if (ranks, ALONE) in speed else "",
            "efficiency": f"{clips / ranks / speed[1, ALONE]:.1%}" if (1, ALONE) in speed else "",
        }
        for (ranks, provider), clips in speed.items()
        if ranks > 1
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command.parser("scale", "Take training steps on noise on several ranks, at each ZeRO stage and by DDP.", rounds=5)
    parser.add_argument("--config", default="pretrain/demo.yaml", help="configuration to train (default %(default)s)")
    parser.add_argument("--ranks", type=int, help="processes, unless a launcher has started them (default: one a GPU, or core)")
    parser.add_argument("--clips", type=int, default=8, help="of a rank and step, on any number of ranks (default 8)")
    parser.add_argument("--steps", type=int, default=5, help="steps a round (default 5)")
    parser.add_argument("--threads", type=int, help="of torch in a rank (default: the machine's cores over its ranks)")
    parser.add_argument("--providers", nargs="+", choices=EXCHANGES, default=list(EXCHANGES), help="(default: all)")
    parser.add_argument("overrides", metavar="section.key=value", nargs="*", help="replaces a field of the configuration")
    arguments = list(arguments or [])
    options = parser.parse_args(arguments)
    recorder, launched = command.recorder("scale", arguments), "RANK" in os.environ
    cores = len(os.sched_getaffinity(0))
    ranks = find_place().world_size if launched else options.ranks or torch.cuda.device_count() or cores
    here = int(os.environ.get("LOCAL_WORLD_SIZE", ranks))
    config = load(options.config, options.overrides, schemas())
    if any(override.startswith("train.global_batch=") for override in options.overrides):
        raise ValueError("train.global_batch: is set by --clips here, times the ranks: leave it out")
    work = Work(config, options.steps, options.threads or max(1, cores // here), options.rounds)
    able, unable = {}, {}
    for name in options.providers:
        reason = EXCHANGES[name].missing(config) or (NEEDS_RANKS if ranks == 1 else None)
        (unable if reason else able)[name] = reason
    if launched:
        measurements = {ranks: timed(find_place(), of_ranks(work, options.clips, ranks), list(able))}
    else:
        counts = {1: [ALONE]} | ({ranks: list(able)} if able else {})
        measurements = {
            number: on_this_machine(of_ranks(work, options.clips, number), names, number) for number, names in counts.items()
        }
    if launched and find_place().rank > 0:
        return 0
    facts = f"config={options.config} clips={options.clips} precision={precision_of(config)} threads={work.threads}"
    rows = [row for number, found in measurements.items() for row in recorder.rows(f"{facts} ranks={number}", "clip", found)]
    rows += [recorder.absent(f"{facts} ranks={ranks}", "clip", name, reason) for name, reason in unable.items()]
    command.finish(rows, options.csv)
    print(markdown(found := efficiencies(measurements), tuple(found[0]) if found else ()), end="")
    return 0


def of_ranks(work: Work, clips: int, ranks: int) -> Work:
    """The work with so many clips a rank and step, whatever the configuration's batch."""
    train = work.config.train.model_copy(update={"global_batch": clips * ranks})
    config = work.config.model_copy(update={"train": train})
    config.loss.check_batch(clips // train.accumulation, train.accumulation)
    return replace(work, config=config)
