"""What a golden file's shapes leave open: how clips are cut into tokens, and the number of heads."""

import math
from collections.abc import Sequence
from itertools import product

from xkd.model.config import DECODERS, ENCODERS, AudioConfig, Modality, VideoConfig

Shape = tuple[int, ...]

USUAL: dict[Modality, Shape] = {"video": VideoConfig().tubelet, "audio": AudioConfig().patch}
GOLDEN_HEADS = 3  # of the files' nano networks, whose widths are no named size's
ENCODER_HEADS, DECODER_HEADS = ({size.dim: size.heads for size in sizes.values()} for sizes in (ENCODERS, DECODERS))


def patches(modality: Modality, values: int, views: Sequence[Shape]) -> list[Shape]:
    """The tubelets (pt, ph, pw) or patches (ph, pw) of `values` values that these views can be cut into, likeliest first.

    Likeliest: nearest to the method's, square before oblong. Raises ValueError where there is none.
    """
    channels = views[0][0]
    sides = [math.gcd(*lengths) for lengths in zip(*(view[1:] for view in views), strict=True)]
    fitting = [patch for patch in product(*map(_divisors, sides)) if channels * math.prod(patch) == values]
    if not fitting:
        raise ValueError(f"{modality}: no tokens of {values} values cut the views {', '.join(map(str, views))} evenly")
    return sorted(fitting, key=lambda patch: (_distance(patch, USUAL[modality]), patch[-2] != patch[-1]))


def heads(dim: int, by_width: dict[int, int], given: int | None) -> int:
    """As given, else the named size's of this width, else the golden files'."""
    return given or by_width.get(dim, GOLDEN_HEADS)


def _divisors(number: int) -> list[int]:
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


def _distance(one: Shape, other: Shape) -> float:
    return sum(abs(math.log2(a / b)) for a, b in zip(one, other, strict=True))
