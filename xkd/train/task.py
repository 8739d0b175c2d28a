"""What a run is asked for: a `Job` before its steps and beside them, a `Task` at each of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from torch import Tensor, nn

from xkd.pipelines.loader import Batch, Loader
from xkd.train.alarm import CollapseAlarm
from xkd.train.config import TrainingConfig
from xkd.train.distributed import Place
from xkd.train.pictures import Pictures
from xkd.train.utilisation import Utilisation

Pairs = list[tuple[nn.Parameter, nn.Parameter]]


class Outcome(NamedTuple):
    """What the forward of a micro-batch finds."""

    loss: Tensor
    scalars: Mapping[str, Tensor]  # logged, averaged over the step's clips
    means: Sequence[Tensor] = ()  # 1-D; averaged likewise and handed to `applied`


class Task(ABC):
    """A network in training, and what is particular about a step of it; the Trainer does what all have in common.

    What lasts from step to step lies in `model`, as parameters and buffers, and a checkpoint holds it. Randomness is a function of
    (seed, step, position in the global batch), never of a generator's state, which no checkpoint holds.
    """

    def __init__(self, config: TrainingConfig, place: Place, model: nn.Module):
        self.config, self.place, self.model = config, place, model

    @abstractmethod
    def param_groups(self) -> list[dict]:
        """AdamW's groups over the trainable parameters, with its settings (`betas`)."""

    @abstractmethod
    def schedule(self, step: int) -> dict[str, float]:
        """The scheduled values of a step; they are logged."""

    @abstractmethod
    def set_groups(self, groups: Sequence[dict], values: Mapping[str, float]) -> None:
        """Gives the groups, in the order of `param_groups`, their `lr` and `weight_decay` of a step."""

    @abstractmethod
    def forward(self, network: Callable, batch: Batch, rows: slice, step: int, values: Mapping[str, float]) -> Outcome:
        """The loss of these rows of this rank's clips, by a call of `network`, which is `model` as the engine runs it."""

    @abstractmethod
    def max_norms(self, step: int) -> tuple[float, ...]:
        """The largest norm of each trainable tensor's gradient, in the order of `trained(model)`; `inf`: not clipped."""

    def averages(self) -> Mapping[str, Pairs]:
        """(average, followed) parameters by the name of the scheduled value that is their momentum; updated in this order."""
        return {}

    def applied(self, *means: Tensor) -> None:  # noqa: B027 most tasks have nothing to do
        """Takes in the `means` of an applied step, once weights and averages have moved."""


class Probe(Protocol):
    """What is measured of a network now and then, while it is trained."""

    def is_due(self, step: int) -> bool: ...

    def measure(self, weights: Iterable[tuple[str, Tensor]]) -> dict[str, float]: ...


class Job(ABC):
    """A kind of run, on one of its ranks. Its methods raise ValueError for what cannot be trained with."""

    def __init__(self, config: TrainingConfig, place: Place):
        self.config, self.place = config, place

    def check(self) -> None:  # noqa: B027 most jobs have nothing to add
        """Refuses what can be told at once, before ranks meet and anything is written."""

    @abstractmethod
    def open_loader(self, device: Literal["cpu", "gpu"]) -> Loader: ...

    @abstractmethod
    def open_task(self, steps_per_epoch: int) -> Task: ...

    def open_probe(self, device: Literal["cpu", "gpu"], steps_per_epoch: int) -> Probe | None:
        return None

    def open_pictures(self, steps_per_epoch: int) -> Pictures | None:
        return None

    def open_alarm(self) -> CollapseAlarm | None:
        return None

    @abstractmethod
    def utilisation(self) -> Utilisation: ...

    def opening(self, utilisation: Utilisation) -> list[str]:
        """What is said of the run before its first step."""
        return []


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The trainable parameters by name."""
    return {name: param for name, param in model.named_parameters() if param.requires_grad}


def clips_at_once(config: TrainingConfig, place: Place) -> int:
    """Clips of a micro-batch: those that a rank computes at once."""
    return config.train.global_batch // (place.world_size * config.train.accumulation)
