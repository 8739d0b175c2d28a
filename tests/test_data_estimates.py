"""The estimates in docs/data.md follow from the committed measurements."""

import csv
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOUND_BYTES_PER_SECOND = 16_000 * 2  # pcm16
MEASURED_SECONDS = 10
TABLE = (ROOT / "docs" / "data.md").read_text().partition("| what is converted |")[2].partition("\n\n")[0]
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in TABLE.splitlines()[2:]]


def measured(profile):
    """CPU seconds and bytes of video, of a second of a clip that becomes VP9."""
    with (ROOT / "benchmarks/results/convert.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["part"] == "total" and row["provider"] in ("convert", "stages")]
    row = next(row for row in rows if f" to {profile} vp9" in row["case"])
    kilobytes = int(re.search(r"vp9 (\d+) kB", row["case"])[1])
    return float(row["cpu_ms_per_item"]) / 1000 / MEASURED_SECONDS, 1000 * kilobytes / MEASURED_SECONDS


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_an_estimate_is_the_measured_rate_times_the_clips(row):
    _, clips, seconds, profile, stored, hours, gigabytes = row
    total = int(clips.replace(",", "")) * float(seconds)
    cpu, video = measured(profile)
    sound = SOUND_BYTES_PER_SECOND * (0.5 if "silent" in stored else stored != "video")
    assert float(gigabytes) == pytest.approx(total * (sound + video * (stored != "sound")) / 1e9, rel=0.06)
    if stored == "sound":
        assert hours == "minutes"
    else:
        assert float(hours) == pytest.approx(total * cpu / 3600, rel=0.06, abs=0.06)


def test_all_data_sets_are_there():
    names = " ".join(row[0] for row in ROWS)
    assert all(
        name in names for name in ("Kinetics-400", "Kinetics-Sound", "AudioSet", "VGGSound", "UCF101", "HMDB51", "ESC-50", "FSD50K")
    )
