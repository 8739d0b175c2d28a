"""Random numbers as a pure function of what they are for: numpy's Philox, keyed (seed, epoch), its counter naming the purpose.

Only the raw words of the bit generator are used: numpy promises those for ever, but not what `Generator` makes of them.
"""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What numbers are drawn for: one stream never shifts another."""

    ORDER = 0
    CLIP = 1
    VIDEO_GLOBAL = 2
    VIDEO_LOCAL = 3
    AUDIO_GLOBAL = 4
    AUDIO_LOCAL = 5
    FIRST_FRAME = 6
    SHARD_ORDER = 7
    FIRST_SAMPLE = 8
    NOISE_GLOBAL = 9
    NOISE_LOCAL = 10


def words(count: int, seed: int, epoch: int, stream: Stream, sample: int = 0, view: int = 0) -> np.ndarray:
    """`count` uint64 words; the other arguments lie in [0, 2^64), and `view` tells the views of one stream apart."""
    key, counter = np.array([seed, epoch], np.uint64), np.array([0, view, stream, sample], np.uint64)
    return np.random.Philox(key=key, counter=counter).random_raw(count)


def uniforms(count: int, seed: int, epoch: int, stream: Stream, sample: int = 0, view: int = 0) -> np.ndarray:
    """`count` float64 numbers in [0, 1)."""
    return (words(count, seed, epoch, stream, sample, view) >> np.uint64(11)) * 2.0**-53
