"""Kinds of odd and bad samples, and sets of shards that hold them.

A set is packed with the CRCs of its own bytes, so that no checksum tells: what is wrong shows only in what the bytes mean.
"""

import io
import os
import struct
import tarfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np

from tests.media import moving_bar, write_clip
from xkd.pipelines.convert.sample import Converted
from xkd.pipelines.convert.shard import ShardWriter, write_durably
from xkd.pipelines.shards.index import ShardSet
from xkd.pipelines.shards.manifest import MANIFEST, totals

FPS = 8
# 20 frames of 224x128, a bar over (40, 160, 60). PyAV's libvpx writes 8 bits only; this is of torchcodec's VideoEncoder(frames,
# frame_rate=8), to_file(path, codec="libvpx-vp9", pixel_format="yuv420p10le", crf=32).
TEN_BIT_VP9 = Path(__file__).with_name("ten_bit_vp9.mp4")
MJPEG = {"video_codec": "mjpeg", "pixel_format": "yuvj420p"}


@dataclass(frozen=True)
class Kind:
    """How a bad sample is made of a healthy one, and the reason (an expression) with which it is left out; None where it is not."""

    make: Callable[[Converted], Converted]
    reason: str | None


def video(sample: Converted, suffix: str = ".mp4", **arguments) -> Converted:
    """The sample with another video, by default as long and as large, in VP9."""
    form = {
        "picture": moving_bar((40, 160, 60)),
        "sound": None,
        "seconds": sample.frames / FPS,
        "fps": FPS,
        "height": sample.height,
        "width": sample.width,
        "video_codec": "libvpx-vp9",
        "gop": 8,
    }
    with TemporaryDirectory() as folder:
        return replace(sample, video=write_clip(Path(folder) / f"clip{suffix}", **(form | arguments)).read_bytes())


def av1(sample: Converted) -> Converted:
    """The sample with its video in AV1; SVT-AV1 gives a thread of root real-time priority, ahead of all else: it is taken back."""
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        return video(sample, video_codec="libsvtav1")
    finally:
        os.sched_setscheduler(0, policy, parameters)


def sized(sample: Converted, height: int, width: int, **arguments) -> Converted:
    """A video of another size, of which the sidecar knows."""
    return replace(video(sample, height=height, width=width, **arguments), height=height, width=width)


def of_two(sample: Converted, second: dict, **both) -> Converted:
    """A video whose frames are of another form from the ninth on."""
    parts = video(sample, seconds=1.0, **both), video(sample, seconds=sample.frames / FPS - 1.0, **(both | second))
    return replace(sample, video=remuxed(part.video for part in parts))


def remuxed(parts: Iterable[bytes], keep: Callable[[int], bool] = lambda place: True, **options: str) -> bytes:
    """One mp4 of the packets of several, one video after another, those that are to be kept."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        with av.open(str(path), "w", options=options) as container:
            stream, end = None, 0
            for part in parts:
                with av.open(io.BytesIO(part)) as source:
                    stream = stream or container.add_stream_from_template(source.streams.video[0])
                    container.start_encoding()
                    packets = [packet for packet in source.demux(source.streams.video[0]) if packet.size]
                    for place, packet in enumerate(packets):
                        if keep(place):
                            packet.pts = packet.dts = end + packet.pts
                            packet.stream = stream
                            container.mux(packet)
                    end = packets[-1].pts + packets[-1].duration
        return path.read_bytes()


def index_first(data: bytes) -> bytes:
    return remuxed([data], movflags="faststart")


def changed_packets(data: bytes, change: Callable[[np.ndarray], None], every: int = 1) -> bytes:
    """The video with a change made to the bytes of every so manieth packet."""
    changed = np.frombuffer(data, np.uint8).copy()
    with av.open(io.BytesIO(data)) as container:
        packets = [packet for packet in container.demux(container.streams.video[0]) if packet.size]
        for packet in packets[::every]:
            change(changed[packet.pos : packet.pos + packet.size])
    return changed.tobytes()


def noise(begin: int) -> Callable[[np.ndarray], None]:
    """Random bytes from a place on."""

    def change(packet):
        packet[begin:] = np.random.default_rng(0).integers(0, 256, len(packet[begin:]))

    return change


def flipped(packet: np.ndarray) -> None:
    packet[len(packet) // 2] ^= 16


def index_patched(data: bytes, box: bytes, offset: int, values: bytes) -> bytes:
    """The mp4 with other bytes at a place behind a box's name."""
    place = data.rfind(box) + 4 + offset
    return data[:place] + values + data[place + len(values) :]


def still(sample: Converted, codec: str, pixel_format: str) -> bytes:
    context = av.CodecContext.create(codec, "w")
    context.width, context.height, context.pix_fmt, context.time_base = sample.width, sample.height, pixel_format, Fraction(1, FPS)
    picture = np.full((sample.height, sample.width, 3), 90, np.uint8)
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixel_format)
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])


def silence(times):
    return 0 * times


# What does not even look like the mp4 that the sidecar tells of, or like its sound.
REFUSED = {
    "text": Kind(lambda s: replace(s, video=b"no media at all\n" * 100), "no mp4"),
    "empty": Kind(lambda s: replace(s, video=b""), "no mp4"),
    "one byte": Kind(lambda s: replace(s, video=b"\0"), "no mp4"),
    "zeros": Kind(lambda s: replace(s, video=bytes(len(s.video))), "no mp4"),
    "random bytes": Kind(lambda s: replace(s, video=np.random.default_rng(0).bytes(20000)), "no mp4"),
    "jpeg": Kind(lambda s: replace(s, video=still(s, "mjpeg", "yuvj420p")), "no mp4"),
    "png": Kind(lambda s: replace(s, video=still(s, "png", "rgb24")), "no mp4"),
    "wav": Kind(lambda s: replace(s, video=s.audio), "no mp4"),
    "matroska": Kind(lambda s: video(s, ".mkv"), "no mp4"),
    "avi": Kind(lambda s: video(s, ".avi", **MJPEG), "no mp4"),
    "cut, its index lost": Kind(lambda s: replace(s, video=s.video[: len(s.video) // 2]), "no mp4"),
    "cut within its index": Kind(lambda s: replace(s, video=index_first(s.video)[:400]), "no mp4"),
    "cut behind its index": Kind(lambda s: replace(s, video=index_first(s.video)[: len(s.video) // 2]), "its index leads up to"),
    "cut after its index": Kind(lambda s: replace(s, video=index_first(s.video)[:-2600]), "its index leads up to"),
    "its header only": Kind(lambda s: replace(s, video=s.video[:32]), "no mp4"),
    "no moov": Kind(lambda s: replace(s, video=s.video.replace(b"moov", b"free")), "no mp4"),
    "an index beyond its end": Kind(
        lambda s: replace(s, video=index_patched(s.video, b"stco", 8, struct.pack(">I", 2**31))), "its index leads up to"
    ),
    "an index of smaller pictures": Kind(
        lambda s: replace(s, video=index_patched(s.video, b"vp09", 24, struct.pack(">HH", 176, 128))), "has pictures of 176x128"
    ),
    "sound only": Kind(lambda s: video(s, picture=None, sound=silence), "has pictures of"),
    "sound first": Kind(lambda s: video(s, sound=silence), "has pictures of"),
    "larger than said": Kind(lambda s: video(s, height=256, width=448), "has pictures of 448x256"),
    "smaller than said": Kind(lambda s: video(s, height=64, width=64), "has pictures of 64x64"),
    "no size said": Kind(lambda s: replace(s, height=0, width=0), "but 0x0 in the sidecar"),
    "no frames": Kind(lambda s: replace(s, video=remuxed([s.video], lambda _: False, movflags="empty_moov")), "lists 0 frames"),
    "one frame": Kind(lambda s: video(s, frame_times=[0.0]), "lists 1 frames"),
    "fewer frames than said": Kind(lambda s: video(s, seconds=1.0), "lists 8 frames"),
    "more frames than said": Kind(lambda s: video(s, seconds=10.0), "lists 80 frames"),
    "first key frame lost": Kind(lambda s: replace(s, video=remuxed([s.video], lambda place: place > 0)), "lists 19 frames"),
    "packets lost": Kind(lambda s: replace(s, video=remuxed([s.video], lambda place: place not in (5, 8, 9))), "lists 17 frames"),
    "larger frames": Kind(lambda s: of_two(s, {"height": 256, "width": 448}), "has a frame of 448x256 among"),
    "smaller frames": Kind(lambda s: of_two(s, {"height": 64, "width": 64}), "has a frame of 64x64 among"),
    "larger jpegs": Kind(lambda s: of_two(s, {"height": 256, "width": 448}, **MJPEG), "has a frame of 448x256 among"),
    "smaller jpegs": Kind(lambda s: of_two(s, {"height": 64, "width": 64}, **MJPEG), "has a frame of 64x64 among"),
    "sound shorter than said": Kind(lambda s: replace(s, audio=s.audio[: len(s.audio) // 2]), "its audio .* samples of pcm16"),
    "sound longer than said": Kind(lambda s: replace(s, audio_samples=s.audio_samples - 16000), "its audio .* samples of pcm16"),
    "sound empty": Kind(lambda s: replace(s, audio=b""), "its audio .* has 0 bytes"),
    "sound of text": Kind(lambda s: replace(s, audio=b"no sound at all\n" * 100), "its audio .* samples of pcm16"),
    "sound cut within a sample": Kind(lambda s: replace(s, audio=s.audio[:-1]), "its audio .* samples of pcm16"),
}

# What only the decoder finds out.
UNDECODABLE = {
    "random packets": Kind(lambda s: replace(s, video=changed_packets(s.video, noise(0))), "Failed to send packet"),
    "random behind headers": Kind(lambda s: replace(s, video=changed_packets(s.video, noise(20))), "Failed to send packet"),
    "every second packet random": Kind(lambda s: replace(s, video=changed_packets(s.video, noise(0), 2)), "Failed to send packet"),
    "h264": Kind(lambda s: video(s, video_codec="libx264"), "Failed to create video decoder"),
    "h264 of 10 bit": Kind(lambda s: video(s, video_codec="libx264", pixel_format="yuv420p10le"), "Failed to create video decoder"),
    "hevc": Kind(
        lambda s: video(s, video_codec="libx265", video_options={"x265-params": "log-level=none"}), "Failed to create video decoder"
    ),
    "av1": Kind(av1, "Failed to create video decoder"),
    "mpeg4": Kind(lambda s: video(s, video_codec="mpeg4"), "Failed to create video decoder"),
}

# What is not in the profile's form and is decoded as it is.
ODD = {
    "odd sides": Kind(lambda s: sized(s, 129, 131), None),
    "portrait": Kind(lambda s: sized(s, 224, 128), None),
    "tiny": Kind(lambda s: sized(s, 2, 2), None),
    "large": Kind(lambda s: sized(s, 1080, 1920), None),
    "4:4:4": Kind(lambda s: video(s, pixel_format="yuv444p"), None),
    "4:2:2": Kind(lambda s: video(s, pixel_format="yuv422p"), None),
    "10 bit": Kind(lambda s: replace(s, video=TEN_BIT_VP9.read_bytes(), frames=20, height=128, width=224), None),
    "mjpeg": Kind(lambda s: video(s, **MJPEG), None),
    "long groups of pictures": Kind(lambda s: video(s, gop=100), None),
    "variable rate": Kind(lambda s: video(s, frame_times=[k / FPS + 0.4 * (k > 6) for k in range(s.frames)]), None),
    "late start": Kind(lambda s: video(s, video_start=1.5), None),
    "turned": Kind(lambda s: video(s, rotation=90), None),
    "index first": Kind(lambda s: replace(s, video=index_first(s.video)), None),
    "no mdat by name": Kind(lambda s: replace(s, video=s.video.replace(b"mdat", b"free")), None),
}

# What decodes to something else than was meant: against this there are the CRCs, made when the sample was known to be right.
UNNOTICED = {"bits flipped": Kind(lambda s: replace(s, video=changed_packets(s.video, flipped)), None)}

KINDS = REFUSED | UNDECODABLE | ODD | UNNOTICED


def stored(shards: ShardSet, index: int) -> Converted:
    """A stored sample as it was packed."""
    sample = shards.sample(index)
    with tarfile.open(sample.shard) as tar:
        video, audio, info = (tar.extractfile(f"{sample.key}.{extension}").read() for extension in ("mp4", "wav", "json"))
    form, labels = sample.video, tuple(shards.classes[label] for label in sample.labels)
    return Converted(
        sample.key, labels, video, audio, info, form.frames, form.height, form.width, sample.audio.samples, sample.audio.rate
    )


def write_set(folder: Path, samples: Sequence[Converted], like: ShardSet, shard_samples: int = 8) -> ShardSet:
    """Shards of these samples, in a manifest like that of another set."""
    folder.mkdir(parents=True)
    records, profile = [], like.manifest.settings.profile
    for begin in range(0, len(samples), shard_samples):
        with ShardWriter(folder, f"train-{len(records):06d}", profile, like.classes) as writer:
            for sample in samples[begin : begin + shard_samples]:
                writer.add(sample)
            records.append(writer.finish(begin))
    sums = totals(records, profile, len(like.classes))
    manifest = like.manifest.model_copy(
        update=sums | {"completeness": like.manifest.completeness.model_copy(update={"converted": sums["num_samples"]})}
    )
    write_durably(folder / MANIFEST, manifest.model_dump_json(indent=1).encode())
    return ShardSet.open(folder)
