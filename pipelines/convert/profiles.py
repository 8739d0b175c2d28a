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


LEAST_SIDE = 128  # of what NVDEC decodes


def make_profile(
    name: str,
    *,
    codec: str | None = None,
    audio: str | None = None,
    short_side: int | None = None,
    gop: int | None = None,
) -> Profile:
    """A profile of the table, with another codec, size (pixels) or group of pictures (frames) if asked for.

    Raises ValueError for a name that is not known, and for a size or a group that cannot be had.
    """
    for option, value, table in (("profile", name, PROFILES), ("codec", codec, CODECS), ("audio", audio, AUDIO_CODECS)):
        if value is not None and value not in table:
            raise ValueError(f"{option}: {value!r} is not one of {', '.join(table)}")
    profile = PROFILES[name]
    multiple = profile.video.multiple
    if short_side is not None and (short_side < LEAST_SIDE or short_side % multiple):
        raise ValueError(
            f"short_side: {short_side} is not a multiple of {multiple} from {LEAST_SIDE} on, as NVDEC needs: take 128, 160, 256"
        )
    if gop is not None and gop < 1:
        raise ValueError(f"gop: {gop} is not at least 1 frame, from one key frame to the next")
    changed = {"codec": codec, "quality": codec and CODECS[codec].quality, "short_side": short_side, "gop": gop}
    video = profile.video.model_copy(update={field: value for field, value in changed.items() if value is not None})
    sound = profile.audio.model_copy(update={"codec": audio} if audio else {})
    return profile.model_copy(update={"video": video, "audio": sound})
