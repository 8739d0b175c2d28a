"""What a loader delivers of a step."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from xkd.pipelines.samples.stream import Step
from xkd.pipelines.views.finish import Views


@dataclass(frozen=True)
class Batch:
    """One rank's examples of a step. B examples, L local views; T or t frames, F mel bands, S or s steps.

    An example has C clips, so C global sounds and V global pictures in a row: `unflatten(0, (B, -1))` parts them. In evaluation C
    is `eval_clips` and V is C * `eval_crops`, the crops of a clip together; in pre-training both are 1, else `train_clips`. Views
    of a stream that is not read are None.
    """

    video_global: torch.Tensor | None  # [B * V, 3, T, H, W] float32, normalised
    video_local: torch.Tensor | None  # [B, L, 3, t, h, w]
    audio_global: torch.Tensor | None  # [B * C, 1, F, S] float32, normalised log-mel
    audio_local: torch.Tensor | None  # [B, L, 1, F, s]
    labels: torch.Tensor  # [B] int64; -1 where a sample has not exactly one label
    targets: torch.Tensor  # [B, classes] float32; 1 for each label of a sample, else 0
    sample_ids: torch.Tensor  # [B] int64
    keys: list[str]
    substituted: torch.Tensor  # [B] bool; True where a healthy sample takes the place of a damaged one
    valid: torch.Tensor  # [B] bool; False in evaluation where some sample fills the row: not to be counted

    @classmethod
    def of(cls, step: Step, views: Views, num_classes: int) -> "Batch":
        """The batch of a step, given its finished views."""
        samples = [example.sample for example in step.examples]
        return cls(
            **{name: views.get(name) for name in ("video_global", "video_local", "audio_global", "audio_local")},
            labels=torch.tensor([sample.labels[0] if len(sample.labels) == 1 else -1 for sample in samples]),
            targets=multi_hot([sample.labels for sample in samples], num_classes),
            sample_ids=torch.tensor([sample.id for sample in samples]),
            keys=[sample.key for sample in samples],
            substituted=torch.from_numpy(step.substituted),
            valid=torch.from_numpy(step.valid),
        )

    def counted(self) -> "Batch":
        """The valid rows."""
        if self.valid.all():
            return self
        count = len(self.keys)
        tensors = {
            name: rows[self.valid.repeat_interleave(len(rows) // count)]
            for name, rows in vars(self).items()
            if isinstance(rows, torch.Tensor)
        }
        return replace(self, **tensors, keys=[key for key, valid in zip(self.keys, self.valid.tolist(), strict=True) if valid])


def multi_hot(labels: Sequence[Sequence[int]], num_classes: int) -> torch.Tensor:
    """The classes of each sample as float32 [B, classes]."""
    targets = torch.zeros(len(labels), num_classes)
    rows = [row for row, classes in enumerate(labels) for _ in classes]
    targets[rows, [label for classes in labels for label in classes]] = 1
    return targets
