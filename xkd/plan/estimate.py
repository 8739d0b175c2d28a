"""What is known of a run before it starts: its clips and their bytes, its steps, how fast its GPUs are."""

import math
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from pathlib import Path

from xkd.benchmarks.communication import DEEPSPEED
from xkd.benchmarks.harness import TOTAL
from xkd.benchmarks.results import Row
from xkd.benchmarks.scaling import MODELLED, Cluster, step, works_of
from xkd.pipelines.config import DataConfig
from xkd.pipelines.shards.index import ShardSet
from xkd.pipelines.shards.manifest import MANIFEST
from xkd.plan.figures import COMPUTED, COUNTED, GIVEN, GUESS, MODEL, Figure, measured, newest, stored_bytes
from xkd.plan.gpus import GPUS, Fleet
from xkd.train.config import PretrainConfig
from xkd.train.distributed import Place
from xkd.train.task import clips_at_once
from xkd.train.utilisation import TERA, clip_cost

PCM_BYTES = 2
STEPS = ("step", "gpu_check")  # files of results that have steps
STAGE_OF = {stage: name for name, stage in MODELLED.items()} | {2: next(name for name, stage in MODELLED.items() if stage == 1)}


@dataclass(frozen=True)
class Form:
    """How clips would be stored, where there are no shards yet."""

    profile: str = "pretrain"
    codec: str = "vp9"
    audio: str = "pcm16"


@dataclass(frozen=True)
class Estimate:
    """A run of `config`, read from the file `name`, on `fleet`, and what is known of it.

    `clips` are those of the data set where no shards tell. Construction raises ValueError for what the run itself would refuse, and
    where the number of clips is unknown.
    """

    config: PretrainConfig
    name: str
    fleet: Fleet
    cluster: Cluster  # of the model in benchmarks/scaling.py; `clips` and `peak_tflops` are replaced
    results: Path
    today: date
    clips: int | None = None
    clips_per_gpu: float | None = None  # a second, measured by the reader
    form: Form = Form()

    def __post_init__(self):
        config, ranks = self.config, self.fleet.count
        if config.train.global_batch % (ranks * config.train.accumulation):
            raise ValueError(
                f"train.global_batch: {config.train.global_batch} clips cannot be dealt evenly to {ranks} GPUs in "
                f"{config.train.accumulation} micro-batches: choose a multiple of {ranks * config.train.accumulation}"
            )
        config.loss.check_batch(clips_at_once(config, Place(0, 0, ranks)), config.train.accumulation)
        if self.shards is None and not self.clips:
            raise ValueError(
                f"data.train: {config.data.train} is no shard folder on this machine, so the number of clips is unknown: "
                "give --dataset-clips N (Kinetics-400 has about 240000, AudioSet 2000000), or point data.train at shards"
            )
        if not self.steps_per_epoch:
            raise ValueError(
                f"train.global_batch: {config.train.global_batch} is more than the {self.dataset_clips.value:g} clips of the data "
                "set, which give no step: lower it"
            )
        if not self.cluster.mfu <= 1:
            raise ValueError(f"--mfu: {self.cluster.mfu:g} is more than all of the peak: write a share, such as 0.35")

    @cached_property
    def shards(self) -> ShardSet | None:
        folder = Path(self.config.data.train)
        return ShardSet.open(folder) if (folder / MANIFEST).is_file() else None

    @property
    def precision(self) -> str:
        """That of the run on GPUs."""
        chosen = self.config.train.precision
        return "autocast" if chosen == "auto" else chosen

    @cached_property
    def dataset_clips(self) -> Figure:
        if self.clips:
            return Figure(self.clips, GIVEN, "--dataset-clips")
        return Figure(len(self.shards), COUNTED, str(self.config.data.train))

    @cached_property
    def member_bytes(self) -> tuple[Figure, Figure]:
        """Of a clip's video, of its sound."""
        if self.shards is not None:
            return tuple(Figure(self.shards.column(f"{name}_size").mean(), COUNTED, "their mean") for name in ("video", "audio"))
        return stored_bytes(self.results, self.today, profile=self.form.profile, codec=self.form.codec, audio=self.form.audio)

    @cached_property
    def read_bytes(self) -> Figure:
        """A clip, in a step: the whole video, and of pcm16 the seconds that are heard, rounded up to whole ones."""
        video, audio = (figure.value for figure in self.member_bytes)
        data = self.config.data
        codec = self.shards.manifest.settings.profile.audio.codec if self.shards else self.form.audio
        if codec == "pcm16":
            audio = min(audio, (math.ceil(data.clip_seconds) + 1) * data.audio.sample_rate * PCM_BYTES)
        return Figure(video + audio, COMPUTED, f"all of the video, {data.clip_seconds:g} s of the sound in whole seconds")

    @property
    def steps_per_epoch(self) -> int:
        return int(self.dataset_clips.value) // self.config.train.global_batch

    @property
    def steps(self) -> int:
        planned = math.ceil(self.config.train.epochs * self.steps_per_epoch)
        return min(planned, self.config.train.max_steps or planned)

    @cached_property
    def rate(self) -> Figure:
        """Clips a second of one GPU that waits for nothing."""
        if self.clips_per_gpu:
            return Figure(self.clips_per_gpu, GIVEN, "--clips-per-gpu")
        if row := newest(self.results, STEPS, self._is_ours):
            return measured(row, "items_per_s", self.today, row["case"])
        flops = clip_cost(self.config).step_flops
        source = f"{flops / TERA:.3f} TFLOP a clip at {self.cluster.mfu:.0%} of {self.fleet.tflops:g} TFLOP/s; no GPU was measured"
        return Figure(self.cluster.mfu * self.fleet.tflops * TERA / flops, GUESS, source)

    def _is_ours(self, row: Row) -> bool:
        """Whether it is of steps of this configuration on one such GPU."""
        gpu, case = GPUS.get(self.fleet.name), f"{row['case']} "
        provider = f"{DEEPSPEED} compile" if self.config.train.compile else DEEPSPEED
        work = (row["benchmark"], row["provider"], row["part"]) == ("step", provider, TOTAL)
        same = f"config={self.name} " in case and "ranks=1 " in case
        return work and same and bool(row["items_per_s"]) and gpu is not None and gpu.device in row["gpu"]

    def step_seconds(self, stage: int) -> float:
        """Of one step at a ZeRO stage: computing, sending after the backward, waiting for the slowest GPU."""
        clips = self.config.train.global_batch / self.fleet.count
        work = works_of(clip_cost(self.config), self.precision)[STAGE_OF[stage]]
        achieved = self.rate.value * work.flops_per_clip / (self.fleet.tflops * TERA)
        cluster = replace(self.cluster, clips=clips, peak_tflops=self.fleet.tflops, mfu=achieved, gpus_per_node=self.fleet.per_node)
        found = step(work, self.fleet.count, cluster, overlap=False)
        return found.computing + found.communicating + found.waiting

    @property
    def trust(self) -> str:
        """How what follows from `rate` and the model is known."""
        return GUESS if self.rate.how == GUESS else MODEL

    @property
    def stage(self) -> int:
        return self.config.deepspeed.zero_stage

    @cached_property
    def clips_per_second(self) -> float:
        """Of the whole run, at its stage."""
        return self.config.train.global_batch / self.step_seconds(self.stage)

    @cached_property
    def cpu_ms(self) -> Figure | None:
        """CPU time of loading a clip where CPUs decode it."""
        codec = self.shards.manifest.settings.profile.video.codec if self.shards else self.form.codec
        row = newest(
            self.results,
            ["loader"],
            lambda row: (
                row["provider"] == "xkd" and row["part"] == "total" and row["case"].startswith(f"geometry=default codec={codec} ")
            ),
        )
        if row is None:
            return None
        found = measured(row, "cpu_ms_per_item", self.today, f"{codec}, views of the default geometry")
        same = self.config.data.view_shapes == DataConfig(train="none").view_shapes
        return found if same else replace(found, how=GUESS, source=f"{found.source}, which are not those of this run")
