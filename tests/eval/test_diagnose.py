import pytest
import torch

from xkd.eval.diagnose import diagnose, masked_errors
from xkd.kernels.masked_recon_loss import masked_recon_loss
from xkd.model.autoencoder import Reconstruction
from xkd.pipelines.loader import Loader
from xkd.pipelines.shards.index import ShardSet

PATCH = (2, 4, 4)


@pytest.fixture
def pictures():
    """A clip in which the left half is masked and predicted as twice the original."""
    original = torch.randn(3, 3, 4, 8, 8)
    mask = torch.zeros_like(original, dtype=torch.bool)
    mask[..., :4] = True
    return Reconstruction(original.masked_fill(mask, 0), torch.where(mask, 2 * original, original), original, mask)


def test_a_perfect_reconstruction_has_no_error(pictures):
    of_net, of_means = masked_errors(pictures._replace(reconstruction=pictures.original), PATCH)
    assert of_net.abs().max() == 0
    assert of_means.min() > 0


def test_only_masked_patches_count(pictures):
    of_net, of_means = masked_errors(pictures, PATCH)
    assert len(of_net) == len(of_means) == 3 * 4  # 3 clips of 8 patches, half of them masked
    elsewhere = pictures._replace(reconstruction=torch.where(pictures.mask, pictures.reconstruction, 99.0))
    torch.testing.assert_close(masked_errors(elsewhere, PATCH)[0], of_net)


def test_predicting_the_mean_costs_the_share_of_variance_that_is_left(pictures):
    values = 2 * 4 * 4 * 3
    of_means = masked_errors(pictures, PATCH)[1]
    torch.testing.assert_close(of_means, torch.full_like(of_means, (values - 1) / values), rtol=1e-4, atol=0)


def test_a_net_of_a_real_set_is_measured_in_both_modalities(tiny_shards, architecture):
    with Loader(ShardSet.open(tiny_shards), architecture.data, preset="eval", batch_size=5) as loader:
        measures = diagnose(architecture.build(seed=0), loader)
    assert set(measures) == {
        f"{measure}_{modality}" for measure in ("recon_error", "patch_mean_error", "feature_std") for modality in ("video", "audio")
    }
    assert measures["recon_error_video"] > measures["patch_mean_error_video"] > 0.5  # an untrained net is worse than the mean
    assert min(measures.values()) > 0


def test_the_error_is_the_training_loss_of_the_same_masks(tiny_shards, architecture):
    net = architecture.build(seed=0)
    with Loader(ShardSet.open(tiny_shards), architecture.data, preset="eval", batch_size=12) as loader:
        measured = diagnose(net, loader)["recon_error_video"]
        clip = next(iter(loader.epoch(0))).video_global
    student = net.video_student
    mask = net.draw_mask("video", clip, step=0, first_row=0)
    predicted = student.decoder(student.encoder(clip, mask.keep), mask)
    assert measured == pytest.approx(
        masked_recon_loss(clip, mask.drop, predicted, student.encoder.tokenizer.patch).item(), rel=1e-4
    )


def test_a_collapsed_net_has_no_feature_std(tiny_shards, architecture):
    net = architecture.build(seed=0)
    torch.nn.init.zeros_(net.audio_student.encoder.norm.weight)
    with Loader(ShardSet.open(tiny_shards), architecture.data, preset="eval", batch_size=12) as loader:
        measures = diagnose(net, loader)
    assert measures["feature_std_audio"] == 0 < measures["feature_std_video"]
