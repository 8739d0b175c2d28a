"""Writes a split of a dataset as a shard folder."""

import os
import platform
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path

import av
from tqdm import tqdm

from xkd.pipelines.convert.journal import Header, ListedFailure, Stretch, append_to_journal
from xkd.pipelines.convert.output import (
    FAILURES,
    StoppedRun,
    find_complete,
    open_unfinished,
    read_failures,
    write_failures,
    write_manifest,
    write_source,
    writing_to,
)
from xkd.pipelines.convert.pack import Placed, listed, pack
from xkd.pipelines.convert.plan import Plan, make_plan
from xkd.pipelines.convert.sample import Failure, UnreadableSource, convert_all
from xkd.pipelines.convert.summary import Summary, count_reasons
from xkd.pipelines.shards.manifest import CONVERSION, FORMAT, Manifest, totals


def write_shards(
    source: str | Path,
    out: str | Path,
    *,
    dataset: str = "folder",
    split: str,
    profile: str = "pretrain",
    workers: int | None = None,
    max_failures: float | None = None,
    **choices,
) -> Summary:
    """Convert one split of `source` into the folder `out`, with one worker process per usable core by default.

    The files written depend on the arguments and the source only: not on `workers`, and not on how often the run was ended and
    started again, which keeps the shards that are finished. Each group of `shard_samples` items goes to a shard of its own, or to
    more than one where its tar would have more than `shard_bytes`. `choices` are those of `make_plan`. Files that fail are listed
    in failures.jsonl; more than `max_failures` of them (a number, or a share of the items such as 0.05) stop the run.

    Raises ValueError for wrong arguments, if no file is healthy, if one of `source` and `out` lies in the other, or if `out` holds
    anything else than the unfinished or the whole finished result of the same call; StoppedRun, which is one, if `out` cannot be
    written, a file cannot be read for a reason that may pass, or too much fails.
    """
    source, out = Path(source), Path(out)
    if workers is not None and workers < 1:
        raise ValueError(f"workers: {workers} is not at least 1")
    _check_apart(source, out)
    plan = make_plan(source, dataset=dataset, split=split, profile=profile, **choices)
    allowed = _allowed_failures(max_failures, len(plan.places))
    with writing_to(out):
        if complete := find_complete(out, plan.settings):
            return Summary(out, complete, already_complete=True, failures=read_failures(out))
        header = Header(plan.settings, versions())
        done = open_unfinished(out, header)
        write_source(out, plan.listing.missing, plan.listing.unlisted)
        done += _write_rest(out, plan, done, workers or len(os.sched_getaffinity(0)), allowed)
        failures = [failure for stretch in done for failure in stretch.failures]
        write_failures(out, failures)
        manifest = _manifest(plan, header, done, len(failures))
        if not manifest.num_samples and not plan.settings.part:
            reasons = "\n".join(count_reasons(failures))
            raise ValueError(
                f"{source}: not one of the {len(plan.items)} files of split {split!r} could be converted; see {out / FAILURES}, and"
                f" delete {out} to try again\n{reasons}"
            )
        write_manifest(out, manifest)
    return Summary(out, manifest, already_complete=False, failures=failures)


def versions() -> dict[str, str]:
    """What else decides the bytes of a shard set: the version of this code, and of the tools that encode, and the architecture."""
    libraries = {name: ".".join(map(str, version)) for name, version in av.library_versions.items()}
    return {
        "conversion": str(CONVERSION),
        "av": av.__version__,
        "ffmpeg": av.ffmpeg_version_info,
        **libraries,
        "machine": platform.machine(),
    }


def _check_apart(source: Path, out: Path) -> None:
    inside, folder = out.resolve(), source.resolve()
    if inside.is_relative_to(folder):
        raise ValueError(f"{out}: lies in SOURCE, {source}, and would be taken for a part of it; choose a folder outside of SOURCE")
    if folder.is_relative_to(inside):
        raise ValueError(f"{out}: holds SOURCE, {source}; choose a folder that does not")


def _allowed_failures(limit: float | None, items: int) -> float:
    if limit is None:
        return float("inf")
    if limit < 0 or (isinstance(limit, float) and limit >= 1):
        raise ValueError(f"max_failures: {limit} is neither a whole number nor a share of the items between 0 and 1")
    return limit if isinstance(limit, int) else int(limit * items)


def _write_rest(out: Path, plan: Plan, done: Sequence[Stretch], workers: int, allowed: float) -> list[Stretch]:
    """Convert and pack the items that come after what is done, noting each shard in the journal."""
    places = plan.places
    rest = [place for place in places if not done or place >= done[-1].end]
    if not rest:
        return []
    items = [plan.items[place] for place in rest]
    before = [failure for stretch in done for failure in stretch.failures]
    number = sum(stretch.shard is not None for stretch in done)
    stretches = []
    with (
        closing(convert_all(items, plan.settings.profile, plan.settings.streams, workers)) as results,
        _progress(plan, total=len(places), initial=len(places) - len(rest)) as progress,
    ):
        watched = _watch(out, zip(rest, results, strict=True), before, allowed, progress)
        sizes = Counter(place // plan.settings.shard_samples for place in rest).values()  # in order, as places are
        try:
            for stretch in pack(out, plan, (islice(watched, size) for size in sizes), number):
                append_to_journal(out, stretch)
                stretches.append(stretch)
        except UnreadableSource as error:
            raise StoppedRun(
                f"{out}: stopped, for {error}; what is finished is kept: mend what is wrong, and run the same command again"
            ) from error
    return stretches


def _progress(plan: Plan, total: int, initial: int) -> tqdm:
    return tqdm(
        total=total,
        initial=initial,
        desc=f"shards {plan.settings.split}",
        bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]",
        unit=" clips",
        mininterval=1 if sys.stderr.isatty() else 30,
    )


def _watch(
    out: Path, results: Iterable[Placed], before: Sequence[ListedFailure], allowed: float, progress: tqdm
) -> Iterator[Placed]:
    """Pass the results on, show them, and stop the run where too many have failed."""
    failures = list(before)
    for place, result in results:
        if isinstance(result, Failure):
            failures.append(listed(place, result))
            progress.set_postfix(failed=len(failures), refresh=False)
        if len(failures) > allowed:
            write_failures(out, failures)
            reasons = "\n".join(count_reasons(failures))
            raise StoppedRun(
                f"{out}: stopped, for {len(failures)} files failed, more than the {allowed} that --max-failures allows. See"
                f" {out / FAILURES}. The same command with more allowed goes on from here.\n{reasons}"
            )
        progress.update()
        yield place, result


def _manifest(plan: Plan, header: Header, stretches: Sequence[Stretch], failed: int) -> Manifest:
    shards = [stretch.shard for stretch in stretches if stretch.shard]
    sums = totals(shards, plan.settings.profile, len(plan.listing.classes))
    return Manifest(
        format=FORMAT,
        name=plan.source.name,
        settings=plan.settings,
        source=plan.source,
        completeness=plan.completeness(sums["num_samples"], failed),
        classes=plan.listing.classes,
        num_folds=plan.listing.num_folds,
        versions=header.versions,
        **sums,
    )
