import re
from dataclasses import replace
from pathlib import Path

import pytest

from xkd.benchmarks.explain.arrivals import COMMUNICATION, Call
from xkd.benchmarks.explain.clock import Usage
from xkd.benchmarks.explain.command import NOTHING, facts, show
from xkd.benchmarks.explain.evidence import DATA, LOGGING, OPTIMIZER, PARTS, Evidence, RankFacts
from xkd.benchmarks.explain.rules import RULES, busy, causes
from xkd.config import load
from xkd.train.config import PretrainConfig

ROOT = Path(__file__).parents[3]


def config(*overrides):
    return load("pretrain/demo.yaml", overrides, {"pretrain": PretrainConfig})


def usage(seconds, delayed=0.0):
    return Usage(seconds + delayed, seconds, delayed)


# A rank whose 10 steps of 16 clips take 10 s on two cores of two, all of them in computing.
HEALTHY = RankFacts(
    rank=0,
    host="node1",
    machine="boot",
    pid=7,
    device="cpu",
    cores=frozenset({0, 1}),
    cores_online=2,
    steps=10,
    clips=16,
    seconds=10.0,
    parts={
        DATA: usage(0.3),
        "forward: video student": usage(2.0),
        "forward: teachers": usage(1.0),
        "forward": usage(0.5),
        "backward": usage(5.0),
        "average numbers": usage(0.05),
        "clip": usage(0.1),
        OPTIMIZER: usage(0.5),
        "teachers and centres": usage(0.2),
        LOGGING: usage(0.05),
        COMMUNICATION: usage(0.3),
    },
    stages={"read": 1.0, "feed": 0.1, "decode": 0.1, "finish": 0.1, "wait": 0.3},
    readers=Usage(0, 0.5, 0.1),
    threads=Usage(0, 14.0, 1.0),
    cpu_seconds=14.0,
    busy={0: 7.5, 1: 7.0},
    calls=[Call("all_reduce", begin, begin + 0.1) for begin in (1, 3, 5, 7)],
    tensors=100,
    copy_seconds=0.005,
    forward_seconds=(0.1, 0.19),
)


def changed(facts=HEALTHY, parts=None, **fields):
    return replace(facts, parts=facts.parts | (parts or {}), **fields)


def two(facts=HEALTHY, begin=(1, 3, 5, 7), excused=0.0):
    """The rank and another of its machine, which comes to the calls at these times; all end when both are there."""
    pairs = list(zip(facts.calls, begin, strict=True))
    ends = [max(call.begin, own) + 0.1 for call, own in pairs]
    first = [call._replace(end=end) for (call, _), end in zip(pairs, ends, strict=True)]
    second = [call._replace(begin=own, end=end, excused=excused) for (call, own), end in zip(pairs, ends, strict=True)]
    return [changed(facts, calls=first), changed(facts, rank=1, calls=second)]


SLOW_READS = {"parts": {DATA: Usage(9.0, 0.3, 0.0)}, "stages": HEALTHY.stages | {"feed": 8.8, "read": 80.0, "wait": 9.0}}
SLOW_FRAMES = {"parts": {DATA: Usage(4.0, 0.3, 0.0)}, "stages": HEALTHY.stages | {"decode": 3.8, "wait": 4.0}}
SICK = {
    "too few cores": ([changed(cores=frozenset({0}), busy={0: 9.9}, threads=Usage(0, 9.5, 6.0), cpu_seconds=9.5)], ()),
    "slow storage": ([changed(**SLOW_READS)], ()),
    "slow storage, already staged": ([changed(**SLOW_READS)], ("data.stage_dir=stage",)),
    "slow storage, with a cache": ([changed(**SLOW_READS)], ("data.cache_dir=cache", "data.read_ahead=0")),
    "slow decoding": ([changed(**SLOW_FRAMES)], ("data.num_threads=1",)),
    "slow decoding, few batches ahead": ([changed(**SLOW_FRAMES)], ("data.num_threads=2",)),
    "slow decoding, cores in use": ([changed(**SLOW_FRAMES, busy={0: 9.9, 1: 9.9}, cpu_seconds=19)], ()),
    "slow decoding, on a gpu": ([changed(**SLOW_FRAMES, device="cuda")], ()),
    "slow decoding, readers want cores": ([changed(**SLOW_READS | {"readers": Usage(0, 30.0, 40.0)})], ()),
    "a slow rank": (two(begin=(1.5, 3.6, 5.5, 7.6)), ()),
    "communication": ([changed(parts={COMMUNICATION: usage(4.0)})], ()),
    "communication, stage 3": ([changed(parts={COMMUNICATION: usage(4.0)})], ("deepspeed.zero_stage=3",)),
    "a slow optimizer": ([changed(parts={OPTIMIZER: usage(5.0)})], ()),
    "a slow optimizer, on every rank": (two(changed(parts={OPTIMIZER: usage(5.0)})), ("deepspeed.zero_stage=0",)),
    "a small batch": ([changed(forward_seconds=(0.1, 0.14))], ()),
    "a small batch, in pieces": (
        [changed(forward_seconds=(0.1, 0.14))],
        ("train.accumulation=4", "loss.align_group=2"),
    ),
    "finishing views": ([changed(parts={DATA: usage(4.0)}, stages=HEALTHY.stages | {"finish": 3.8, "wait": 4.0})], ()),
    "logging": ([changed(parts={LOGGING: usage(2.0)})], ()),
}


@pytest.mark.parametrize("ranks", [[HEALTHY], two(), two(begin=(1.4, 2.5, 5.4, 6.5))])
def test_nothing_is_found_of_healthy_ranks_nor_of_ranks_that_are_late_in_turn(ranks):
    evidence = Evidence(ranks, config())
    assert list(causes(evidence)) == []
    assert busy(evidence) is None
    assert NOTHING in show(evidence, [], None)


@pytest.mark.parametrize("name", SICK)
def test_each_symptom_has_its_cause_and_the_setting_that_is_named_can_be_set(name):
    ranks, overrides = SICK[name]
    evidence = Evidence(ranks, config(*overrides))
    found = list(causes(evidence))
    assert found[0].cause == name.partition(",")[0]
    assert 0 < found[0].share <= 1
    settings = re.findall(r"[a-z_]+\.[a-z_.]+=[A-Za-z0-9]+", found[0].setting)
    config(*overrides, *settings)
    assert not set(settings) & set(overrides)
    text = show(evidence, found, None)
    assert f"CAUSE: {found[0].cause}" in text
    assert found[0].setting in text


def test_every_rule_has_a_symptom_here():
    assert {name.partition(",")[0] for name in SICK} == {rule.cause for rule in RULES}


def test_waiting_for_cores_that_others_take_is_told_and_taken_for_no_cause():
    crowded = changed(
        parts={part: usage(seconds.ran, delayed=seconds.ran) for part, seconds in HEALTHY.parts.items()},
        stages={stage: 2 * seconds for stage, seconds in HEALTHY.stages.items()},
        seconds=20.0,
        busy={0: 19.9, 1: 19.9},
        threads=Usage(0, 14, 16),
    )
    evidence = Evidence([crowded], config())
    assert list(causes(evidence)) == []
    assert "other processes take 64% of the cores" in busy(evidence)
    calm = Evidence([HEALTHY], config())
    assert [evidence.share(0, part) for part in PARTS] == pytest.approx([calm.share(0, part) for part in PARTS])


def test_a_rank_that_is_late_because_it_wanted_a_core_is_not_slow():
    assert list(causes(Evidence(two(begin=(1.5, 3.6, 5.5, 7.6), excused=0.6), config()))) == []


def test_parts_are_shares_of_the_whole_and_json_holds_them():
    evidence = Evidence(two(begin=(1.01, 3.01, 5.01, 7.01)), config())
    for rank in range(2):
        assert sum(evidence.share(rank, part) for part in PARTS) == pytest.approx(1)
    assert evidence.parts(0)["waiting for other ranks"].wall == pytest.approx(0.04)
    assert facts(evidence, [], None)["clips_per_second"] == pytest.approx(32)


def test_the_docs_list_the_rules_as_they_are():
    docs = (ROOT / "docs/benchmarks.md").read_text()
    for rule in RULES:
        assert f"| {rule.cause} | {rule.symptom} | {rule.setting} |" in docs
