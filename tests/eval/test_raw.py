import torch

from xkd.eval.raw import RAW


def test_raw_video_features_are_the_mean_colours_of_a_16_by_16_grid():
    clip = torch.rand(2, 3, 5, 48, 48)
    features = RAW["video"](clip).view(2, 3, 16, 16)
    torch.testing.assert_close(features[1, 2, 3, 15], clip[1, 2, :, 9:12, 45:48].mean())


def test_raw_video_features_ignore_the_order_of_frames():
    clip = torch.rand(2, 3, 5, 50, 50)
    torch.testing.assert_close(RAW["video"](clip), RAW["video"](clip.flip(2)))


def test_raw_audio_features_are_the_mean_level_of_each_mel_band():
    clip = torch.rand(2, 1, 80, 112)
    torch.testing.assert_close(RAW["audio"](clip)[1, 7], clip[1, 0, 7].mean())
