"""The commands that the documents give to users, and the world in which a test runs them as written."""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import dropwhile, takewhile
from pathlib import Path

from tests.replicas import REPLICAS, write_lines, write_media, write_replica
from tests.runs import pretrain_settings, write_settings

ROOT = Path(__file__).parent.parent
DOCUMENTS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
FENCE = re.compile(r"^```[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAMS = ("apptainer", "deepspeed", "make", "pip", "python", "python3", "sbatch", "srun", "torchrun", "touch", "uv", "xkd")
OPTIONAL = re.compile(r"\[section\.key=value \.\.\.\]")
ASSIGNMENT = re.compile(r"[A-Z_]+=\S*")
# What a command needs that a test does not have, as its comment says, or one that begins its block.
NEEDS = re.compile(r"\[(GPU|cluster|internet|data set|long)\]")
# What the documents leave for users to fill in.
PLACEHOLDERS = {
    "SOURCE": "k400",
    "NAME": "kinetics400",
    "SPLIT": "train",
    "DIR": "shards/given",
    "CONFIG": "my.yaml",
    "RUN": "runs/my",
}


@dataclass(frozen=True)
class Command:
    """One command as a user would type it: its words, its environment, and what it needs beyond this machine."""

    document: str
    words: tuple[str, ...]
    environment: tuple[str, ...]
    needs: str | None
    shown: bool  # after `$`, with what it printed

    def __str__(self) -> str:
        return f"{self.document}: {shlex.join((*self.environment, *self.words))}"

    def filled(self, placeholders: Mapping[str, str]) -> list[str]:
        """The words, with a value for each placeholder, which may be a part of a word (`checkpoint=RUN`)."""
        pattern = re.compile(rf"\b({'|'.join(placeholders)})\b")
        return [pattern.sub(lambda found: placeholders[found[0]], word) for word in self.words]


def commands(document: Path) -> Iterator[Command]:
    """All commands in the document's fenced blocks."""
    for block in FENCE.findall(document.read_text()):
        lines = block.replace("\\\n", " ").splitlines()
        of_all = next((NEEDS.search(line) for line in lines[:2] if line.startswith("# [")), None)
        shown = any(line.startswith("$ ") for line in lines)
        for line in lines:
            text, comment = re.fullmatch(r"(.*?)(?:(?:^|\s+)(#.*))?", line).groups()
            if shown and not text.startswith("$ "):
                continue
            words = tuple(shlex.split(OPTIONAL.sub("", text.removeprefix("$ ")))) if _starts_like_a_command(text) else ()
            environment = tuple(takewhile(ASSIGNMENT.fullmatch, words))
            needs = NEEDS.search(comment or "") or of_all
            if words:
                yield Command(document.name, words[len(environment) :], environment, needs and needs[1], shown)


def _starts_like_a_command(line: str) -> bool:
    words = list(dropwhile(ASSIGNMENT.fullmatch, line.removeprefix("$ ").split()))
    return len(words) > 1 and words[0] in PROGRAMS and words[1] != "="


def write_world(folder: Path) -> None:
    """What the documents take for granted: replicas of the data sets, clips of one's own, my.yaml, and the yaml of a small run."""
    for dataset, name in {"kinetics400": "k400", "esc50": "."}.items():
        REPLICAS[dataset](folder / name)
    for dataset in ("ucf101", "hmdb51", "fsd50k"):
        write_replica(dataset, folder / dataset)
    write_lists(folder)
    for split, clips in (("train", 33), ("test", 6)):
        for kind, label in enumerate(("cat", "dog")):
            for number in range(clips):
                media = folder / "FOLDER" / split / label / f"{number}.mp4"
                media.parent.mkdir(parents=True, exist_ok=True)
                write_media(media, [kind], 200 * kind + 100 * (split == "test") + number, seconds=2.5)
    own = next(block for block in FENCE.findall((ROOT / "README.md").read_text()) if block.startswith("base: pretrain/demo.yaml"))
    (folder / "my.yaml").write_text(own)
    tiny = pretrain_settings(folder / "shards/kinetics400/train")
    tiny["data"] |= {"test": "shards/kinetics400/train", "clip_seconds": 1.0}
    tiny |= {"run_dir": "runs/xkd", "train": {"global_batch": 4, "epochs": 2, "log_every": 1}, "loss": {"align_group": 4}}
    write_settings(folder / "tiny.yaml", tiny | {"optim": {"warmup_epochs": 0}})


def write_lists(folder: Path) -> None:
    """One clip of AudioSet and one of VGGSound, with their lists."""
    write_lines(folder / "audioset/class_labels_indices.csv", ["index,mid,display_name", '0,/m/09x0r,"Speech"'])
    for part, clips in {"unbalanced": ['_UNBALANCED, 31.000, 41.000, "/m/09x0r"'], "balanced": []}.items():
        write_lines(folder / f"audioset/{part}_train_segments.csv", ["# one", "# two", "# three", *clips])
    write_lines(folder / "vggsound/vggsound.csv", ["---g-f_I2yQ,1,people marching,train"])
    for number, media in enumerate(("audioset/_UNBALANCED_31.mp4", "vggsound/---g-f_I2yQ_000001.mp4")):
        write_media(folder / media, [number], number)
