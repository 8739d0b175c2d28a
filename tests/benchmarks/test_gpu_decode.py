import numpy as np
import pytest

from xkd.benchmarks import gpu_media
from xkd.benchmarks.decode import Work
from xkd.benchmarks.gpu_decode import compare, decoded, misplaced_frames


@pytest.fixture(scope="module")
def frames():
    return np.stack([gpu_media.frames(clip, 32, 48) for clip in range(2)])


def test_frames_in_their_places_are_not_misplaced(frames):
    noisy = np.clip(frames + np.random.default_rng(0).normal(0, 4, frames.shape), 0, 255).astype(np.uint8)
    assert misplaced_frames(noisy, frames) == 0


def test_every_frame_that_comes_too_early_or_late_is_misplaced(frames):
    early, late = frames[:, 1:], frames[:, :-1]
    clips, length = early.shape[:2]
    assert misplaced_frames(early, late) == clips * (length - 1)  # the last one's place lies outside
    assert misplaced_frames(late, early) == clips * (length - 1)


def test_one_doubled_frame_is_one_misplaced(frames):
    doubled = frames.copy()
    doubled[0, 10] = doubled[0, 9]
    assert misplaced_frames(doubled, frames) == 1


def test_equal_frames_agree_and_a_tint_on_the_same_codec_does_not(frames):
    assert compare("vp9", 128, "vp9", frames, frames).wrong == []
    tinted = np.clip(frames.astype(np.int16) + 6, 0, 255).astype(np.uint8)
    assert any("differs from the CPU" in wrong for wrong in compare("vp9", 128, "vp9", tinted, frames).wrong)
    assert compare("h264", 128, "jpeg", tinted, frames).wrong == []


def test_moved_frames_are_reported_with_their_number(frames):
    findings = compare("h264", 128, "jpeg", frames[:, 1:], frames[:, :-1])
    assert findings.wrong == ["h264 128: 60 frames are nearer to a neighbour of the frame they should be"]


def test_the_cpu_decodes_videos_and_pictures_to_the_same_frames(media):
    pictures = decoded(Work(media, "jpeg", 128, clips=2, batch=2), "cpu")
    assert pictures.shape == (2, gpu_media.NUM_FRAMES, 128, 176, 3)
    for codec in ("vp9", "mjpeg"):
        assert compare(codec, 128, "jpeg", decoded(Work(media, codec, 128, clips=2, batch=2), "cpu"), pictures).wrong == []
