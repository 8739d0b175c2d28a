"""`xkd bench step --explain`: measures steps of a run as it is, prints where their time goes, and what to set."""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from xkd.benchmarks.explain.arrivals import COMMUNICATION
from xkd.benchmarks.explain.evidence import BYTES, FRAMES, PARTS, VIEWS, WAITING, Evidence
from xkd.benchmarks.explain.rules import Finding, busy, causes
from xkd.benchmarks.results import markdown
from xkd.config import load
from xkd.train.config import PretrainConfig

LEAST_SHARE = 0.0005  # of what is shown
PROFILED_CLIPS = 8
NOTHING = "no cause found"


def show(evidence: Evidence, findings: Sequence[Finding], disturbed: str | None) -> str:
    """The report: a table of the parts, then what limits the run."""
    ranks = evidence.ranks
    steps, clips = ranks[0].steps, sum(facts.clips for facts in ranks)
    lines = [f"{steps} steps of {clips} clips on {len(ranks)} ranks, {evidence.clips_per_second:.1f} clips/s", ""]
    lines += [markdown(list(rows(evidence)), columns=("part", "ms a step", "share", "ran", "wanted a core", "stood still", "rank"))]
    lines += [f"DISTURBED: {disturbed}"] if disturbed else []
    if not findings:
        most, share = max(((part, evidence.worst(part)[0]) for part in PARTS), key=lambda found: found[1])
        return "\n".join([*lines, f"{NOTHING}; most of the time, {share:.0%}, goes to: {most}", ""])
    for finding in findings:
        lines += [f"CAUSE: {finding.cause}: {finding.seen}", f"  set: {finding.setting}"]
    return "\n".join([*lines, ""])


def rows(evidence: Evidence) -> Iterator[dict[str, str]]:
    """A row for each part, of the rank that spends most on it. Its share is without the time in which it wanted a core."""
    for part in PARTS:
        share, facts = evidence.worst(part)
        if share < LEAST_SHARE:
            continue
        usage = evidence.parts(facts.rank)[part].scaled(1 / facts.steps)
        of_wall = {"ran": usage.ran, "wanted a core": usage.delayed, "stood still": usage.still}
        yield {
            "part": part,
            "ms a step": f"{1000 * usage.wall:.1f}",
            "share": f"{share:.1%}",
            **{name: f"{seconds / max(1e-9, usage.wall):.0%}" for name, seconds in of_wall.items()},
            "rank": str(facts.rank),
        }


def facts(evidence: Evidence, findings: Sequence[Finding], disturbed: str | None) -> dict:
    """What json can hold of a report."""
    groups = {"data": (BYTES, FRAMES, VIEWS), "ranks": (COMMUNICATION, WAITING)}
    shares = {part: evidence.worst(part)[0] for part in PARTS}
    return {
        "causes": [asdict(finding) for finding in findings],
        "disturbed": disturbed,
        "clips_per_second": evidence.clips_per_second,
        "steps": evidence.ranks[0].steps,
        "shares": shares | {name: sum(shares[part] for part in parts) for name, parts in groups.items()},
        "others": max(machine.others for machine in evidence.machines),
        "wanted": max(machine.wanted for machine in evidence.machines),
        "fixed": max(evidence.fixed_share(one) for one in evidence.ranks),
        "late": [waiting.late for waiting in evidence.waiting],
    }


def loading(config: PretrainConfig) -> str:
    """A table of what each stage of loading takes of a clip, timed alone."""
    from xkd.pipelines.loading.stages import profile
    from xkd.pipelines.store.opening import open_shards
    from xkd.train.distributed import claim_device, find_place

    costs = profile(
        open_shards(config.data.train, config.data),
        config.data,
        batch_size=min(PROFILED_CLIPS, config.train.global_batch),
        batches=1,
        rounds=1,
        device=claim_device(find_place()),
    )
    return markdown(
        [
            {"loading, alone": stage, "CPU ms a clip": f"{1000 * cost.cpu_seconds:.2f}", "ms": f"{1000 * cost.wall_seconds:.2f}"}
            for stage, cost in costs.items()
        ],
        columns=("loading, alone", "CPU ms a clip", "ms"),
    )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="xkd bench step --explain",
        description="Take steps of a run, loader and all, say where their time goes, what limits them and what to set. "
        "Under torchrun or deepspeed --module it looks at all ranks.",
    )
    parser.add_argument("--config", default="pretrain/demo.yaml", help="configuration to train (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=20, help="to look at, after as many at most to settle (default 20)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write what was found to this file")
    parser.add_argument("--loading", action="store_true", help="then time the stages of loading, each alone")
    parser.add_argument("--local_rank", help=argparse.SUPPRESS)  # the deepspeed launcher passes it
    parser.add_argument("overrides", metavar="section.key=value", nargs="*", help="replaces a field of the configuration")
    options = parser.parse_args(arguments)
    config = load(options.config, options.overrides, {"pretrain": PretrainConfig})
    from xkd.benchmarks.explain.run import observe

    ranks = observe(config, options.seconds)
    if ranks is None:
        return 0
    evidence = Evidence(ranks, config)
    findings, disturbed = list(causes(evidence)), busy(evidence)
    print(show(evidence, findings, disturbed), end="")
    if options.loading:
        print(loading(config), end="")
    if options.json:
        options.json.write_text(json.dumps(facts(evidence, findings, disturbed), indent=1) + "\n")
    return 0
