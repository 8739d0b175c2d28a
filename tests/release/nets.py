"""Networks whose every tensor has values of its own, and comparing them."""

import torch

from tests.model.tiny import tiny_xkd

VARIANTS = [{"sharing": sharing, "cls_token": cls_token} for sharing in ("none", "student", "both") for cls_token in (True, False)]
HEADS = {"heads": 3}  # of tiny_xkd's encoders, whose width has no name


def filled_xkd(seed=3, **changes):
    """A tiny network with random parameters and centres, teachers unlike students."""
    xkd = tiny_xkd(**changes)
    generator = torch.Generator().manual_seed(seed)
    for tensor in xkd.state_dict().values():
        tensor.normal_(generator=generator)
    return xkd


def equal(one, other):
    """Whether two modules hold the same values to the bit."""
    values, others = one.state_dict(), other.state_dict()
    return values.keys() == others.keys() and all(torch.equal(values[name], others[name]) for name in values)
