"""CPU time of a full training step of XKD, by part, beside the same step computed straightforwardly."""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from xkd.benchmarks import command, straightforward
from xkd.benchmarks.harness import TOTAL, Lap, Measurement, Round, measure
from xkd.benchmarks.noise import noise_views
from xkd.config import load
from xkd.jobs import schemas
from xkd.model.xkd import OTHER, XKD
from xkd.train import ema
from xkd.train.clipping import clip_per_tensor
from xkd.train.config import PretrainConfig
from xkd.train.pretraining import param_groups

OURS, PLAIN = "xkd", "straightforward"
LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 1e-4  # relative, in float32; gradients by the norm of each tensor
Outputs = tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]  # the loss, its parts, the teachers' mean outputs


@dataclass(frozen=True)
class Provider:
    """How each part of a step is computed."""

    forward: Callable[[XKD, Sequence[Tensor], dict[str, Tensor]], Outputs]
    clip: Callable[[list[Tensor], list[float]], None]  # gradients, and the largest norm of each
    adamw: dict[str, bool]
    follow: Callable[[list[tuple[Tensor, Tensor]], float], None]  # pairs of teacher and student, momentum


def _forward(xkd: XKD, batch: Sequence[Tensor], noise: dict[str, Tensor]) -> Outputs:
    output = xkd(*batch, step=0, noise_video=noise["video"], noise_audio=noise["audio"])
    return output.loss, output.parts, {"video": output.teacher_mean_video, "audio": output.teacher_mean_audio}


def _clip(gradients: list[Tensor], max_norms: list[float]) -> None:
    clip_per_tensor(gradients, gradients[0].new_tensor(max_norms), lambda squares: squares)


def _plain_forward(xkd: XKD, batch: Sequence[Tensor], noise: dict[str, Tensor]) -> Outputs:
    parts, outputs = straightforward.forward(xkd, batch, noise)
    return parts.pop("loss"), parts, {modality: outputs_BK.mean(0) for modality, outputs_BK in outputs.items()}


PROVIDERS = {
    OURS: Provider(_forward, _clip, {"fused": True}, ema.update),
    PLAIN: Provider(_plain_forward, straightforward.clip_gradients, {"foreach": False}, straightforward.follow),
}


class Step:
    """A network with its optimizer and one batch of noise, and its steps as one provider takes them."""

    def __init__(self, config: PretrainConfig, provider: str, dtype: torch.dtype = torch.float32):
        self._config, self._provider = config, PROVIDERS[provider]
        self.xkd, self._batch, self._noise = build(config, dtype)
        trainable = trained(self.xkd)
        self._parameters = list(trainable.values())
        clipped = [config.clip.scope == "all" or self.xkd.is_student_parameter(name) for name in trainable]
        self._max_norms = [config.clip.norm if clip else math.inf for clip in clipped]
        groups = param_groups(self.xkd, config.optim.weight_decay)
        self._optimizer = torch.optim.AdamW(groups, lr=config.optim.lr, betas=config.optim.betas, **self._provider.adamw)

    def __call__(self, lap: Lap) -> int:
        """One step; returns its clips."""
        loss, _, means = self._provider.forward(self.xkd, self._batch, self._noise)
        lap("forward")
        loss.backward()
        lap("backward")
        self._provider.clip([parameter.grad for parameter in self._parameters], self._max_norms)
        lap("clip")
        self._optimizer.step()
        self._optimizer.zero_grad()
        lap("optimizer")
        for modality, pairs in self.xkd.teacher_pairs().items():
            self._provider.follow(pairs, getattr(self._config.ema, modality))
        self.xkd.update_centers(means["video"], means["audio"])
        lap("teachers and centres")
        return self._config.train.global_batch


def trained(xkd: XKD) -> dict[str, Tensor]:
    return {name: parameter for name, parameter in xkd.named_parameters() if parameter.requires_grad}


def build(config: PretrainConfig, dtype: torch.dtype) -> tuple[XKD, list[Tensor], dict[str, Tensor]]:
    """A network, its inputs (normal noise) and the noise of its masks: the same ones at every call."""
    size = config.train.global_batch
    xkd = XKD(config.model, config.loss, **config.data.view_shapes, seed=config.seed).to(dtype)
    generator = torch.Generator().manual_seed(config.seed)
    batch = [views.to(dtype) for views in noise_views(config, size, generator).values()]
    num_tokens = {modality: xkd.get_submodule(f"{modality}_student").encoder.tokenizer.num_tokens for modality in OTHER}
    noise = {modality: torch.rand(size, number, generator=generator) for modality, number in num_tokens.items()}
    return xkd, batch, noise


def check_agreement(config: PretrainConfig) -> None:
    """Asserts that both providers find the same losses and gradients for the same weights and inputs."""
    xkd, batch, noise = build(config, torch.float32)
    found = {name: _losses_and_gradients(xkd, provider.forward(xkd, batch, noise)) for name, provider in PROVIDERS.items()}
    (losses, gradients), (plain_losses, plain_gradients) = found[OURS], found[PLAIN]
    for name, loss in losses.items():
        assert abs(loss - plain_losses[name]) <= LOSS_TOLERANCE * abs(plain_losses[name]), (name, loss, plain_losses[name])
    for name, gradient in gradients.items():
        error = (gradient - plain_gradients[name]).norm() / plain_gradients[name].norm()
        assert error <= GRADIENT_TOLERANCE, f"the gradient of {name} differs by {error:.1e} of its norm"


def _losses_and_gradients(xkd: XKD, outputs: Outputs) -> tuple[dict[str, float], dict[str, Tensor]]:
    loss, parts, _ = outputs
    parameters = trained(xkd)
    gradients = torch.autograd.grad(loss, list(parameters.values()))
    return {name: part.item() for name, part in {"loss": loss, **parts}.items()}, dict(zip(parameters, gradients, strict=True))


@contextmanager
def setup(config: PretrainConfig, provider: str) -> Iterator[Round]:
    """A step; each round goes on where the last one ended."""
    yield Step(config, provider)


def cpu_ratio(measurements: Sequence[Measurement]) -> float:
    """CPU time of the straightforward step over ours."""
    seconds = {measurement.provider: measurement.cpu_s for measurement in measurements if measurement.part == TOTAL}
    return seconds[PLAIN] / seconds[OURS]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command.parser("model", "Take full training steps on noise, ours and straightforward ones in turn.", rounds=5)
    parser.add_argument("--config", default="pretrain/xkd.yaml", help="configuration to train (default %(default)s)")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=(2, 4), metavar="B", help="clips a step (default 2 4)")
    parser.add_argument("--teacher-views", nargs="+", choices=("local", "global"), default=("local", "global"), help="default both")
    arguments = list(arguments or [])
    options = parser.parse_args(arguments)
    if os.environ.get("OMP_WAIT_POLICY", "").upper() != "PASSIVE":
        raise ValueError("OMP_WAIT_POLICY is not PASSIVE: threads that spin would count as work; set it before the command")
    recorder = command.recorder("model", arguments)
    rows, ratios = [], {}
    for view in options.teacher_views:
        for size in options.batch_sizes:
            overrides = [f"model.teacher_view={view}", f"train.global_batch={size}", "loss.align_group=global"]
            config = load(options.config, overrides, schemas())
            case = f"config={options.config} batch={size} teacher_view={view} threads={torch.get_num_threads()}"
            check_agreement(config)
            measurements = measure(partial(setup, config), list(PROVIDERS), rounds=options.rounds, warmup=1, memory=True)
            rows += recorder.rows(case, "clip", measurements)
            ratios[case] = cpu_ratio(measurements)
    command.finish(rows, options.csv)
    for case, ratio in ratios.items():
        print(f"{case}: the straightforward step takes {ratio:.2f} times our CPU time")
    return 0
