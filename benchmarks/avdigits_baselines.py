"""How hard AV-Digits is without a net: linear SVMs on mean pixels and on the mean spectrum, fixed before any training.

Run: python -m xkd.benchmarks.avdigits_baselines FOLDER (the set is written there first, unless it is there already).
"""

import argparse
import csv
import sys
from dataclasses import asdict
from datetime import datetime, timezone
from functools import cache
from multiprocessing import get_context
from pathlib import Path

import av
import numpy as np
import sklearn
import torch
import torchaudio

from xkd.env import environment
from xkd.eval.config import SvmConfig
from xkd.eval.raw import mean_picture, mean_spectrum
from xkd.eval.scores import chance
from xkd.eval.svm import evaluate_svm
from xkd.eval.tables import accuracies, markdown
from xkd.features import Features
from xkd.pipelines.avdigits.clip import clip_facts
from xkd.pipelines.avdigits.scans import CLASSES, SPLITS
from xkd.pipelines.avdigits.write import write_dataset

TRAIN, TEST, SEED = 2000, 600, 0
SAMPLE_RATE = 16_000
PROTOCOL = SvmConfig(c=(0.01, 0.1, 1.0, 10.0), folds=3)


def read_mp4(path) -> tuple[np.ndarray, np.ndarray]:
    """Frames [T, H, W, 3] uint8 and mono 16 kHz samples [S] float32 of a video file."""
    resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
    frames, sound = [], []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0, audio=0):
            if isinstance(frame, av.VideoFrame):
                frames.append(frame.to_ndarray(format="rgb24"))
            else:
                sound += resampler.resample(frame)
    sound += resampler.resample(None)
    return np.stack(frames), np.concatenate([part.to_ndarray()[0] for part in sound])


def video_feature(frames: np.ndarray) -> np.ndarray:
    """Time-averaged 16 x 16 RGB [768] of frames [T, H, W, 3] uint8."""
    return mean_picture(torch.from_numpy(frames).permute(3, 0, 1, 2)[None] / 255)[0].numpy()


def audio_feature(sound: np.ndarray) -> np.ndarray:
    """Time-averaged log-mel spectrum [80] of 16 kHz samples [S]."""
    mel = _mel_spectrogram()(torch.from_numpy(sound))
    return mean_spectrum(torch.log(mel + 1.19e-7)[None, None])[0].numpy()


@cache
def _mel_spectrogram():
    return torchaudio.transforms.MelSpectrogram(
        SAMPLE_RATE, n_fft=1024, hop_length=286, n_mels=80, f_max=8000, norm="slaney", mel_scale="slaney"
    )


def file_features(path) -> tuple[np.ndarray, np.ndarray]:
    torch.set_num_threads(1)
    frames, sound = read_mp4(path)
    return video_feature(frames), audio_feature(sound)


def split_features(folder: Path, workers: int) -> Features:
    """Features of the clips of a split, in the order of their index."""
    paths = sorted(folder.glob("*/*.mp4"), key=lambda path: path.stem)
    with get_context("spawn").Pool(workers) as pool:
        video, audio = zip(*pool.map(file_features, paths, chunksize=32), strict=True)
    labels = np.array([int(path.parent.name) for path in paths])
    return Features({"video": np.stack(video)[:, None], "audio": np.stack(audio)[:, None]}, labels, [path.stem for path in paths])


def correctness(train: Features, test: Features) -> dict[str, dict[str, np.ndarray]]:
    """Which test clips each baseline gets right, over all of them and over the clips that are hard in a way."""
    results = evaluate_svm(train, test, PROTOCOL, SEED)
    for modality, result in results.items():
        print(f"{modality}: C = {result.c} of {result.accuracy_by_c}", file=sys.stderr)
    facts = [clip_facts(SEED, "test", int(key)) for key in test.keys]
    occluded, buried = np.array([(fact.occluded, fact.buried) for fact in facts]).T
    slices = {"all": occluded | True, "occluded": occluded, "buried": buried, "neither": ~occluded & ~buried}
    rows = {"chance": {modality: chance(test.labels, CLASSES) for modality in results}}
    for name, chosen in slices.items():
        rows[f"SVM, {name} ({chosen.sum()})"] = {modality: result.correct[chosen] for modality, result in results.items()}
    return rows


def csv_rows(correct: dict[str, dict[str, np.ndarray]], command: str) -> list[dict]:
    """One row a baseline and modality: accuracy in per cent with its interval, and what it stood on."""
    machine = environment()
    shared = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "train_clips": TRAIN,
        "test_clips": TEST,
        "seed": SEED,
        **{name: machine[name] for name in ("cpu", "cpus", "python", "torch", "av", "numpy")},
        "torchaudio": torchaudio.__version__,
        "sklearn": sklearn.__version__,
        "commit": machine["commit"],
        "command": command,
    }
    return [
        {"baseline": name, "modality": modality, **{key: f"{100 * value:.2f}" for key, value in asdict(cell).items()}, **shared}
        for name, cells in accuracies(correct).items()
        for modality, cell in cells.items()
    ]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--csv", type=Path, default=Path("benchmarks/results/avdigits_baselines.csv"))
    chosen = parser.parse_args(arguments)

    write_dataset(chosen.folder, train=TRAIN, test=TEST, seed=SEED, workers=chosen.workers)
    train, test = (split_features(chosen.folder / split, chosen.workers) for split in SPLITS)
    correct = correctness(train, test)
    print(markdown(accuracies(correct)), end="")
    rows = csv_rows(correct, f"python -m xkd.benchmarks.avdigits_baselines FOLDER --workers {chosen.workers}")
    chosen.csv.parent.mkdir(parents=True, exist_ok=True)
    with chosen.csv.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
