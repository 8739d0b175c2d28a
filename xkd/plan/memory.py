"""What fills a GPU's memory at each ZeRO stage: formulas over the numbers of parameters, and the activations of a run without data.

P trained parameters, H in all, N ranks, w bytes a weight. A sum of peaks: not all of them come at the same moment of a step.
"""

import math
from collections.abc import Mapping

from xkd.benchmarks.communication import FLOAT_BYTES, STAGES, WEIGHT_BYTES
from xkd.benchmarks.scaling import BUCKET
from xkd.model.flops import Cost
from xkd.plan.activations import peak_bytes, view_shapes
from xkd.train.config import PretrainConfig
from xkd.train.distributed import Place
from xkd.train.task import clips_at_once
from xkd.train.utilisation import clip_cost

GIB = 2**30
MOMENTS = 2
LIVE_WEIGHTS = 10**9  # stage 3: gathered weights that DeepSpeed keeps until their next use


def by_stage(config: PretrainConfig, ranks: int, precision: str, *, whole_bucket: bool = True) -> dict[int, dict[str, int]]:
    """Bytes of a rank at each ZeRO stage by what they hold; stages that the trainer refuses at this precision are left out.

    On a GPU DeepSpeed's bucket of gradients (`reduce_bucket_size`) takes its `whole_bucket`; on a host only what is written to.
    """
    network, clips = clip_cost(config), clips_at_once(config, Place(0, 0, ranks))
    passing = {
        "activations": peak_bytes(config, clips, precision),
        "views": (config.data.prefetch + 1) * config.train.accumulation * view_bytes(config, clips),
    }
    stages = [stage for stage in STAGES if (stage, precision) != (0, "bf16")]
    return {stage: state_bytes(network, stage, precision, ranks, whole_bucket=whole_bucket) | passing for stage in stages}


def state_bytes(network: Cost, stage: int, precision: str, ranks: int, *, whole_bucket: bool) -> dict[str, int]:
    """What lasts from step to step, and the gradients."""
    trained, held = network.trainable_parameters, network.parameters
    weight, part = WEIGHT_BYTES[precision], math.ceil(trained / ranks)
    weights = weight * held
    if stage == 3:
        weights = weight * (math.ceil(held / ranks) + min(held, LIVE_WEIGHTS))
    found = {"weights": weights, "optimizer": FLOAT_BYTES * (MOMENTS * part if stage else MOMENTS * trained)}
    if stage:
        found["optimizer"] += FLOAT_BYTES * part  # DeepSpeed's own copy of the weights that this rank updates
    if precision == "bf16":
        averaged = held - trained
        found["averages"] = FLOAT_BYTES * (math.ceil(averaged / ranks) if stage == 3 else averaged)
    found["gradients"] = FLOAT_BYTES * (trained if stage == 0 else _bucket(trained, whole_bucket) + part)
    return found


def _bucket(trained: int, whole: bool) -> int:
    return BUCKET if whole else min(BUCKET, trained)


def view_bytes(config: PretrainConfig, clips: int) -> int:
    """A batch of so many clips as the loader hands it over."""
    return FLOAT_BYTES * sum(map(math.prod, view_shapes(config, clips)))


def total(parts: Mapping[str, float]) -> float:
    return sum(parts.values())
