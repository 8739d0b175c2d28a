"""Where DeepSpeed keeps weights and gradients at each ZeRO stage. Reads its private attributes: its version is pinned.

A rank's part of a tensor is what it alone updates; the parts of all ranks make up the tensor.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from xkd.train.distributed import sum_over_ranks


class Piece(NamedTuple):
    """The stretch of a trained parameter, laid flat, that this rank updates. AdamW has it in the tensor `flat`, from `at` on."""

    flat: Tensor
    at: int
    start: int  # in the parameter
    length: int

    def of(self, tensor: Tensor) -> Tensor:
        """The stretch of a tensor that is laid out as `flat` is; a view."""
        return tensor.view(-1).narrow(0, self.at, self.length)

    def cut(self, whole: Tensor) -> Tensor:
        """The stretch of a whole parameter, or of what has its shape."""
        return whole.reshape(-1).narrow(0, self.start, self.length)


class Replicated:
    """Stage 0: every rank has everything, and its part is the whole."""

    divides = False  # whether ranks update different stretches

    def __init__(self, optimizer):
        self._optimizer = optimizer

    def gradients(self, params: Sequence[nn.Parameter]) -> list[Tensor | None]:
        """This rank's part of each averaged gradient, to be changed in place between backward and step; None where it has none."""
        return [param.grad for param in params]

    def sum_over_parts(self, values: Tensor) -> Tensor:
        """Adds up, in place, what each rank has found on its parts of the gradients."""
        return values

    def clear_gradients(self) -> None:
        """Forgets gradients that the next backward would otherwise find; after every step."""

    def weights(self, param: nn.Parameter) -> Tensor:
        """This rank's part of the weights that the forward reads, to be changed in place."""
        return param.data

    def masters(self, param: nn.Parameter) -> Tensor:
        """What this rank has of a trained parameter without asking others, as exact as it is here."""
        return param.data

    def piece(self, param: nn.Parameter) -> Piece | None:
        """What this rank updates of a trained parameter; None where that is nothing."""
        return Piece(param, at=0, start=0, length=param.numel())

    def whole(self, param: nn.Parameter) -> Tensor:
        """A trained parameter as exact as it is anywhere; every rank must call it."""
        return param.data

    def set(self, param: nn.Parameter, whole: Tensor) -> None:
        """Gives a trained parameter, and what is exact of it here, the value `whole`."""
        param.data.copy_(whole)

    def join(self, param: nn.Parameter, part: Tensor) -> Tensor:
        """The whole of what is shared out as this parameter's weights are; every rank must call it."""
        return part

    def cut(self, param: nn.Parameter, whole: Tensor) -> Tensor:
        """This rank's part of a whole: undoes `join`."""
        return whole


class ShardedOptimizer(Replicated):
    """Stages 1 and 2: the groups of parameters are laid end to end, and each rank updates one stretch of each."""

    divides = True

    def gradients(self, params):
        return [self._gradient(param) for param in params]

    @staticmethod
    def _gradient(param: nn.Parameter) -> Tensor | None:
        mapping = param._hp_mapping
        if mapping is None:
            return None
        gradient = mapping.get_lp_grad_fragment(param._index_in_param_group).view(-1)
        own = mapping.lp_fragment_address
        # DeepSpeed's optimizer for bf16 at stage 1 has the whole gradient here.
        return gradient if len(gradient) == own.numel else gradient.narrow(0, own.start, own.numel)

    def sum_over_parts(self, values):
        return sum_over_ranks(values)

    def piece(self, param):
        mapping = param._hp_mapping
        if mapping is None:
            return None
        (flat,) = self._optimizer.optimizer.param_groups[mapping.param_group_index]["params"]
        own = mapping.lp_fragment_address
        return Piece(flat, at=mapping.hp_fragment_address.start, start=own.start, length=own.numel)

    def set(self, param, whole):
        param.data.copy_(whole)
        if (piece := self.piece(param)) is not None:
            piece.of(piece.flat.data).copy_(piece.cut(whole))

    def whole(self, param):
        return param.data if param.dtype == torch.float32 else param.get_full_hp_param()


class ShardedWeights(Replicated):
    """Stage 3: every parameter is cut, flat and padded, into one equal part a rank; the forward gathers it where it is used."""

    divides = True

    def gradients(self, params):
        found = {}
        for group, members in enumerate(self._optimizer.fp16_groups):
            found |= zip(map(id, members), self._optimizer.averaged_gradients[group], strict=True)
        return [found[id(param)] for param in params]

    def sum_over_parts(self, values):
        return sum_over_ranks(values)

    def clear_gradients(self):
        # What a step does not use would be updated with the gradient of the step before.
        self._optimizer.grad_partitions_flat_buffer.zero_()

    def weights(self, param):
        return param.ds_tensor.data

    def masters(self, param):
        group, start, length = self._optimizer.grad_position[self._optimizer.get_param_id(param)]
        return self._optimizer.fp32_partitioned_groups_flat[group].data.narrow(0, start, length)

    def piece(self, param):
        group, at, padded = self._optimizer.grad_position[self._optimizer.get_param_id(param)]
        start = dist.get_rank() * padded
        length = min(padded, param.ds_numel - start)
        return Piece(self._optimizer.fp32_partitioned_groups_flat[group], at, start, length) if length > 0 else None

    def set(self, param, whole):
        part = self.cut(param, whole)
        self.masters(param).copy_(part)
        self.weights(param).copy_(part)

    def whole(self, param):
        return self.join(param, self.masters(param))

    def join(self, param, part):
        padded = part.new_empty(len(part) * dist.get_world_size())
        dist.all_gather_into_tensor(padded, part.contiguous())
        return padded[: param.ds_numel].view(param.ds_shape)

    def cut(self, param, whole):
        length = len(param.ds_tensor)
        padded = whole.new_zeros(length * dist.get_world_size())
        padded[: param.ds_numel] = whole.flatten()
        return padded.narrow(0, dist.get_rank() * length, length)


STAGES = (Replicated, ShardedOptimizer, ShardedOptimizer, ShardedWeights)
