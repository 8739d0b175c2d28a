"""What share of its GPUs' arithmetic a run makes use of (MFU)."""

from dataclasses import dataclass

import torch

from xkd.model import flops
from xkd.train.config import PretrainConfig

TERA = 10**12
# Words of a device's name: TFLOP/s of its matrix units in bfloat16, without sparsity. Source: the makers' data sheets.
PEAKS = {
    ("B200",): 2250,
    ("H200", "NVL"): 836,
    ("H200",): 989,
    ("GH200",): 989,
    ("H100", "HBM3"): 989,  # SXM
    ("H100", "NVL"): 835,
    ("H100", "PCIe"): 756,
    ("A100",): 312,
    ("A40",): 150,
    ("A30",): 165,
    ("A10",): 125,
    ("L40S",): 362,
    ("L40",): 181,
    ("L4",): 121,
}


def peak_flops(device: str) -> float | None:
    """Operations a second of the GPU of this name, in bfloat16; None where the table does not have it, or it is part of a GPU."""
    words = set(device.replace("-", " ").split())
    rows = [] if "MIG" in words else [row for row in PEAKS if words.issuperset(row)]
    return PEAKS[max(rows, key=len)] * TERA if rows else None


def clip_cost(config: PretrainConfig) -> flops.Cost:
    """What the network of this configuration holds, and computes for one clip."""
    data = config.data
    locals_ = {"num_local_videos": data.video.local_view.count, "num_local_audios": data.audio.local_view.count}
    return flops.cost(config.model, config.loss.weights, **data.view_shapes, **locals_)


@dataclass(frozen=True)
class Utilisation:
    """The GPUs of a run, one a rank, and what a clip asks of them."""

    ranks: int
    gpu: str | None  # its name; None: the run is on CPUs
    flops_per_clip: int  # forward and backward; activations that are computed again do not count

    @classmethod
    def of(cls, config: PretrainConfig, ranks: int) -> "Utilisation":
        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
        return cls(ranks, gpu, clip_cost(config).step_flops)

    def rates(self, clips_per_second: float) -> dict[str, float]:
        """Clips a second of one GPU and, where its peak is known, the share `mfu` of it; nothing on CPUs."""
        if self.gpu is None:
            return {}
        per_gpu = clips_per_second / self.ranks
        peak = peak_flops(self.gpu)
        return {"clips_per_second_per_gpu": per_gpu} | ({"mfu": per_gpu * self.flops_per_clip / peak} if peak else {})
