"""The tables of a plan, each line with how its number is known."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from xkd.benchmarks.results import markdown
from xkd.benchmarks.scaling import GIGA
from xkd.plan.estimate import Estimate
from xkd.plan.figures import COMPUTED, GUESS, MEANINGS, MODEL, Figure
from xkd.plan.memory import GIB, by_stage, total
from xkd.train.utilisation import clip_cost

HOUR, DAY = 3600, 86400
OVERHEAD_GIB = 2.0  # CUDA's context, NCCL's buffers, workspaces of libraries, the pipelines' own buffers
COLUMNS = ("what", "value", "known", "from")


@dataclass(frozen=True)
class Line:
    """One line of the plan; its value is shown in units of `scale`."""

    what: str
    figure: Figure
    unit: str
    scale: float = 1.0

    def cells(self) -> dict[str, str]:
        value = self.figure.value / self.scale
        text = f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
        return {"what": self.what, "value": f"{text} {self.unit}".strip(), "known": self.figure.how, "from": self.figure.source}


def storage(found: Estimate) -> Iterator[Line]:
    network, train = clip_cost(found.config), found.config.train
    video, audio = found.member_bytes
    checkpoint = 4 * network.parameters + 8 * network.trainable_parameters
    kept = train.keep_checkpoints + int(train.epochs / (train.milestone_every_epochs or math.inf))
    stored = found.dataset_clips.value * (video.value + audio.value)
    yield Line("clips of the data set", found.dataset_clips, "")
    yield Line("video of a clip", video, "kB", 1e3)
    yield Line("sound of a clip", audio, "kB", 1e3)
    yield Line("shards", Figure(stored, COMPUTED, "clips x (video + sound)"), "GB", GIGA)
    yield Line("checkpoints", Figure(kept * checkpoint, COMPUTED, f"{kept} kept: weights, averages, moments"), "GB", GIGA)


def time(found: Estimate) -> Iterator[Line]:
    train, step_seconds = found.config.train, found.step_seconds(found.stage)
    alone = train.global_batch / found.fleet.count / found.rate.value
    stopped = f", stopped after {train.max_steps:,} steps" if train.max_steps else ""
    model = f"ZeRO stage {found.stage}; docs/scaling.md, gradients sent after the backward"
    seconds = found.steps * step_seconds
    yield Line("steps an epoch", Figure(found.steps_per_epoch, COMPUTED, f"global batch {train.global_batch}"), "")
    yield Line("steps", Figure(found.steps, COMPUTED, f"{train.epochs:g} epochs{stopped}"), "")
    yield Line("one GPU alone", found.rate, "clips/s")
    yield Line("efficiency", Figure(100 * alone / step_seconds, MODEL, model), "%")
    yield Line("all GPUs", Figure(found.clips_per_second, found.trust, "GPUs x one alone x efficiency"), "clips/s")
    yield Line("the whole run", Figure(seconds, found.trust, "no evaluation, no restart, no wait for clips"), "days", DAY)
    yield Line("GPU hours", Figure(seconds * found.fleet.count, found.trust, "the whole run x GPUs"), "h", HOUR)


def reading(found: Estimate) -> Iterator[Line]:
    """What must come from storage and be decoded, so that no GPU waits."""
    fleet, a_node = found.fleet, found.clips_per_second / found.fleet.nodes
    yield Line("read of a clip", found.read_bytes, "kB", 1e3)
    yield Line("clips a node", Figure(a_node, found.trust, f"all GPUs / {fleet.nodes}"), "clips/s")
    read = Figure(a_node * found.read_bytes.value, found.trust, "clips a node x read of a clip")
    yield Line("from storage a node", read, "GB/s", GIGA)
    if found.cpu_ms:
        cores = Figure(a_node * found.cpu_ms.value / 1000, found.trust, "where CPUs decode: clips a node x CPU time")
        yield Line("CPU time of loading a clip", found.cpu_ms, "ms")
        yield Line("cores a node", cores, "of that machine")
    if fleet.nvdec_engines:
        a_gpu = found.clips_per_second / fleet.count
        source = f"where the {fleet.nvdec_engines} of a GPU decode, each must do this; that they can was not measured"
        yield Line("an NVDEC engine", Figure(a_gpu / fleet.nvdec_engines, found.trust, source), "clips/s")


def memory(found: Estimate) -> Iterator[dict[str, str]]:
    """A row for each stage that the run could have."""
    for stage, parts in by_stage(found.config, found.fleet.count, found.precision).items():
        together, seconds = total(parts) / GIB + OVERHEAD_GIB, found.step_seconds(stage)
        yield {
            "ZeRO stage": f"{stage}{' (this run)' if stage == found.stage else ''}",
            **{name: f"{size / GIB:.2f}" for name, size in parts.items()},
            "libraries": f"{OVERHEAD_GIB:.2f}",
            "together": f"{together:.1f}",
            "of the GPU's": f"{together / found.fleet.memory_gib:.0%}{' TOO MUCH' if together > found.fleet.memory_gib else ''}",
            "clips/s": f"{found.config.train.global_batch / seconds:,.0f}",
            "days": f"{found.steps * seconds / DAY:.2f}",
        }


def render(found: Estimate) -> str:
    """The tables, and what their words mean."""
    sections = {"Storage": list(storage(found)), "Time": list(time(found)), "Reading": list(reading(found))}
    rows, known = list(memory(found)), {line.figure.how for lines in sections.values() for line in lines}
    text = [f"{found.name} on {found.fleet}, {found.precision}\n"]
    for title, lines in sections.items():
        text += [f"\n{title}\n\n", markdown([line.cells() for line in lines], COLUMNS)]
    text += [f"\nMemory of a GPU, GiB, at {found.config.train.global_batch // found.fleet.count} clips a GPU\n\n"]
    text += [markdown(rows, tuple(rows[0]))]
    text += [
        f"\nMemory is computed (docs/planning.md), but `libraries` a {GUESS}; clips/s and days are as good as the lines above.\n"
    ]
    text += [f"{how}: {meaning}\n" for how, meaning in MEANINGS.items() if how in known]
    return "".join(text)
