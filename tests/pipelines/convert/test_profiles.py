import pytest

from xkd.pipelines.convert.profiles import PROFILES, make_profile
from xkd.pipelines.media.encode import AUDIO_CODECS, CODECS


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("audio", AUDIO_CODECS)
def test_a_profile_takes_any_codec_and_keeps_the_rest(name, codec, audio):
    profile, usual = make_profile(name, codec=codec, audio=audio), PROFILES[name]
    assert (profile.video.codec, profile.video.quality, profile.audio.codec) == (codec, CODECS[codec].quality, audio)
    assert (profile.name, profile.video.short_side, profile.video.gop) == (name, usual.video.short_side, usual.video.gop)


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_asked_for_by_name_alone_is_the_one_of_the_table(name):
    assert make_profile(name) == PROFILES[name]


@pytest.mark.parametrize("audio", AUDIO_CODECS)
def test_the_suffix_of_a_sound_is_that_of_the_manifest(audio):
    assert make_profile("pretrain", audio=audio).audio.extension == AUDIO_CODECS[audio].extension


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "small"}, "profile: 'small' is not one of pretrain, finetune"),
        ({"name": "pretrain", "codec": "av1"}, "codec: 'av1' is not one of vp9, h264, hevc, mjpeg"),
        ({"name": "pretrain", "audio": "mp3"}, "audio: 'mp3' is not one of pcm16, flac"),
    ],
)
def test_an_unknown_name_is_an_error_that_lists_the_known_ones(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_profile(**arguments)
