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


def test_a_profile_takes_another_size_and_group_of_pictures_and_keeps_the_rest():
    found, usual = make_profile("pretrain", short_side=160, gop=40), PROFILES["pretrain"]
    assert found.video == usual.video.model_copy(update={"short_side": 160, "gop": 40})
    assert (found.name, found.audio) == (usual.name, usual.audio)


@pytest.mark.parametrize("audio", AUDIO_CODECS)
def test_the_suffix_of_a_sound_is_that_of_the_manifest(audio):
    assert make_profile("pretrain", audio=audio).audio.extension == AUDIO_CODECS[audio].extension


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "small"}, "profile: 'small' is not one of pretrain, finetune"),
        ({"name": "pretrain", "codec": "av1"}, "codec: 'av1' is not one of vp9, h264, hevc, mjpeg"),
        ({"name": "pretrain", "audio": "mp3"}, "audio: 'mp3' is not one of pcm16, flac"),
        ({"name": "pretrain", "short_side": 96}, "short_side: 96 is not a multiple of 16 from 128 on"),
        ({"name": "pretrain", "short_side": 200}, "short_side: 200 is not a multiple of 16 from 128 on"),
        ({"name": "pretrain", "gop": 0}, "gop: 0 is not at least 1 frame"),
    ],
)
def test_what_no_profile_can_have_is_an_error_that_says_what_it_can(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_profile(**arguments)
