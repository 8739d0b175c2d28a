import os

import numpy as np
import pytest
import torch

from xkd.pipelines.config import DataConfig
from xkd.pipelines.loading.executor import Executor
from xkd.pipelines.shards.index import ShardSet
from xkd.pipelines.shards.read import read_video
from xkd.pipelines.views.draws import fixed_views
from xkd.pipelines.views.presets import fixed_clips

CONFIG = fixed_clips(DataConfig(train="unused", clip_seconds=1.0, video={"global_view": {"size": 16}}, audio={"hop": 400}))


@pytest.fixture(scope="module")
def encoded(tiny_shards):
    return read_video(ShardSet.open(tiny_shards).sample(0))


@pytest.fixture
def executor():
    executor = Executor(CONFIG, batch_size=3, device="cpu")
    yield executor
    executor.close()


def example(encoded, first_frame):
    frames = (first_frame + np.arange(8)).astype(np.int32)
    noise = np.random.default_rng(first_frame).integers(-9000, 9000, 16000).astype(np.int16)
    return {"video": encoded, "pcm": noise, "frames": frames} | fixed_views(CONFIG, 0, 0, 0, 1.0).graph


def test_batches_come_out_in_the_order_they_were_put_in(executor, encoded):
    alone = []
    for first in range(5):
        executor.put([example(encoded, first)])
        alone.append(executor.take()["audio_global"])
    for first in range(5):
        executor.put([example(encoded, first)])
    assert len(executor) == 5
    assert all(torch.equal(executor.take()["audio_global"], expected) for expected in alone)
    assert len(executor) == 0


def test_a_batch_may_be_smaller_than_the_largest(executor, encoded):
    for size in (3, 1, 2):
        executor.put([example(encoded, 0)] * size)
        assert executor.take()["video_global"].shape == (size, 8, 16, 16, 3)


def test_tensors_keep_their_values_while_others_are_made_and_after_closing(executor, encoded):
    executor.put([example(encoded, 0)] * 3)
    kept = executor.take()
    copies = {name: tensor.clone() for name, tensor in kept.items()}
    for first in range(1, 8):
        executor.put([example(encoded, first)] * 3)
        executor.take()
    executor.close()
    assert all(torch.equal(kept[name], copies[name]) for name in kept)


def test_tensors_are_not_copied_out_of_dali_s_memory(executor, encoded, monkeypatch):
    addresses = []
    from_dlpack = torch.from_dlpack

    def record(array):
        addresses.append(array.data_ptr())
        return from_dlpack(array)

    monkeypatch.setattr(torch, "from_dlpack", record)
    executor.put([example(encoded, 0)])
    assert [tensor.data_ptr() for tensor in executor.take().values()] == addresses


def test_draining_waits_for_nothing_afterwards(executor, encoded):
    executor.put([example(encoded, 0)])
    executor.put([example(encoded, 1)])
    executor.drain()
    assert len(executor) == 0
    executor.put([example(encoded, 2)])
    assert executor.take()["video_global"].shape[0] == 1


def test_a_video_that_cannot_be_decoded_closes_the_executor(executor, encoded):
    executor.put([example(encoded, 0), example(encoded[:200], 0)])
    executor.put([example(encoded, 0)])
    with pytest.raises(RuntimeError, match="video"):
        executor.take()
    assert executor.closed
    executor.drain()


def test_an_interrupted_wait_closes_the_executor(executor, encoded, monkeypatch):
    def interrupted(array):
        raise KeyboardInterrupt

    executor.put([example(encoded, 0)])
    executor.put([example(encoded, 1)])
    monkeypatch.setattr(torch, "from_dlpack", interrupted)
    with pytest.raises(KeyboardInterrupt):
        executor.take()
    assert executor.closed
    executor.drain()


def test_closing_ends_the_threads_even_of_a_graph_that_a_traceback_refers_to(executor, encoded):
    executor.put([example(encoded, 0)])
    executor.put([example(encoded, 1)])
    with_threads, held = len(os.listdir("/proc/self/task")), executor._pipeline
    executor.close()
    assert len(os.listdir("/proc/self/task")) < with_threads
    del held
