"""The table of profiles: the clean forms that shards can be written in.

Frames are stored small and at the rate that training samples them: then loading a clip decodes little more than it uses. NVDEC
decodes no VP9 below 128 pixels a side, so smaller sources are scaled up to that.
"""

from xkd.pipelines.manifest import AudioForm, Profile, VideoForm

_SOUND = AudioForm(codec="pcm16", sample_rate=16000)


def _vp9(short_side: int) -> VideoForm:
    return VideoForm(codec="vp9", fps=8, short_side=short_side, multiple=16, gop=8, quality=32)


PROFILES = {
    "pretrain": Profile(name="pretrain", video=_vp9(short_side=128), audio=_SOUND),
    "finetune": Profile(name="finetune", video=_vp9(short_side=256), audio=_SOUND),
}
