"""Every kind of bad sample, in shards whose checksums are right: what is healthy comes through, what is bad is counted."""

import io
import json
import os
import re
from dataclasses import replace
from functools import partial

import av
import numpy as np
import pytest
import torch

from tests.pipelines import epochs
from tests.pipelines.bad_media import KINDS, ODD, REFUSED, UNDECODABLE, UNNOTICED, stored, write_set
from tests.train.test_launch import launch
from xkd.pipelines.inspect.check import check_shards
from xkd.pipelines.loader import Batch, Loader
from xkd.pipelines.samples.quarantine import TooManyDamaged
from xkd.pipelines.shards.index import ShardSet

BATCH_SIZE = 4
HEALTHY = 12  # samples of `tiny_shards`
VIEWS = ("video_global", "video_local", "audio_global", "audio_local")

small = partial(epochs.small, max_bad_share=1.0)

pytestmark = pytest.mark.filterwarnings("ignore:.*it is (left out|replaced)")


def key_of(kind: str) -> str:
    return "bad-" + re.sub(r"\W+", "-", kind)


def planted(tiny_shards, folder, kinds) -> tuple[ShardSet, ShardSet]:
    """A set that holds the samples of `tiny_shards`, and one of each kind among them, and the same set all healthy."""
    shards = ShardSet.open(tiny_shards)
    healthy = [stored(shards, index) for index in range(HEALTHY)]
    twins = [replace(healthy[place % HEALTHY], key=key_of(kind)) for place, kind in enumerate(kinds)]
    fillers = [replace(healthy[place], key=f"more-{place}") for place in range(-(HEALTHY + len(twins)) % BATCH_SIZE)]
    bad = [kinds[kind].make(twin) for kind, twin in zip(kinds, twins, strict=True)]
    places = np.random.default_rng(0).permutation(len(healthy) + len(bad) + len(fillers))
    sets = ([*healthy, *some, *fillers] for some in (bad, twins))
    good_and_bad, good = (
        write_set(folder / name, [samples[place] for place in places], shards)
        for name, samples in zip(("bad", "good"), sets, strict=True)
    )
    return good_and_bad, good


@pytest.fixture(scope="module", params=["refused", "undecodable"])
def bad(request, tiny_shards, tmp_path_factory):
    """The kinds that a reader sees, or those that only the decoder does; a set that holds them, and the same set all healthy."""
    kinds = {"refused": REFUSED, "undecodable": UNDECODABLE}[request.param]
    return kinds, *planted(tiny_shards, tmp_path_factory.mktemp("bad"), kinds)


@pytest.fixture(scope="module")
def odd(tiny_shards, tmp_path_factory):
    kinds = ODD | UNNOTICED
    return kinds, *planted(tiny_shards, tmp_path_factory.mktemp("odd"), kinds)


def assert_same(found: Batch, expected: Batch, rows: torch.Tensor) -> None:
    for name in VIEWS:
        assert torch.equal(getattr(found, name)[rows], getattr(expected, name)[rows]), name


def reasons_of(pairs) -> dict[str, str]:
    return {key: reason for key, reason in pairs if key.startswith("bad-")}


def assert_reasons(found: dict[str, str], kinds) -> None:
    """Each kind once, with its reason, and nothing else."""
    assert found.keys() == {key_of(kind) for kind in kinds}
    for kind, facts in kinds.items():
        assert re.search(facts.reason, found[key_of(kind)]), (kind, found[key_of(kind)])


@pytest.mark.parametrize("changes", [{}, {"prefetch": 4, "num_threads": 2}])
def test_training_replaces_every_bad_sample_and_changes_no_healthy_one(bad, changes):
    kinds, shards, twin = bad
    config = small(**changes)
    with Loader(shards, config, preset="pretrain", batch_size=BATCH_SIZE) as loader:
        batches = list(loader.epoch(0))
        assert loader.substituted == len(kinds)
        assert_reasons(reasons_of((damage.key, damage.reason) for damage in loader.quarantine), kinds)
        assert len(loader.quarantine) == len(kinds)
    with Loader(twin, config, preset="pretrain", batch_size=BATCH_SIZE) as loader:
        for found, expected in zip(batches, loader.epoch(0), strict=True):
            assert found.substituted.tolist() == [key.startswith("bad-") for key in expected.keys]
            assert not any(key.startswith("bad-") for key in found.keys)
            assert found.valid.all()
            assert_same(found, expected, ~found.substituted)
            assert all(getattr(found, name).isfinite().all() for name in VIEWS)


def test_a_second_epoch_does_without_what_the_first_has_found(bad):
    kinds, shards, _ = bad
    with Loader(shards, small(), preset="pretrain", batch_size=BATCH_SIZE) as loader:
        list(loader.epoch(0))
        state = json.loads(json.dumps(loader.state_dict()))
        batches = list(loader.epoch(1))
        assert loader.substituted == len(kinds)
        assert {damage.epoch for damage in loader.quarantine} == {0}
    with Loader(shards, small(), preset="pretrain", batch_size=BATCH_SIZE) as resumed:
        resumed.load_state_dict(state)
        for found, expected in zip(resumed, batches, strict=True):
            assert found.keys == expected.keys
            assert_same(found, expected, torch.ones(BATCH_SIZE, dtype=torch.bool))


@pytest.mark.parametrize("batch_size", [1, 5, 16])
def test_evaluation_leaves_every_bad_sample_out_and_says_why(bad, batch_size):
    kinds, shards, twin = bad
    with Loader(twin, small(), preset="eval", batch_size=batch_size) as loader:
        expected = {key: batch.video_global[row] for batch in loader.epoch(0) for row, key in enumerate(batch.keys)}
    counted = {}
    with Loader(shards, small(), preset="eval", batch_size=batch_size) as loader:
        for batch in loader.epoch(0):
            rows = batch.counted()
            counted |= dict(zip(rows.keys, rows.video_global, strict=True))
        assert_reasons(dict(loader.dropped), kinds)
        assert len(loader.dropped) == len(kinds)
    assert counted.keys() == expected.keys() - {key_of(kind) for kind in kinds}
    for key, video in counted.items():
        assert torch.equal(video, expected[key]), key


def test_more_bad_samples_than_allowed_end_the_epoch_with_their_names(bad):
    _, shards, _ = bad
    with (
        Loader(shards, small(max_bad_share=0.05), preset="pretrain", batch_size=BATCH_SIZE) as loader,
        pytest.raises(TooManyDamaged, match=r"max_bad_share 0\.05 allows .*bad-"),
    ):
        list(loader.epoch(0))


@pytest.mark.parametrize("kind", REFUSED | UNDECODABLE)
def test_a_batch_of_nothing_but_a_bad_sample_is_filled_by_a_healthy_one(tiny_shards, tmp_path, kind):
    """The smallest case for each kind: a batch of one."""
    shards = ShardSet.open(tiny_shards)
    samples = [stored(shards, index) for index in range(3)]
    samples[1] = KINDS[kind].make(samples[1])
    with Loader(write_set(tmp_path / "set", samples, shards), small(), preset="pretrain", batch_size=1) as loader:
        batches = list(loader.epoch(0))
        assert loader.substituted == 1
        assert [damage.sample_id for damage in loader.quarantine] == [1]
    assert len(batches) == 3
    assert {int(batch.sample_ids) for batch in batches} == {0, 2}


def test_what_is_odd_but_decodes_is_delivered_as_it_is(odd):
    """The mean colour of each frame is that of another decoder, up to the differences between them."""
    _, shards, _ = odd
    config = small(video={"fps": 8, "global_view": {"size": 32}, "local_view": {"count": 0}})
    with Loader(shards, config, preset="eval", batch_size=BATCH_SIZE) as loader:
        batches = list(loader.epoch(0))
        assert loader.dropped == []
    seen = {key: batch.video_global[row] for batch in batches for row, key in enumerate(batch.keys) if batch.valid[row]}
    assert len(seen) == len(shards)
    mean, std = (np.array(getattr(config.video, name))[:, None] for name in ("mean", "std"))
    for index in range(len(shards)):
        sample = shards.sample(index)
        found = 255 * (seen[sample.key].mean((2, 3)).numpy() * std + mean)
        expected = centre_colours(stored(shards, index).video)
        first = (sample.video.frames - config.num_frames) // 2
        np.testing.assert_allclose(found, expected[:, first : first + config.num_frames], atol=6, err_msg=sample.key)


def centre_colours(data: bytes) -> np.ndarray:
    """The mean colour [3, T] of the centred square of each frame."""
    colours = []
    with av.open(io.BytesIO(data)) as container:
        for frame in container.decode(video=0):
            picture = frame.to_ndarray(format="rgb24")
            height, width = picture.shape[:2]
            side = min(height, width)
            top, left = (height - side) // 2, (width - side) // 2
            colours.append(picture[top : top + side, left : left + side].mean((0, 1)))
    return np.stack(colours, axis=1)


def test_training_takes_what_is_odd_but_decodes(odd):
    _, shards, _ = odd
    with Loader(shards, small(), preset="pretrain", batch_size=BATCH_SIZE) as loader:
        keys = [key for batch in loader.epoch(0) for key in batch.keys]
        assert loader.substituted == 0
    assert sorted(keys) == sorted(shards.sample(index).key for index in range(len(shards)))


@pytest.mark.parametrize("stream", ["frames", "audio_samples"])
def test_a_sample_that_says_to_have_nothing_of_a_stream_is_left_out_as_too_short(tiny_shards, tmp_path, stream):
    shards = ShardSet.open(tiny_shards)
    samples = [stored(shards, index) for index in range(4)]
    samples[2] = replace(samples[2], **{stream: 0})
    with Loader(write_set(tmp_path / "set", samples, shards), small(), preset="pretrain", batch_size=1) as loader:
        assert loader.too_short == 1
        assert {int(batch.sample_ids) for batch in loader.epoch(0)} == {0, 1, 3}


def without_video(sample):
    return replace(sample, video=None, frames=0, height=0, width=0)


def without_sound(sample):
    return replace(sample, audio=None, audio_samples=0)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_leaves_a_sample_without_a_stream_out_and_says_so(tiny_shards, tmp_path, world_size):
    shards = ShardSet.open(tiny_shards)
    samples = [stored(shards, index) for index in range(7)]
    lacks = {0: "video", 3: "sound", 4: "sound"}
    for index, stream in lacks.items():
        samples[index] = {"video": without_video, "sound": without_sound}[stream](samples[index])
    some = write_set(tmp_path / "set", samples, shards)
    counted, dropped = [], []
    for rank in range(world_size):
        with Loader(some, small(), preset="eval", batch_size=2, rank=rank, world_size=world_size) as loader:
            for _ in range(2):  # epochs
                keys = [key for batch in loader for key in batch.counted().keys]
            counted += keys
            dropped += loader.dropped
    assert sorted(counted) == sorted(samples[index].key for index in range(7) if index not in lacks)
    assert sorted(dropped) == sorted((samples[index].key, f"it has no {stream}") for index, stream in lacks.items())


def test_evaluation_of_no_sample_with_both_streams_is_refused(tiny_shards, tmp_path):
    shards = ShardSet.open(tiny_shards)
    samples = [change(stored(shards, index)) for index, change in enumerate((without_video, without_sound))]
    some = write_set(tmp_path / "set", samples, shards)
    with pytest.raises(ValueError, match=rf"{some.folder}: none of 2 samples has video and sound"):
        Loader(some, small(), preset="eval", batch_size=2)


@pytest.mark.parametrize("place", ["first", "middle", "last"])
@pytest.mark.parametrize("member", ["video", "audio"])
def test_one_flipped_byte_of_a_healthy_sample_is_noticed(tiny_shards, tmp_path, member, place):
    """The checksums are what finds damage that decodes, so they must cover every byte that is used."""
    shards = ShardSet.open(tiny_shards)
    copied = write_set(tmp_path / "set", [stored(shards, index) for index in range(3)], shards)
    sample = copied.sample(1)
    entry = getattr(sample, member)
    with sample.shard.open("r+b") as tar:
        tar.seek(entry.offset + {"first": 0, "middle": entry.size // 2, "last": entry.size - 1}[place])
        byte = tar.read(1)[0] ^ 1
        tar.seek(-1, os.SEEK_CUR)
        tar.write(bytes([byte]))
    with Loader(copied, small(clip_seconds=2.5), preset="eval", batch_size=2) as loader:
        keys = [key for batch in loader.epoch(0) for key in batch.counted().keys]
        assert loader.dropped == [(sample.key, f"its {member} (at byte {entry.offset}) is damaged")]
    assert keys == [copied.sample(0).key, copied.sample(2).key]


def test_checking_with_decoding_names_what_a_reader_refuses(bad):
    kinds, shards, _ = bad
    problems = "\n".join(check_shards(shards.folder, decode=True, workers=1))
    missing = [kind for kind in kinds if key_of(kind) not in problems]
    assert missing == []


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_run_over_every_kind_ends_done_and_lists_them(tiny_shards, tmp_path):
    shards, _ = planted(tiny_shards, tmp_path / "set", KINDS)
    result = launch(shards.folder, tmp_path / "run", "data.max_bad_share=1")
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "run" / "state.json").read_text())["status"] == "done"
    lines = [json.loads(line) for line in (tmp_path / "run" / "quarantine.jsonl").read_text().splitlines()]
    assert_reasons({line["key"]: line["reason"] for line in lines}, REFUSED | UNDECODABLE)
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert max(line["substituted"] for line in metrics) == len(REFUSED | UNDECODABLE)
    assert all(np.isfinite(line["loss"]) for line in metrics)


def test_making_av1_leaves_the_thread_its_priority(tiny_shards):
    before = os.sched_getscheduler(0), os.sched_getparam(0).sched_priority
    KINDS["av1"].make(stored(ShardSet.open(tiny_shards), 0))
    assert (os.sched_getscheduler(0), os.sched_getparam(0).sched_priority) == before
