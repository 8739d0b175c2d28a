"""The loader on a GPU: the same promises as on the CPU, and the order of its stream.

None of these tests has run yet; docs/gpu.md says so.
"""

import json
from functools import partial
from itertools import chain, islice

import pytest
import torch

from tests.pipelines import epochs
from tests.pipelines.bad_media import UNDECODABLE, stored, write_set
from xkd.pipelines.loader import Batch, Loader
from xkd.pipelines.loading.stages import profile

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore:.*it is (left out|replaced)")]

VIEWS = ("video_global", "video_local", "audio_global", "audio_local")
LEVEL = 1 / 255 / 0.229  # of a colour, in a normalised view


SIZES = {"fps": 4, "global_view": {"size": 64}, "local_view": {"count": 2, "frames": 3, "size": 48}}

small = partial(epochs.small, max_bad_share=1.0, video=SIZES)

FINETUNE = {
    "video": {"fps": 4, "global_view": {"size": 64, "rand_augment": {"ops": 3}, "erase": 0.5, "blur": 0.3}},
    "audio": {"hop": 400, "global_view": {"time_warp": 10, "freq_masks": 2, "time_masks": 2, "resize_crop": True}},
}


def loader(shards, *, preset="pretrain", batch_size=4, device="gpu", **changes) -> Loader:
    return Loader(shards, small(**changes), preset=preset, batch_size=batch_size, device=device)


def epoch(shards, **arguments) -> list[Batch]:
    with loader(shards, **arguments) as one:
        return list(one.epoch(0))


def by_sample(batches) -> dict[int, list[torch.Tensor]]:
    """The views of each sample."""
    rows = {}
    for batch in batches:
        views = [getattr(batch, name) for name in VIEWS if getattr(batch, name) is not None]
        rows |= {sample: [view[row].cpu() for view in views] for row, sample in enumerate(batch.sample_ids.tolist())}
    return rows


def assert_same(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for sample in expected:
        assert all(torch.equal(*pair) for pair in zip(found[sample], expected[sample], strict=True)), sample


@pytest.fixture(scope="module")
def reference(shards):
    return by_sample(epoch(shards))


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_size": 1},
        {"batch_size": 12},
        {"num_threads": 3},
        {"prefetch": 5},
        {"pipelines": 2},
        {"pipelines": 4, "prefetch": 4, "num_threads": 2},
    ],
)
def test_batch_size_threads_prefetching_and_pipelines_change_no_example(shards, reference, changes):
    assert_same(by_sample(epoch(shards, **changes)), reference)


@pytest.mark.parametrize("changes", [{"batch_size": 12}, {"pipelines": 2}])
def test_they_change_no_finetuning_example(shards, changes):
    assert_same(
        by_sample(epoch(shards, preset="finetune", **FINETUNE, **changes)), by_sample(epoch(shards, preset="finetune", **FINETUNE))
    )


def test_views_are_on_the_device_and_the_rest_is_not(shards):
    batch = epoch(shards)[0]
    assert all(getattr(batch, name).device.type == "cuda" for name in VIEWS)
    assert all(getattr(batch, name).device.type == "cpu" for name in ("labels", "sample_ids", "substituted", "valid"))


@pytest.mark.parametrize("preset", ["pretrain", "finetune", "eval"])
def test_views_are_those_of_the_cpu_but_for_the_decoder_and_rounding(shards, preset):
    changes = FINETUNE if preset == "finetune" else {}
    on_gpu, on_cpu = (by_sample(epoch(shards, preset=preset, device=device, **changes)) for device in ("gpu", "cpu"))
    for sample, views in on_cpu.items():
        for found, expected in zip(on_gpu[sample], views, strict=True):
            is_picture = expected.ndim >= 4 and expected.shape[-4] == 3
            difference = (found - expected).abs()
            assert difference.mean() < (4 * LEVEL if is_picture else 1e-3), sample


@pytest.mark.parametrize("streams", [("video", "audio"), ("video",), ("audio",)], ids=" and ".join)
@pytest.mark.parametrize("preset", ["svm", "eval"])
def test_several_clips_of_any_streams_are_those_of_the_cpu(shards, preset, streams):
    clips = small(clip_seconds=1.0, train_clips=3, eval_clips=3, eval_crops=3)
    batches = []
    for device in ("gpu", "cpu"):
        with Loader(shards, clips, preset=preset, batch_size=5, device=device, streams=streams) as one:
            batches.append(list(one.epoch(0)))
    for found, expected in zip(*batches, strict=True):
        assert found.keys == expected.keys
        for stream, bound in (("video", 4 * LEVEL), ("audio", 1e-3)):
            views = [getattr(batch, f"{stream}_global") for batch in (found, expected)]
            if stream in streams:
                assert len(views[0]) == 5 * (9 if (preset, stream) == ("eval", "video") else 3)
                assert (views[0].cpu() - views[1]).abs().flatten(1).mean(1).max() < bound
            else:
                assert views == [None, None]


@pytest.mark.parametrize("taken", [0, 1, 2, 4])
def test_a_state_goes_on_with_the_same_tensors(shards, taken):
    def batches(one):
        return chain.from_iterable(iter(one) for _ in range(2))

    with loader(shards, pipelines=2) as one:
        whole = list(batches(one))
    with loader(shards, pipelines=2) as one:
        list(islice(batches(one), taken))
        state = json.loads(json.dumps(one.state_dict()))
    with loader(shards, pipelines=2) as one:
        one.load_state_dict(state)
        for found, expected in zip(islice(batches(one), 6 - taken), whole[taken:], strict=True):
            assert found.keys == expected.keys
            assert all(torch.equal(getattr(found, name), getattr(expected, name)) for name in VIEWS)


@pytest.mark.parametrize("own_stream", [False, True])
def test_work_that_waits_in_the_stream_reads_the_batch_it_was_given(shards, reference, own_stream):
    """The consumer drops each batch at once, while a copy of it still waits behind a long kernel."""
    stream = torch.cuda.Stream() if own_stream else torch.cuda.current_stream()
    copies = []
    with torch.cuda.stream(stream), loader(shards, batch_size=1, prefetch=4, pipelines=2) as one:
        for batch in one.epoch(0):
            torch.cuda._sleep(10**8)
            copies.append((int(batch.sample_ids[0]), [getattr(batch, name)[0].clone() for name in VIEWS]))
            del batch
    torch.cuda.synchronize()
    assert_same({sample: [view.cpu() for view in views] for sample, views in copies}, reference)


def test_batches_stay_as_they_are_after_the_loader_is_closed(shards, reference):
    assert_same(by_sample(epoch(shards)), reference)


def test_what_cannot_be_decoded_is_replaced(shards, tmp_path):
    samples = [stored(shards, index) for index in range(len(shards))]
    for index, kind in ((2, "random packets"), (7, "mpeg4")):
        samples[index] = UNDECODABLE[kind].make(samples[index])
    with loader(write_set(tmp_path / "set", samples, shards), pipelines=2, prefetch=3) as one:
        batches = list(one.epoch(0))
        assert {damage.sample_id for damage in one.quarantine} == {2, 7}
        assert one.substituted == 2
    assert all(batch.valid.all() for batch in batches)


def test_device_memory_stays_flat(shards):
    with loader(shards, pipelines=2) as one:
        used = []
        for number in range(12):
            for _ in one.epoch(number):
                pass
            torch.cuda.synchronize()
            free, total = torch.cuda.mem_get_info()
            used.append(total - free)
    assert used[-1] <= 1.05 * used[3]


def test_the_stages_are_timed(shards):
    costs = profile(shards, small(), batch_size=4, batches=2, rounds=1, device="gpu")
    assert costs["decode"].wall_seconds > 0
