"""What limits a run, from what was seen of it: a table of rules, each with its symptom, its threshold and the setting to change."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from xkd.benchmarks.explain.arrivals import COMMUNICATION
from xkd.benchmarks.explain.evidence import BYTES, COMPUTING, FRAMES, LOGGING, OPTIMIZER, VIEWS, Evidence, RankFacts
from xkd.pipelines.config import DataConfig

BUSY_CORES, WANTED_CORES = 0.9, 1.2
BYTES_SHARE, COMPUTING_READERS = 0.1, 0.5
FRAMES_SHARE, VIEWS_SHARE = 0.15, 0.15
LATE_SHARE, LATE_RATIO = 0.1, 3
COMMUNICATION_SHARE = 0.2
OPTIMIZER_SHARE, OPTIMIZER_RATIO = 0.15, 4
FIXED_SHARE, FIXED_AIM, LARGEST_FACTOR = 0.4, 0.2, 64
LOGGING_SHARE = 0.05
OTHERS_SHARE, DELAYED_SHARE = 0.1, 0.05


@dataclass(frozen=True)
class Finding:
    """A cause, what it was told by, the share of the run's time that it takes, and what to set."""

    cause: str
    seen: str
    share: float
    setting: str


@dataclass(frozen=True)
class Rule:
    cause: str
    symptom: str
    setting: str
    find: Callable[[Evidence], tuple[str, float, str] | None]  # what was seen, its share, and the setting with a value


def _few_cores(evidence: Evidence):
    for machine in evidence.machines:
        online = machine.ranks[0].cores_online
        if len(machine.cores) < online and machine.busy >= BUSY_CORES and machine.wanted >= WANTED_CORES:
            seen = (
                f"{machine.ranks[0].host}: the run may use {len(machine.cores)} of {online} cores; they are busy for "
                f"{machine.busy:.0%} of the time, and its threads want {machine.wanted:.1f} times as much"
            )
            return seen, 1 - 1 / machine.wanted, f"more of the {online} cores: --cpus-per-task, --bind_cores_to_rank, taskset"
    return None


def _storage(evidence: Evidence):
    share, facts = evidence.worst(BYTES)
    computing = evidence.reading_share(facts)
    if share < BYTES_SHARE or computing > COMPUTING_READERS:
        return None
    per_sample = facts.stages["read"] / max(1, facts.steps * facts.clips)
    seen = (
        f"rank {facts.rank} waits for bytes for {share:.0%} of the time; a sample takes a reading thread "
        f"{1000 * per_sample:.0f} ms, of which it computes {computing:.0%}"
    )
    data = evidence.config.data
    ahead = f"data.read_ahead={4 * data.read_ahead or 64} (is {data.read_ahead})"
    if data.stage_dir:
        return seen, share, ahead
    staged = "data.cache_dir=null data.stage_dir=FOLDER" if data.cache_dir else "data.stage_dir=FOLDER"
    return seen, share, f"{staged} on a disk of the node; or {ahead}"


def _frames(evidence: Evidence):
    share, facts = max(((_frames_share(evidence, facts), facts) for facts in evidence.ranks), key=lambda found: found[0])
    if share < FRAMES_SHARE:
        return None
    data, machine = evidence.config.data, evidence.machine_of(facts)
    seen = f"rank {facts.rank} waits for frames for {share:.0%} of the time; its cores are busy for {machine.busy:.0%} of it"
    return seen, share, _faster_frames(data, facts, machine.busy >= BUSY_CORES)


def _frames_share(evidence: Evidence, facts: RankFacts) -> float:
    """Readers that want cores hold up bytes as decoders hold up frames."""
    starved = evidence.reading_share(facts) > COMPUTING_READERS
    return evidence.share(facts.rank, FRAMES, *([BYTES] if starved else []))


def _faster_frames(data: DataConfig, facts: RankFacts, saturated: bool) -> str:
    if facts.device == "cuda":
        return f"data.pipelines={data.pipelines + 2} data.prefetch={max(data.prefetch, data.pipelines + 2)}"
    if saturated:
        return "more cores a rank; or shards that decode faster: `xkd shards write --codec mjpeg`"
    cores = len(facts.cores)
    if data.pipeline_threads * data.pipelines < cores:
        return f"data.num_threads={cores // data.pipelines} (is {data.pipeline_threads})"
    return f"data.prefetch={2 * data.prefetch} (is {data.prefetch})"


def _slow_rank(evidence: Evidence):
    late = [waiting.late / evidence.seconds for waiting in evidence.waiting]
    *others, most = sorted(late)
    if most < LATE_SHARE or not others or most < LATE_RATIO * others[-1]:
        return None
    facts = evidence.ranks[late.index(most)]
    wall = sum(facts.parts[part].wall for part in COMPUTING if part in facts.parts)
    still = sum(facts.parts[part].still for part in COMPUTING if part in facts.parts) / max(1e-9, wall)
    seen = (
        f"rank {facts.rank} ({facts.host}, process {facts.pid}) arrives last and holds the others up for {most:.0%} of the time, "
        f"without wanting a core or data; it stands still for {still:.0%} of what it computes"
    )
    return seen, most, f"look what stops or slows that process; or leave the machine out: --exclude={facts.host}, hostfile"


def _communication(evidence: Evidence):
    share, facts = evidence.worst(COMMUNICATION)
    if share < COMMUNICATION_SHARE:
        return None
    stage, batch = evidence.config.deepspeed.zero_stage, evidence.config.train.global_batch
    setting = "deepspeed.zero_stage=1, if memory allows (is 3)" if stage == 3 else f"train.global_batch={2 * batch} (is {batch})"
    return f"rank {facts.rank} exchanges gradients and weights for {share:.0%} of the time, all ranks being there", share, setting


def _optimizer(evidence: Evidence):
    share, facts = evidence.worst(OPTIMIZER)
    ratio = evidence.own(facts.rank, OPTIMIZER) / max(1e-9, evidence.expected_optimizer(facts))
    if share < OPTIMIZER_SHARE or ratio < OPTIMIZER_RATIO:
        return None
    seen = f"rank {facts.rank}: the optimizer takes {share:.0%} of the time, {ratio:.0f} times what moving its bytes should take"
    stage, batch = evidence.config.deepspeed.zero_stage, evidence.config.train.global_batch
    shared = "deepspeed.zero_stage=1 (is 0), " if stage == 0 and len(evidence.ranks) > 1 else ""
    return seen, share, f"{shared}what deepspeed.overrides does to it; or fewer steps: train.global_batch={2 * batch} (is {batch})"


def _batch(evidence: Evidence):
    share, facts = max(((evidence.fixed_share(facts), facts) for facts in evidence.ranks), key=lambda found: found[0])
    if share < FIXED_SHARE:
        return None
    train = evidence.config.train
    micro = facts.clips // train.accumulation
    seen = f"{share:.0%} of the time of rank {facts.rank} does not depend on the batch, {micro} clips at once"
    if train.accumulation > 1:
        return seen, share, f"train.accumulation=1 (is {train.accumulation})"
    fixed, variable = evidence.fixed(facts), evidence.own(facts.rank, *COMPUTING) - evidence.fixed(facts)
    factor = 2
    while factor < LARGEST_FACTOR and fixed > FIXED_AIM * (fixed + factor * variable):
        factor *= 2
    return seen, share, f"train.global_batch={factor * train.global_batch} (is {train.global_batch})"


def _views(evidence: Evidence):
    share, facts = evidence.worst(VIEWS)
    if share < VIEWS_SHARE:
        return None
    seen = f"rank {facts.rank} finishes views (colours, erasing, masks, tensors) for {share:.0%} of the time"
    return seen, share, "OMP_NUM_THREADS=cores a rank; less of data.video.*_view.rand_augment and erase"


def _logging(evidence: Evidence):
    share, facts = evidence.worst(LOGGING)
    if share < LOGGING_SHARE:
        return None
    every = evidence.config.train.log_every
    seen = f"writing metrics takes {share:.0%} of the time of rank {facts.rank}"
    return seen, share, f"train.log_every={10 * every} (is {every})"


# In this order: what comes first may be the reason for what follows.
RULES = (
    Rule(
        "too few cores",
        f"a machine has more cores than the run may use; those are busy for {BUSY_CORES:.0%} of the time or more, and the run's "
        f"threads ran or wanted to run {WANTED_CORES} times as long as there was time, or more",
        "`--cpus-per-task`, `--bind_cores_to_rank`, taskset",
        _few_cores,
    ),
    Rule(
        "a slow rank",
        f"one rank's arriving last holds the others up for {LATE_SHARE:.0%} or more, {LATE_RATIO} times as long as any other's; "
        "wanting cores and waiting for data do not count",
        "that machine: `--exclude`, hostfile",
        _slow_rank,
    ),
    Rule(
        "slow storage",
        f"waiting for bytes takes {BYTES_SHARE:.0%} or more, and threads that read ran or wanted to run for no more than "
        f"{COMPUTING_READERS:.0%} of their time",
        "`data.stage_dir`, `data.read_ahead`",
        _storage,
    ),
    Rule(
        "slow decoding",
        f"waiting for frames (and for bytes, where threads that read want cores) takes {FRAMES_SHARE:.0%} or more",
        "`data.num_threads`, `data.prefetch`; on a GPU `data.pipelines`; where cores are busy, shards in mjpeg",
        _frames,
    ),
    Rule(
        "communication",
        f"exchanging gradients, weights and numbers takes {COMMUNICATION_SHARE:.0%} or more, from the last rank's arrival on",
        "`deepspeed.zero_stage`, `train.global_batch`",
        _communication,
    ),
    Rule(
        "a slow optimizer",
        f"it takes {OPTIMIZER_SHARE:.0%} or more, and {OPTIMIZER_RATIO} times as long as moving its bytes should, or more: "
        "44 an element, as fast as as many elements are copied, and 50 us a tensor",
        "`deepspeed.zero_stage`, `deepspeed.overrides`, `train.global_batch`",
        _optimizer,
    ),
    Rule(
        "a small batch",
        f"what does not depend on the batch takes {FIXED_SHARE:.0%} or more: what is done once a step, and that part of "
        "forward and backward by which the forward of a batch twice as large takes less than twice as long",
        "`train.global_batch`, `train.accumulation`",
        _batch,
    ),
    Rule(
        "finishing views",
        f"what follows DALI takes {VIEWS_SHARE:.0%} or more",
        "`OMP_NUM_THREADS`, `data.video.*_view.rand_augment`",
        _views,
    ),
    Rule("logging", f"writing metrics takes {LOGGING_SHARE:.0%} or more", "`train.log_every`", _logging),
)


def causes(evidence: Evidence) -> Iterator[Finding]:
    """What limits the run, first what may be the reason for the rest."""
    for rule in RULES:
        if found := rule.find(evidence):
            seen, share, setting = found
            yield Finding(rule.cause, seen, share, setting)


def busy(evidence: Evidence) -> str | None:
    """That other processes take the cores, where they do. Shares leave out waiting for cores, but not all that follows from it."""
    for machine in evidence.machines:
        if machine.others >= OTHERS_SHARE and machine.delayed >= DELAYED_SHARE:
            return (
                f"{machine.ranks[0].host}: other processes take {machine.others:.0%} of the cores, and the run has none for "
                f"{machine.delayed:.0%} of its time: look again when the machine is calm"
            )
    return None
