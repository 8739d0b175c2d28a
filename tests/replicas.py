"""Small replicas of the downstream data sets in their official layouts, of real media: a class is a colour and a pitch."""

from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path

import numpy as np

from tests.media import moving_bar, tone, write_clip

HUES = ((200, 30, 30), (30, 30, 200), (30, 160, 30))
HERTZ = (300, 2000, 900)


def write_replica(dataset: str, root: Path) -> Path:
    """Write the replica of a row of REPLICAS into a new folder; returns it."""
    root.mkdir(parents=True)
    REPLICAS[dataset](root)
    return root


def write_media(path: Path, kinds: Sequence[int], number: int, *, seconds: float = 1.5, sound: bool = True) -> None:
    """A clip of some kinds: the colour is that of the first, the sound that of all together; no two numbers give the same clip."""
    tones = [tone(HERTZ[kind] * (1 + 0.003 * number), amplitude=0.5 / len(kinds)) for kind in kinds]
    picture = moving_bar(HUES[kinds[0]], speed=0.2 + 0.017 * number)
    codecs = {
        ".wav": {"picture": None, "audio_codec": "pcm_s16le", "sample_rate": 44100},
        ".avi": {"picture": picture, "video_codec": "mpeg4", "audio_codec": "pcm_s16le"},
        ".mp4": {"picture": picture},
    }[path.suffix]
    heard = (lambda times: np.sum([one(times) for one in tones], axis=0)) if sound else None
    write_clip(path, **codecs, sound=heard, seconds=seconds, fps=10, height=64, width=96)


def ucf101(root: Path) -> None:
    """Two classes (one silent, and spelled in two ways) of six groups, of which each fold tests two."""
    classes = {"ApplyEyeMakeup": "ApplyEyeMakeup", "HandstandPushups": "HandStandPushups"}
    lists = {name: [] for fold in (1, 2, 3) for name in (f"trainlist0{fold}", f"testlist0{fold}")}
    for kind, (folder, spelled) in enumerate(classes.items()):
        for group in range(1, 7):
            file = f"{folder}/v_{spelled}_g{group:02d}_c01.avi"
            write_media(root / "UCF-101" / file, [kind], 10 * kind + group, sound=kind == 0)
            for fold in (1, 2, 3):
                tested = (group + 1) // 2 == fold
                lists[f"testlist0{fold}" if tested else f"trainlist0{fold}"].append(file if tested else f"{file} {kind + 1}")
    lists["classInd"] = [f"{kind + 1} {folder}" for kind, folder in enumerate(classes)]
    for name, lines in lists.items():
        write_lines(root / "ucfTrainTestlist" / f"{name}.txt", lines)


def hmdb51(root: Path) -> None:
    """Two classes of seven clips without sound, of which each fold tests two and one is used by none."""
    for kind, label in enumerate(("brush_hair", "clap")):
        names = [f"#{number} (b&w)_{label}_u_nm_np1_ba_goo_0.avi" for number in range(7)]
        for number, name in enumerate(names):
            write_media(root / label / name, [kind], 10 * kind + number, sound=False)
        for fold in range(3):
            roles = [0 if number == 6 else 2 if number // 2 == fold else 1 for number in range(7)]
            lines = [f"{name} {role} " for name, role in zip(names, roles, strict=True)]
            write_lines(root / "testTrainMulti_7030_splits" / f"{label}_test_split{fold + 1}.txt", lines)


def kinetics(root: Path) -> None:
    """Three classes, two of them of Kinetics-Sound too, of four clips to train on and two to validate on."""
    numbers = count()
    for split, clips in (("train", 4), ("val", 2)):
        lines = ["label,youtube_id,time_start,time_end,split,is_cc"]
        for kind, label in enumerate(("bowling", "playing guitar", "abseiling")):
            for _ in range(clips):
                number = next(numbers)
                video = f"-{number:02d}_aBcD3fG"
                lines.append(f"{label},{video},{number},{number + 10},{split},0")
                write_media(root / split / label / f"{video}_{number:06d}_{number + 10:06d}.mp4", [kind], number)
        write_lines(root / f"{split}.csv", lines)


def esc50(root: Path) -> None:
    """Two classes of two clips in each of the five folds."""
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for number, (fold, kind, take) in enumerate((fold, kind, take) for fold in range(1, 6) for kind in (0, 1) for take in "AB"):
        target, category = ((0, "dog"), (14, "chirping_birds"))[kind]
        name = f"{fold}-{1000 + number}-{take}-{target}.wav"
        lines.append(f"{name},{fold},{target},{category},False,{1000 + number},{take}")
        write_media(root / "ESC-50-master" / "audio" / name, [kind], number)
    write_lines(root / "ESC-50-master" / "meta" / "esc50.csv", lines)


def fsd50k(root: Path) -> None:
    """Three classes, one or two of them a clip, of 0.3 to 2.1 s: six clips of dev, two of them of val, and six of eval."""
    labels = [("Accordion", "/m/0mkg"), ("Bark", "/m/05tny_"), ("Music", "/m/04rlf")]
    truth = root / "FSD50K.ground_truth"
    write_lines(truth / "vocabulary.csv", [f"{kind},{label},{mid}" for kind, (label, mid) in enumerate(labels)])
    kinds_of = [[0], [1], [2], [0, 2], [1, 2], [0, 1]]
    for part, first in (("dev", 0), ("eval", len(kinds_of))):
        lines = ["fname,labels,mids,split" if part == "dev" else "fname,labels,mids"]
        for place, kinds in enumerate(kinds_of):
            joined = (",".join(labels[kind][column] for kind in kinds) for column in (0, 1))
            split = (",val" if place in (2, 5) else ",train") if part == "dev" else ""
            lines.append('{},"{}","{}"{}'.format(first + place, *joined, split))
            file = root / f"FSD50K.{part}_audio" / f"{first + place}.wav"
            write_media(file, kinds, first + place, seconds=0.3 + 0.36 * place)
        write_lines(truth / f"{part}.csv", lines)


def write_lines(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


REPLICAS: dict[str, Callable[[Path], None]] = {
    "ucf101": ucf101,
    "hmdb51": hmdb51,
    "kinetics400": kinetics,
    "kinetics_sound": kinetics,
    "esc50": esc50,
    "fsd50k": fsd50k,
}
