"""RandAugment of DALI's augmentations, with operation, strength and sign drawn by our random numbers.

DALI's own `rand_augment` draws them itself, at a fixed strength. Ranges are those of timm's increasing ("inc1") set: the strength
of every operation grows with the magnitude.
"""

import numpy as np
from nvidia.dali import types
from nvidia.dali.auto_aug import augmentations as dali
from nvidia.dali.auto_aug.core import select, signed_bin
from nvidia.dali.data_node import DataNode

from xkd.pipelines.config import RandAugment
from xkd.pipelines.views.augment_erase import gaussian

BINS = 31  # magnitude 10 is bin 30
FILL = 128
POLICY_UNIFORMS = 5  # of each operation

NO_OPERATION = dali.identity
OPERATIONS = (
    dali.auto_contrast,
    dali.equalize,
    dali.invert,
    dali.rotate.augmentation((0, 30), True),
    dali.posterize.augmentation((4, 0), False),
    dali.solarize.augmentation((256, 0)),
    dali.solarize_add.augmentation((0, 110)),
    dali.color.augmentation((0, 0.9), True),
    dali.contrast.augmentation((0, 0.9), True),
    dali.brightness.augmentation((0, 0.9), True),
    dali.sharpness.augmentation((0, 0.9), True),
    dali.shear_x.augmentation((0, 0.3), True),
    dali.shear_y.augmentation((0, 0.3), True),
    dali.translate_x.augmentation((0, 0.45), True),
    dali.translate_y.augmentation((0, 0.45), True),
)


def draw_policy(uniform: np.ndarray, settings: RandAugment) -> dict[str, np.ndarray]:
    """Each operation's number (0: none), magnitude bin and sign, int32 [ops]; takes ops * POLICY_UNIFORMS uniforms."""
    applied, choice, sign, *normal = uniform.reshape(POLICY_UNIFORMS, settings.ops)
    magnitude = settings.magnitude + settings.magnitude_std * gaussian(np.concatenate(normal))
    bins = np.clip(np.rint(magnitude * (BINS - 1) / 10), 0, BINS - 1)
    operation = np.where(applied < settings.probability, 1 + np.floor(choice * len(OPERATIONS)), 0)
    return {
        "operation": operation.astype(np.int32),
        "magnitude": bins.astype(np.int32),
        "negative": (sign < 0.5).astype(np.int32),
    }


def apply_policy(
    pixels: DataNode, settings: RandAugment, size: int, operation: DataNode, magnitude: DataNode, negative: DataNode
) -> DataNode:
    """Apply the drawn operations to square uint8 frames FHWC."""
    strength = signed_bin(magnitude, random_sign=negative)
    for k in range(settings.ops):
        pixels = select(
            [NO_OPERATION, *OPERATIONS],
            operation[k],
            pixels,
            magnitude_bin=strength[k],
            num_magnitude_bins=BINS,
            fill_value=FILL,
            interp_type=types.INTERP_LINEAR,
            shape=[size, size],
        )
    return pixels
