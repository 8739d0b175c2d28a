"""How far two ranks under DeepSpeed are from one process in plain torch, case by case.

python -m tests.train.parity prints the table of docs/training.md.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from tests.train.plain import STEPS_PER_EPOCH, TERMS, Track, arrays, batch_of, configuration, train_plainly
from tests.train.ranks import on_ranks
from xkd.train.distributed import Place
from xkd.train.pretraining import Pretraining
from xkd.train.trainer import Trainer

STEPS = 20
FP32, BF16, BETWEEN_STAGES = 1e-5, 2e-2, 5e-3

STAGES = (0, 1, 2, 3)
SHARDED = (1, 2, 3)
FIXED_GROUP = "loss.align_group=2"
# What is set, and at which stages.
FP32_CASES: dict[str, tuple[tuple[str, ...], Sequence[int]]] = {
    "align_group global": ((), STAGES),
    "align_group 2": ((FIXED_GROUP,), STAGES),
    "align_group 2, accumulation 2": ((FIXED_GROUP, "train.accumulation=2"), STAGES),
    "last layer frozen for 10 steps": (("optim.freeze_last_layer_epochs=1",), STAGES),
    "sharing student": (("model.sharing=student",), SHARDED),
    "sharing both": (("model.sharing=both",), SHARDED),
    "activation checkpointing": (("model.activation_checkpointing=true",), SHARDED),
    "compiled blocks": (("train.compile=true",), (1, 3)),
}
HALF_CASES = {f"precision {precision}": ((f"train.precision={precision}",), SHARDED) for precision in ("autocast", "bf16")}
EMA_STEPS = 100
EMA_RUN = ("train.epochs=10", "optim.lr=1e-3")
EMA_EXACT = [(0, "fp32"), (1, "fp32"), (1, "autocast"), (2, "autocast"), (3, "fp32"), (3, "autocast"), (3, "bf16")]
EMA_FED_FROM_BF16 = [(1, "bf16"), (2, "bf16")]
# What changes how a step is computed and not what it computes: one process needs none of it.
ARITHMETIC = ("train.accumulation", "train.precision", "train.compile", "model.activation_checkpointing", "deepspeed.zero_stage")


@dataclass(frozen=True)
class Errors:
    """Distances to plain torch: of the loss (relative) and its terms, the largest of all steps; of the weights when all are done.

    Weights are told apart as trained ones, averages and centres: the distance, over how far plain torch has moved them.
    """

    loss: float
    terms: float
    trained: float
    averages: float
    centers: float


def train(place: Place, overrides: Sequence[str], steps: int, poisoned: Sequence[int] = ()) -> Track:
    """The same steps by the trainer, on the clips of this rank."""
    config = configuration(overrides)
    trainer = Trainer(Pretraining(config, place, STEPS_PER_EPOCH))
    numbers = [trainer.step(batch_of(config, step, place, poisoned), step) for step in range(steps)]
    return Track(numbers, arrays(trainer.weights()))


def on_two_ranks(overrides: Sequence[str], stage: int, steps: int = STEPS, poisoned: Sequence[int] = ()) -> Track:
    """What both ranks found; they must not differ in a bit."""
    first, second = on_ranks(train, (*overrides, f"deepspeed.zero_stage={stage}"), steps, tuple(poisoned))
    assert repr(first.numbers) == repr(second.numbers)
    for name, weight in first.weights.items():
        np.testing.assert_array_equal(weight, second.weights[name], err_msg=name)
    return first


def in_plain_torch(overrides: Sequence[str], steps: int = STEPS, poisoned: Sequence[int] = ()) -> Track:
    return _in_plain_torch(tuple(o for o in overrides if not o.startswith(ARITHMETIC)), steps, tuple(poisoned))


_in_plain_torch = cache(train_plainly)


def errors(found: Track, overrides: Sequence[str], poisoned: Sequence[int] = ()) -> Errors:
    expected = in_plain_torch(overrides, len(found.numbers), poisoned)
    start = in_plain_torch(overrides, steps=0).weights
    kinds = {
        "trained": [name for name in expected.weights if "_student." in name and not name.endswith("gains")],
        "averages": [name for name in expected.weights if "_teacher." in name and not name.endswith(("gains", "center"))],
        "centers": [name for name in expected.weights if name.endswith("center")],
    }
    return Errors(
        loss=float(np.nanmax(np.abs(found.curve("loss") / expected.curve("loss") - 1))),
        terms=float(max(np.nanmax(np.abs(found.curve(term) - expected.curve(term))) for term in TERMS)),
        **{kind: _distance(found.weights, expected.weights, start, names) for kind, names in kinds.items()},
    )


def _distance(found: dict, expected: dict, start: dict, names: list[str]) -> float:
    apart = sum(np.square(found[name] - expected[name], dtype=np.float64).sum() for name in names)
    return float((apart / sum(np.square(expected[name] - start[name], dtype=np.float64).sum() for name in names)) ** 0.5)


@dataclass(frozen=True)
class EmaErrors:
    """Distances after EMA_STEPS of the averages to the formula on the students' fp32 masters, over single values."""

    float32: float  # to lerp in float32, the largest
    float64: float  # to the formula in float64, the largest
    rms: float  # the same, root mean square
    moved: float  # how far the formula has moved a value, the largest


def ema_errors(stage: int, precision: str) -> EmaErrors:
    first, second = on_ranks(_average, (*EMA_RUN, f"deepspeed.zero_stage={stage}", f"train.precision={precision}"))
    assert first == second
    return first


def _average(place: Place, overrides: Sequence[str]) -> EmaErrors:
    trainer = Trainer(Pretraining(configuration(overrides), place, STEPS_PER_EPOCH))
    names = [name for name, _ in trainer.model.named_parameters() if "_teacher." in name]
    rounded = {name: weight.clone() for name, weight in trainer.weights() if name in names}
    exact = {name: weight.double() for name, weight in rounded.items()}
    start = dict(exact)
    for step in range(EMA_STEPS):
        numbers = trainer.step(batch_of(trainer.config, step, place), step)
        weights = dict(trainer.weights())
        for name in names:
            momentum, student = numbers[f"ema_{name.split('_')[0]}"], weights[name.replace("_teacher.", "_student.")]
            rounded[name] = torch.lerp(rounded[name], student, 1 - momentum)
            exact[name] = momentum * exact[name] + (1 - momentum) * student.double()
    assert numbers["skipped_steps"] == 0
    found, rounded, exact, start = (
        torch.cat([of[name].flatten().double() for name in names]) for of in (weights, rounded, exact, start)
    )
    return EmaErrors(
        float32=(found - rounded).abs().max().item(),
        float64=(found - exact).abs().max().item(),
        rms=(found - exact).square().mean().sqrt().item(),
        moved=(exact - start).abs().max().item(),
    )


def main() -> int:
    """Prints the tables."""
    _print("what", "ZeRO stage", "loss, relative", "terms", "trained weights", "averages", "centres")
    _print(*["---"] * 7)
    for name, (overrides, stages) in (FP32_CASES | HALF_CASES).items():
        for stage in stages:
            apart = errors(on_two_ranks(overrides, stage), overrides)
            _print(name, stage, *(f"{value:.1e}" for value in vars(apart).values()))
    sys.stdout.write("\n")
    _print("precision", "ZeRO stage", "from lerp in float32", "from the formula", "root mean square", "moved by")
    _print(*["---"] * 6)
    for stage, precision in (*EMA_EXACT, *EMA_FED_FROM_BF16):
        _print(precision, stage, *(f"{value:.1e}" for value in vars(ema_errors(stage, precision)).values()))
    return 0


def _print(*cells) -> None:
    sys.stdout.write(f"| {' | '.join(map(str, cells))} |\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
