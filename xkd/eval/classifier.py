"""An encoder with a linear layer on its features.

Shapes: B clips, D width of a feature, K classes.
"""

import torch
from torch import Tensor, nn

from xkd.kernels.random_mask import LOW_32_BITS, philox
from xkd.model.vit import Encoder

DROPOUT_STREAM = 2  # pre-training draws the masks of video and audio as streams 0 and 1


class Classifier(nn.Module):
    """Logits of clips, from the mean of an encoder's patch tokens. `frozen`: the encoder is not trained, only the layer is.

    The layer starts at 0, so that nothing is drawn for it. `dropout` is the probability that a feature's value is left out in
    training; a function of (seed, step, position in the global batch), like every other draw of a step.
    """

    def __init__(self, encoder: Encoder, num_classes: int, *, dropout: float = 0.0, frozen: bool = False, seed: int = 0):
        super().__init__()
        self.encoder = encoder.requires_grad_(not frozen)
        self.head = nn.Linear(encoder.norm.normalized_shape[0], num_classes)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.dropout, self.frozen, self.seed = dropout, frozen, seed

    def forward(self, clip: Tensor, *, step: int = 0, first_row: int = 0) -> Tensor:
        """Logits [B, K]. In training, `first_row` is the position of these clips in the global batch of `step`."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            features_BD = self.encoder.features(clip)
        if self.training and self.dropout:
            features_BD = dropped(features_BD, self.dropout, self.seed, step, first_row)
        return self.head(features_BD)

    def log_probabilities(self, clip: Tensor) -> Tensor:
        """[B, K]"""
        return self(clip).log_softmax(-1)

    def group_matcher(self, coarse: bool = False) -> dict:
        """Depth of each parameter, as timm's layer-wise decay asks for it: tokenizer, blocks one by one, then norm and head."""
        return {"stem": r"^encoder\.tokenizer\.", "blocks": r"^encoder\.blocks\.(\d+)\.", "top": r"^encoder\.norm\.|^head\."}


def dropped(features_BD: Tensor, probability: float, seed: int, step: int, first_row: int) -> Tensor:
    """The features, each value 0 with this probability and otherwise divided by 1 - probability."""
    device = features_BD.device
    columns_D = torch.arange(features_BD.shape[1], device=device)
    rows_B1 = torch.arange(first_row, first_row + len(features_BD), device=device)[:, None]
    purpose = (torch.full((), value, dtype=torch.int64, device=device) for value in (step, DROPOUT_STREAM))
    bits_BD = philox(seed, torch.broadcast_tensors(columns_D, rows_B1, *purpose))[0]
    kept_BD = bits_BD >= round(probability * (LOW_32_BITS + 1))
    return features_BD * kept_BD / (1 - probability)
