"""Converting a file by the `ffmpeg` command, as data sets usually are: the converter's peer."""

import subprocess
from pathlib import Path

from xkd.pipelines.media.encode import AUDIO_CODECS, CODECS, encoder_options
from xkd.pipelines.shards.manifest import Profile

SOUND = {"pcm16": "pcm_s16le", "flac": "flac"}


def convert(source: Path, profile: Profile, size: tuple[int, int], folder: Path) -> tuple[Path, Path]:
    """Writes the files of a sample, (video, audio), of pictures of the size (height, width), in one thread; checks nothing.

    Encoders and their options, rates and the filter that scales are those of the converter.
    """
    form, (height, width) = profile.video, size
    codec, sound = CODECS[form.codec], AUDIO_CODECS[profile.audio.codec]
    video, audio = folder / "video.mp4", folder / f"audio.{sound.extension}"
    options = encoder_options(codec, gop=form.gop, quality=form.quality)
    encoder = [word for name, value in options.items() for word in (f"-{name}:v", value)]
    command = ["ffmpeg", "-nostdin", "-v", "error", "-y", "-threads", "1", "-filter_threads", "1", "-i", str(source)]
    command += ["-map", "0:v:0", "-vf", f"fps={form.fps},scale={width}:{height}:flags=bicubic", "-pix_fmt", "yuv420p"]
    command += ["-c:v", codec.encoder, *encoder, str(video)]
    command += ["-map", "0:a:0", "-ac", "1", "-ar", str(profile.audio.sample_rate)]
    command += ["-sample_fmt", "s16", "-c:a", SOUND[profile.audio.codec], str(audio)]
    subprocess.run(command, check=True)
    return video, audio
