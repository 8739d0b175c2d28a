"""Writes AV-Digits as mp4 files in class folders, OUT/SPLIT/CLASS/000123.mp4, with a dataset.json once all are there."""

import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from tqdm import tqdm

from xkd.pipelines.avdigits.clip import make_clip
from xkd.pipelines.avdigits.encode import write_mp4
from xkd.pipelines.avdigits.scans import CLASSES, SPLITS
from xkd.pipelines.avdigits.settings import FORMAT, RECIPE, Settings

DESCRIPTION = "dataset.json"


def write_dataset(out, *, train: int, test: int, seed: int, workers: int, settings: Settings = RECIPE) -> None:
    """Writes `train` and `test` clips below `out`; the files do not depend on `workers`.

    A finished set of the same description is kept as it is. Raises ValueError for any other non-empty `out`.
    """
    out = Path(out)
    counts = {"train": train, "test": test}
    _check_arguments(counts, seed, workers)
    description = json.dumps(
        {"name": "av-digits", "format": FORMAT, "seed": seed, **counts, "settings": settings.description}, indent=2
    )
    if _is_finished(out, description, train + test):
        tqdm.write(f"{out}: the same AV-Digits set is already there, kept")
        return

    clips = [(split, index) for split in SPLITS for index in range(counts[split])]
    for split in SPLITS:
        for label in range(CLASSES):
            (out / split / str(label)).mkdir(parents=True, exist_ok=True)
    write = partial(_write_clip, out, seed, settings)
    with tqdm(total=len(clips), desc="av-digits", unit="clip") as progress:
        for _ in _map(write, clips, workers):
            progress.update()
    (out / DESCRIPTION).write_text(description)


def _check_arguments(counts, seed, workers):
    for name, value, least in (
        ("train", counts["train"], 0),
        ("test", counts["test"], 0),
        ("seed", seed, 0),
        ("workers", workers, 1),
    ):
        if value < least:
            raise ValueError(f"av-digits: {name}={value} must be at least {least}")


def _is_finished(out: Path, description: str, count: int) -> bool:
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    advice = "remove it or choose another folder"
    found = out / DESCRIPTION
    if not found.is_file():
        raise ValueError(f"{out}: not empty and without a finished AV-Digits set (no {DESCRIPTION}): {advice}")
    if found.read_text() != description:
        raise ValueError(f"{out}: holds an AV-Digits set of other counts, seed or settings (see {found}): {advice}")
    present = sum(1 for _ in out.glob("*/*/*.mp4"))
    if present != count:
        raise ValueError(f"{out}: {present} of the {count} clips of its {DESCRIPTION} are there: {advice}")
    return True


def _map(function, clips, workers):
    if workers == 1:
        yield from map(function, clips)
        return
    # Spawned, because the caller may hold threads that a fork would leave behind.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from pool.map(function, clips, chunksize=16)


def _write_clip(out: Path, seed: int, settings: Settings, place: tuple[str, int]) -> None:
    split, index = place
    clip = make_clip(seed, split, index, settings)
    path = out / split / str(clip.facts.label) / f"{index:06d}.mp4"
    write_mp4(path, clip.frames, settings.fps, clip.sound, settings.sample_rate)
