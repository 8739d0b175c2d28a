"""Shared fixtures: one thread everywhere, a small set of real media with its shards, and a very small net for them."""

import os
import signal

os.environ["OMP_NUM_THREADS"] = "1"  # read by torch and numpy when a test module imports them, and by child processes

import hypothesis
import pytest

# A shell ignores Ctrl-C for what it starts in the background, nohup a closed terminal, and children would inherit that; some tests
# send theirs both.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

hypothesis.settings.register_profile("patient", deadline=None)  # a busy machine must not fail a test
hypothesis.settings.load_profile("patient")


def pytest_runtest_setup(item):
    """Tests marked `gpu` are skipped where there is no GPU; with XKD_REQUIRE_GPU=1 they fail there."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            stop = pytest.fail if os.environ.get("XKD_REQUIRE_GPU") == "1" else pytest.skip
            stop("no CUDA device")


@pytest.fixture(autouse=True)
def own_environment():
    """What a test leaves in the environment, such as a process group's port, is not for the next one."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def media_folder(tmp_path_factory):
    """Class folders of 12 mp4 files (H.264, AAC, 2.5 s, 16:9 and square, a bar over red or blue, a low or a high tone)."""
    from tests.media import moving_bar, tone, write_clip  # needs PyAV, which hosts of GPUs may lack

    root = tmp_path_factory.mktemp("media")
    for label, (name, hue, hertz) in enumerate([("low", (200, 30, 30), 300), ("high", (30, 30, 200), 2000)]):
        for index in range(6):
            write_clip(
                root / name / f"{name} {index}.mp4",
                picture=moving_bar(hue, speed=0.2 + 0.1 * index),
                sound=tone(hertz * (1 + 0.05 * index)),
                seconds=2.5,
                fps=12,
                height=144,
                width=256 if (index + label) % 2 else 144,
                sample_rate=44100,
            )
    return root


@pytest.fixture(scope="session")
def tiny_shards(media_folder, tmp_path_factory):
    """The `media_folder` converted: 12 samples of 20 frames at 8 fps in two shards (of 8 and 4 samples), 2 classes."""
    from xkd.pipelines.convert.write import write_shards

    out = tmp_path_factory.mktemp("tiny_shards")
    write_shards(media_folder, out, split="train", workers=1, shard_samples=8)
    return out


@pytest.fixture(scope="session")
def pretrain_settings(tiny_shards):
    from tests import runs

    return runs.pretrain_settings(tiny_shards)


@pytest.fixture(scope="session")
def pretrain_yaml(pretrain_settings, tmp_path_factory):
    from tests import runs

    return runs.write_settings(tmp_path_factory.mktemp("pretrain") / "pretrain.yaml", pretrain_settings)


@pytest.fixture(scope="session")
def architecture(pretrain_yaml):
    from xkd.eval.checkpoint import read_architecture

    return read_architecture(pretrain_yaml)
