"""The tiny video that tells whether a machine decodes."""

import numpy as np
import pytest

from xkd.pipelines.inspect.stored import codec_of, decoded_frames
from xkd.pipelines.loading.trial import DECODES, LEVELS, decode_fault, decoded, fault, tiny_video
from xkd.pipelines.media.encode import CODECS


@pytest.mark.parametrize("codec", CODECS)
def test_the_video_is_of_its_codec_and_as_grey_as_it_should_be(codec):
    video = tiny_video(codec)
    assert codec_of(video) == codec
    assert fault(np.stack([frame.to_ndarray(format="rgb24") for frame in decoded_frames(video)])) is None


@pytest.mark.parametrize("codec", DECODES["cpu"])
def test_dali_decodes_on_the_cpu_what_it_is_said_to(codec):
    assert decode_fault(codec, "cpu") is None


@pytest.mark.parametrize("codec", sorted(set(CODECS) - set(DECODES["cpu"])))
def test_what_dali_cannot_decode_is_told_in_its_words(codec):
    assert "Failed to create video decoder" in decode_fault(codec, "cpu")


@pytest.mark.gpu
@pytest.mark.parametrize("codec", DECODES["gpu"])
def test_nvdec_decodes_what_it_is_said_to(codec):
    assert decode_fault(codec, "gpu") is None


def test_a_lost_and_a_misplaced_frame_are_faults():
    frames = decoded(tiny_video("vp9"), "cpu")
    assert fault(frames[1:]).startswith("the frames have shape")
    assert fault(np.roll(frames, 1, axis=0)) == f"frame 0 has grey {frames[-1].mean():.0f}, not {LEVELS[0]}"
