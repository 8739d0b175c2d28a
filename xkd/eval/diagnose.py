"""How well a net reconstructs what was masked, and whether its features have collapsed."""

import torch
from torch import Tensor

from xkd.features import clips_of, counted_batches
from xkd.kernels.masked_recon_loss import patch_statistics
from xkd.kernels.patch_gather import patch_gather
from xkd.model.autoencoder import Reconstruction
from xkd.model.tokenizers import volume
from xkd.model.xkd import XKD
from xkd.pipelines.loader import Loader


@torch.inference_mode()
def diagnose(net: XKD, loader: Loader) -> dict[str, float]:
    """Measures of the students over every clip that `loader` (preset "eval") yields, for each modality M.

    `recon_error_M`: mean squared error of masked patches, in units of each patch's own deviation. `patch_mean_error_M`: the same of
    predicting each patch's mean. `feature_std_M`: deviation of the unmasked clips' features over clips, averaged over dimensions.
    """
    features = {"video": [], "audio": []}
    errors = {f"{kind}_{modality}": [] for kind in ("recon_error", "patch_mean_error") for modality in features}
    first_row = 0
    for batch in counted_batches(loader):
        for modality, clip in clips_of(batch).items():
            encoder = getattr(net, f"{modality}_student").encoder
            features[modality].append(encoder.features(clip))
            pictures = net.reconstruct(clip, modality, first_row=first_row)
            of_net, of_means = masked_errors(pictures, encoder.tokenizer.patch)
            errors[f"recon_error_{modality}"].append(of_net)
            errors[f"patch_mean_error_{modality}"].append(of_means)
        first_row += len(batch.keys)
    means = {name: torch.cat(parts).mean().item() for name, parts in errors.items()}
    spread = {f"feature_std_{modality}": torch.cat(parts).std(0).mean().item() for modality, parts in features.items()}
    return means | spread


def masked_errors(pictures: Reconstruction, patch: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Squared error of each masked patch [M], of the reconstruction and of the patch's mean, over the patch's own variance."""
    predicted_BNP, original_BNP, mask_BNP = (
        patch_gather(volume(picture), None, patch) for picture in (pictures.reconstruction, pictures.original, pictures.mask.byte())
    )
    mean, std = patch_statistics(original_BNP)
    masked_BN = mask_BNP[..., 0].bool()
    return tuple(((guess - original_BNP) / std).square().mean(-1)[masked_BN] for guess in (predicted_BNP, mean))
