"""What a run is between two steps, copied out of a trainer and put back into one, at any ZeRO stage and on any number of ranks.

Weights, averages and buffers are whole tensors. Of AdamW's moments each rank has the stretches that it updates; a file of them says
where in its parameter each begins, so that any other division can be filled from them.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from xkd.permissions import usual_permissions
from xkd.train.checkpoint import MOMENTS, WEIGHTS, Checkpoint, fsync
from xkd.train.task import trained
from xkd.train.trainer import Trainer

NAMES = ("exp_avg", "exp_avg_sq")  # torch's, of AdamW's moments


@dataclass(frozen=True)
class Snapshot:
    """What one rank keeps of a run, on the host."""

    weights: Mapping[str, Tensor]  # the whole network in float32; on rank 0, elsewhere empty
    moments: Mapping[str, Tensor]  # 1-D, by "exp_avg/PARAMETER"
    starts: Mapping[str, int]  # where in its parameter, laid flat, a stretch begins

    def write(self, folder: Path, rank: int) -> dict[str, int]:
        """Writes this rank's files; returns their sizes in bytes by their names. They are on disk then."""
        contents = {f"{MOMENTS}/rank-{rank:05d}.safetensors": (self.moments, {"starts": json.dumps(self.starts)})}
        if self.weights:
            contents[WEIGHTS] = (self.weights, None)
        for name, (tensors, metadata) in contents.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            with usual_permissions(file):
                save_file(dict(tensors), file, metadata)
            fsync(file)
        return {name: (folder / name).stat().st_size for name in contents}


def take(trainer: Trainer) -> Snapshot:
    """A copy of the trainer's state; every rank must call it."""
    zero, first = trainer.engine.zero, trainer.place.rank == 0
    weights = {name: whole.to("cpu", copy=True) for name, whole in trainer.weights() if first}
    moments, starts = {}, {}
    for name, param in trained(trainer.model).items() if first or zero.divides else ():
        if (piece := zero.piece(param)) is not None:
            starts[name] = piece.start
            state = trainer.engine.moments(piece.flat)
            moments |= {f"{moment}/{name}": piece.of(state[moment]).to("cpu", copy=True) for moment in NAMES}
    return Snapshot(weights, moments, starts)


@torch.no_grad()
def restore(trainer: Trainer, saved: Checkpoint) -> None:
    """Puts back the state of which a checkpoint has the snapshots of all ranks, of however many."""
    zero, device = trainer.engine.zero, trainer.engine.device
    with safe_open(saved.folder / WEIGHTS, "pt") as weights:
        for name, tensor in trainer.model.state_dict(keep_vars=True).items():
            whole = weights.get_tensor(name).to(device)
            if not isinstance(tensor, nn.Parameter):
                tensor.copy_(whole)
            elif tensor.requires_grad:
                zero.set(tensor, whole)
            else:
                trainer.averages.set(tensor, whole)
    stored = _Moments(saved.folder / MOMENTS, trainer.place.rank)
    for name, param in trained(trainer.model).items():
        if (piece := zero.piece(param)) is not None:
            state = trainer.engine.moments(piece.flat)
            for moment in NAMES:
                stored.fill(piece.of(state[moment]), moment, name, piece.start)
    trainer.set_counts(saved.meta["counts"])


class _Moments:
    """The stretches of all ranks that wrote a checkpoint; a file is opened when it is needed, this rank's own first."""

    def __init__(self, folder: Path, rank: int):
        files = sorted(folder.iterdir())
        self._unopened = iter(files[rank:] + files[:rank])
        self._opened: list[tuple[dict[str, int], safe_open]] = []

    def fill(self, piece: Tensor, moment: str, name: str, start: int) -> None:
        """Gives the stretch of a parameter's moment that begins at `start` its values."""
        filled, files = 0, chain(self._opened, self._open())
        while filled < len(piece):
            starts, file = next(files)
            if name not in starts:
                continue
            stored = file.get_slice(f"{moment}/{name}")
            begin, end = max(start, starts[name]), min(start + len(piece), starts[name] + stored.get_shape()[0])
            if begin < end:
                values = stored[begin - starts[name] : end - starts[name]]
                piece[begin - start : end - start] = values.to(piece.device)
                filled += end - begin

    def _open(self) -> Iterator[tuple[dict[str, int], safe_open]]:
        for path in self._unopened:
            file = safe_open(path, "pt")
            self._opened.append((json.loads(file.metadata()["starts"]), file))
            yield self._opened[-1]
