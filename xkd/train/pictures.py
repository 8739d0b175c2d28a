"""Pictures of what a run's net makes of a few clips, drawn while it is trained."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from xkd.model.xkd import OTHER, XKD
from xkd.pipelines.loader import Batch
from xkd.train.config import PretrainConfig
from xkd.train.distributed import Place

CLIPS = 3


class Drawn(NamedTuple):
    """Pictures by name, uint8 [H, W, 3]; or in their place why there are none."""

    pictures: dict[str, np.ndarray]
    failure: str | None = None


class Pictures:
    """Draws masked reconstruction and the teachers' attention, on rank 0, of the same few clips every time.

    They are views of training clips, the first of the batch that is at hand when the first pictures of a start are due: nothing
    is read for them. It computes in float32 with a net of its own and draws no random numbers: training goes on as if it had not
    been.
    """

    def __init__(self, config: PretrainConfig, place: Place, steps_per_epoch: int):
        self._config, self._draws = config, place.rank == 0
        self._every_steps = max(1, round(config.log.pictures_every_epochs * steps_per_epoch))
        self._clips = None

    def is_due(self, step: int) -> bool:
        """Whether `log.pictures_every_epochs` ends after `step` steps."""
        return step % self._every_steps == 0

    def draw(self, batch: Batch, weights: Iterable[tuple[str, Tensor]]) -> Drawn:
        """The pictures. Every rank must call it, with a whole network's `weights`; ranks but the first get none.

        Pictures are no reason to end a run: what goes wrong is told in place of them.
        """
        whole = {name: tensor for name, tensor in weights if self._draws}  # all ranks go through it together
        if not self._draws:
            return Drawn({})
        try:
            return Drawn(self._pictures(batch, whole))
        except Exception as error:  # noqa: BLE001 out of memory, no font: nothing that training depends on
            return Drawn({}, f"pictures could not be drawn: {type(error).__name__}: {error}")

    @torch.no_grad()
    def _pictures(self, batch: Batch, weights: dict[str, Tensor]) -> dict[str, np.ndarray]:
        # Imported when they are needed, by the rank that needs them: with them comes matplotlib.
        from xkd.visualize.attention import attention
        from xkd.visualize.clips import Clips
        from xkd.visualize.reconstruction import reconstructions
        from xkd.visualize.sheet import pixels

        self._clips = self._clips or Clips.of(batch, CLIPS)
        net, data = build(self._config, weights), self._config.data
        teachers = {modality: getattr(net, f"{modality}_teacher").encoder for modality in OTHER}
        figures = {
            "reconstruction": reconstructions(net, self._clips, data),
            "attention": attention(teachers, self._clips, data, "teacher", self._config.model.refinement),
        }
        return {name: pixels(figure) for name, figure in figures.items()}


def build(config: PretrainConfig, weights: dict[str, Tensor]) -> XKD:
    """The net with these tensors as its weights; a tensor is taken as it is, not copied."""
    with torch.device("meta"):
        net = XKD(config.model, config.loss, **config.data.view_shapes, seed=config.seed).eval()
    net.load_state_dict(weights, assign=True)
    return net
