"""What was seen of a run, on all of its ranks, and the quantities that rules ask for."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from xkd.benchmarks.explain.arrivals import COMMUNICATION, Call, Waiting, waiting
from xkd.benchmarks.explain.clock import Usage
from xkd.train.config import PretrainConfig

DATA = "data"
BYTES, FRAMES, VIEWS = "waiting for bytes", "waiting for frames", "finishing views"
STAGES = {BYTES: "feed", FRAMES: "decode", VIEWS: "finish"}  # of the loader, as Loader.stage_seconds names them
FORWARD = ("forward: video student", "forward: audio student", "forward: teachers", "forward")  # the last: masks, losses
BACKWARD, NUMBERS, CLIP, OPTIMIZER, TEACHERS, LOGGING = (
    *("backward", "average numbers", "clip", "optimizer", "teachers and centres", "logging"),
)
WAITING = "waiting for other ranks"
ONCE_A_STEP = (NUMBERS, CLIP, TEACHERS)  # whatever the batch, like the optimizer
COMPUTING = (*FORWARD, BACKWARD, *ONCE_A_STEP, OPTIMIZER)
PARTS = (*STAGES, *FORWARD, BACKWARD, NUMBERS, CLIP, OPTIMIZER, TEACHERS, LOGGING, COMMUNICATION, WAITING)
# The optimizer reads weights, gradients and two moments, writes three of them, and its engine copies gradients in and weights out:
# 44 bytes an element; copying an array moves 8. A tensor takes some calls, however small it is.
COPIES_A_STEP = 44 / 8
SECONDS_A_TENSOR = 50e-6


@dataclass(frozen=True)
class RankFacts:
    """What one rank has seen of its steps; seconds and usages are sums over them."""

    rank: int
    host: str
    machine: str  # its boot: ranks with the same one have the same clock and cores
    pid: int
    device: str
    cores: frozenset[int]  # that it may use
    cores_online: int  # that the machine has
    steps: int
    clips: int  # a step, of this rank
    seconds: float
    parts: dict[str, Usage]
    stages: dict[str, float]
    readers: Usage
    threads: Usage
    cpu_seconds: float
    busy: dict[int, float]  # of its cores, by whomever
    calls: Sequence[Call]
    tensors: int  # that the optimizer steps
    copy_seconds: float  # of copying as many elements as this rank's optimizer steps
    forward_seconds: tuple[float, float]  # of one micro-batch, and of one twice as large; without gradients


class Evidence:
    """What all ranks have seen, under a configuration; shares are of what a rank takes with a core whenever it wants one."""

    def __init__(self, ranks: Sequence[RankFacts], config: PretrainConfig):
        self.ranks, self.config = tuple(ranks), config
        self.waiting = waiting([facts.calls for facts in ranks], [facts.machine for facts in ranks])
        self._parts = {facts.rank: _parts(facts, own) for facts, own in zip(ranks, self.waiting, strict=True)}

    @property
    def seconds(self) -> float:
        return max(facts.seconds for facts in self.ranks)

    @property
    def clips_per_second(self) -> float:
        return sum(facts.steps * facts.clips for facts in self.ranks) / self.seconds

    def parts(self, rank: int) -> dict[str, Usage]:
        """PARTS of a rank: data split into the loader's stages, calls into communication and waiting for other ranks."""
        return self._parts[rank]

    def own(self, rank: int, *parts: str) -> float:
        return sum(self._parts[rank].get(part, Usage()).own for part in parts)

    def share(self, rank: int, *parts: str) -> float:
        return self.own(rank, *parts) / max(1e-9, self.own(rank, *PARTS))

    def worst(self, *parts: str) -> tuple[float, RankFacts]:
        """The greatest share of these parts, and the rank that has it."""
        return max(((self.share(facts.rank, *parts), facts) for facts in self.ranks), key=lambda found: found[0])

    def reading_share(self, facts: RankFacts) -> float:
        """Of the time that threads spent in reading samples: what they ran, or wanted to."""
        return min(1.0, (facts.readers.ran + facts.readers.delayed) / max(1e-9, facts.stages["read"]))

    def expected_optimizer(self, facts: RankFacts) -> float:
        """Seconds that the optimizer should take of all steps, from what moving its bytes takes here."""
        return facts.steps * (COPIES_A_STEP * facts.copy_seconds + SECONDS_A_TENSOR * facts.tensors)

    def fixed(self, facts: RankFacts) -> float:
        """Seconds of all steps that no batch alters: what is done once a step, and what forward and backward take anyway."""
        one, two = facts.forward_seconds
        anyway = min(1.0, max(0.0, 2 * one - two) / one)
        optimizer = min(self.own(facts.rank, OPTIMIZER), self.expected_optimizer(facts))
        return anyway * self.own(facts.rank, *FORWARD, BACKWARD) + self.own(facts.rank, *ONCE_A_STEP) + optimizer

    def fixed_share(self, facts: RankFacts) -> float:
        return self.fixed(facts) / max(1e-9, self.own(facts.rank, *PARTS))

    @cached_property
    def machines(self) -> tuple["Machine", ...]:
        names = dict.fromkeys(facts.machine for facts in self.ranks)
        return tuple(Machine([facts for facts in self.ranks if facts.machine == name]) for name in names)

    def machine_of(self, facts: RankFacts) -> "Machine":
        return next(machine for machine in self.machines if facts in machine.ranks)


@dataclass(frozen=True)
class Machine:
    """The cores that the ranks of one machine may use, and what became of them, as shares of all their time."""

    ranks: Sequence[RankFacts]

    @property
    def cores(self) -> frozenset[int]:
        return frozenset().union(*(facts.cores for facts in self.ranks))

    @property
    def _core_seconds(self) -> float:
        return len(self.cores) * max(facts.seconds for facts in self.ranks)

    @property
    def busy(self) -> float:
        busy: dict[int, float] = {}
        for facts in self.ranks:
            busy |= facts.busy
        return sum(busy.values()) / self._core_seconds

    @property
    def ours(self) -> float:
        return sum(facts.cpu_seconds for facts in self.ranks) / self._core_seconds

    @property
    def others(self) -> float:
        return max(0.0, self.busy - self.ours)

    @property
    def wanted(self) -> float:
        """What our threads ran or wanted to run: more than 1 where they have too few cores, or too many threads."""
        return sum(facts.threads.ran + facts.threads.delayed for facts in self.ranks) / self._core_seconds

    @property
    def delayed(self) -> float:
        """The largest share of a rank's time in which its run wanted a core and had none."""
        return max(sum(usage.delayed for usage in facts.parts.values()) / facts.seconds for facts in self.ranks)


def _parts(facts: RankFacts, waiting: Waiting) -> dict[str, Usage]:
    """The parts, with calls divided: in communication, a thread's wanting a core is the run's."""
    parts = {name: usage for name, usage in facts.parts.items() if name not in (DATA, COMMUNICATION)}
    parts |= dict(_stages(facts))
    calls = facts.parts.get(COMMUNICATION, Usage())
    share = min(1.0, waiting.waited / calls.wall) if calls.wall else 0.0
    exchange = calls.scaled(1 - share)
    exchange = exchange._replace(delayed=min(exchange.wall, exchange.delayed + waiting.crowded))
    return parts | {COMMUNICATION: exchange, WAITING: calls.scaled(share)}


def _stages(facts: RankFacts) -> Iterator[tuple[str, Usage]]:
    """The time in the loader, as its own watches divide it; what they leave out belongs to finishing views."""
    data = facts.parts.get(DATA, Usage())
    shares = {part: facts.stages[stage] / data.wall if data.wall else 0.0 for part, stage in STAGES.items()}
    shares[VIEWS] += max(0.0, 1 - sum(shares.values()))
    yield from ((part, data.scaled(share)) for part, share in shares.items())
