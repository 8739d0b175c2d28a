"""A folder of everything that may be wrong with a file, converted by the command in a process of its own."""

import ctypes
import json
import os
import struct
import subprocess
import sys
from collections import Counter

from tests.media import write_clip
from xkd.pipelines.shards.index import ShardSet

CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, PR_CAPBSET_DROP = 1, 2, 24


def truncated(path):
    write_clip(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def truncated_behind_its_index(path):
    write_clip(path, seconds=4.0, container_options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def four_hours(path):
    write_clip(path)
    data = bytearray(path.read_bytes())
    place = data.find(b"\x44\x89\x88") + 3  # the duration in milliseconds, a double
    data[place : place + 8] = struct.pack(">d", 4 * 3600e3)
    path.write_bytes(data)


def corrupt_packets(path):
    write_clip(path, fps=25, gop=10)
    data = bytearray(path.read_bytes())
    begin = data.find(b"mdat")
    for place in range(begin + 2000, data.find(b"moov") - 100, 200):
        data[place : place + 50] = bytes(range(50))
    path.write_bytes(data)


def image(path):
    still = path.with_suffix(".mjpeg")
    write_clip(still, frame_times=[0.0], sound=None, video_codec="mjpeg", pixel_format="yuvj420p")
    still.rename(path)


def large(path):
    form = {"video_codec": "mjpeg", "pixel_format": "yuvj420p"}
    write_clip(path, height=2320, width=4112, seconds=1.0, fps=2, audio_codec="pcm_s16le", **form)


def closed(path):
    write_clip(path)
    path.chmod(0)


def wrong_extension(path):
    write_clip(path.with_suffix(".mp4")).rename(path)


GOOD = {
    "first.mp4": write_clip,
    "second.mkv": write_clip,
    "mp4.avi": wrong_extension,
    "übergröße 猫.mp4": write_clip,
    "new\nline.mp4": write_clip,
}
BAD = {
    "truncated.mp4": (truncated, "it is no media file, or one that has lost its begin or its end"),
    "faststart.mp4": (truncated_behind_its_index, "it ends after"),
    "zero bytes.mp4": (lambda path: path.write_bytes(b""), "it is empty (0 bytes)"),
    "text.mp4": (lambda path: path.write_text("no media at all\n" * 100), "it is no media file"),
    "notes.txt": (lambda path: path.write_text("no media at all\n" * 100), "it is no media file"),
    "image.mp4": (image, "its format is not one of mov"),
    "no video.mp4": (lambda path: write_clip(path, picture=None), "it has no pictures"),
    "no audio.mp4": (lambda path: write_clip(path, sound=None), "it has no sound"),
    "one frame.mp4": (lambda path: write_clip(path, frame_times=[0.0]), "its video holds only one frame"),
    "short sound.mkv": (
        lambda path: write_clip(path, seconds=0.2, fps=25, audio_codec="pcm_s16le"),
        "its sound lasts 0.20 s, less than 0.25 s",
    ),
    "four hours.mkv": (four_hours, "it claims to last 14400 s"),
    "large.avi": (large, "its pictures are 4112x2320, more than 9437184 pixels"),
    "corrupt.mp4": (corrupt_packets, "its video at "),
    "closed.mp4": (closed, "it cannot be read: Permission denied"),
    "dangling.mp4": (lambda path: path.symlink_to("nothing.mp4"), "it cannot be read: No such file or directory"),
}


def as_others():
    """Root may read every file; take that from the process, so that it is refused like others are."""
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH) if os.getuid() == 0 else ():
        if ctypes.CDLL(None, use_errno=True).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "cannot give up the rights of root")


def test_every_kind_of_bad_file_is_one_line_and_the_good_ones_beside_them_are_converted(tmp_path):
    """Fifteen of the twenty kinds of bad input; the others end a run or keep it from beginning, and have tests of their own.

    A duplicate key and an unknown label: test_plan.py, test_a_clip_listed_twice_is_one_error and
    test_a_label_that_is_no_class_is_one_error. A csv with wrong columns: sources/test_kinetics.py, and likewise for each dataset,
    test_a_wrong_list_is_an_error_with_file_line_and_what_was_expected. An empty folder: sources/test_folder.py,
    test_a_folder_without_clips_is_an_error. A full disk: test_faults.py,
    test_a_disk_that_fills_up_is_one_error_and_the_finished_shards_are_kept.
    """
    folder, out = tmp_path / "source" / "a", tmp_path / "out"
    folder.mkdir(parents=True)
    for name, make in {**GOOD, **{name: make for name, (make, _) in BAD.items()}}.items():
        make(folder / name)
    command = [sys.executable, "-m", "xkd", "shards", "write", folder.parent, "--dataset", "folder", "--split", "train"]
    done = subprocess.run(
        [*command, "--out", out, "--workers", "2"],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        preexec_fn=as_others,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    failures = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    assert Counter(failure["name"] for failure in failures) == Counter(f"a/{name}" for name in BAD)
    reasons = {failure["name"]: failure["reason"] for failure in failures}
    for name, (_, reason) in BAD.items():
        assert reasons[f"a/{name}"].startswith(reason), name
    shards = ShardSet.open(out)
    assert len(shards) == len(GOOD)
    assert {shards.sample(index).video.frames for index in range(len(GOOD))} == {16}
