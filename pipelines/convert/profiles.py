"""The table of profiles: the clean forms that shards can be written in.

Frames are stored small and at the rate that training samples them: then loading a clip decodes little more than it uses. NVDEC
decodes no VP9 below 128 pixels a side, so smaller sources are scaled up to that.
"""

from xkd.pipelines.media.encode import AUDIO_CODECS, CODECS
from xkd.pipelines.shards.manifest import AudioForm, Profile, VideoForm


def _profile(name: str, short_side: int, codec: str = "vp9") -> Profile:
    video = VideoForm(codec=codec, fps=8, short_side=short_side, multiple=16, gop=8, quality=CODECS[codec].quality)
    return Profile(name=name, video=video, audio=AudioForm(codec="pcm16", sample_rate=16000))


PROFILES = {profile.name: profile for profile in (_profile("pretrain", short_side=128), _profile("finetune", short_side=256))}


def make_profile(name: str, *, codec: str | None = None, audio: str | None = None) -> Profile:
    """A profile of the table, with another video or audio codec if asked for; ValueError for a name that is not known."""
    for option, value, table in (("profile", name, PROFILES), ("codec", codec, CODECS), ("audio", audio, AUDIO_CODECS)):
        if value is not None and value not in table:
            raise ValueError(f"{option}: {value!r} is not one of {', '.join(table)}")
    profile = PROFILES[name]
    if codec is not None:
        profile = profile.model_copy(
            update={"video": profile.video.model_copy(update={"codec": codec, "quality": CODECS[codec].quality})}
        )
    if audio is not None:
        profile = profile.model_copy(update={"audio": profile.audio.model_copy(update={"codec": audio})})
    return profile
