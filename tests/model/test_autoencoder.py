"""The decoder predicts the masked tokens alone; pictures put its predictions back where they belong."""

import pytest
import torch

from tests.model.tiny import shake, tiny_batch, tiny_xkd

MODALITIES = ("video", "audio")


def parts(modality, **changes):
    xkd = tiny_xkd(dtype=torch.float64, **changes)
    shake(xkd)
    clip = dict(zip(("video", "_", "audio", "_"), tiny_batch(dtype=torch.float64), strict=True))[modality]
    return xkd, getattr(xkd, f"{modality}_student"), clip


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("cls_token", [True, False])
def test_predictions_are_those_of_decoding_every_token(modality, cls_token):
    xkd, student, clip = parts(modality, cls_token=cls_token)
    mask, num_class = xkd.draw_mask(modality, clip, step=0, first_row=0), int(cls_token)
    visible = student.encoder(clip, mask.keep)
    embedded, decoder = student.decoder.embedding(visible), student.decoder
    tokens = decoder.mask_token.expand(len(clip), decoder.positions.shape[1], -1).clone()
    tokens[:, :num_class] = embedded[:, :num_class]
    tokens[torch.arange(len(clip))[:, None], mask.keep + num_class] = embedded[:, num_class:]
    tokens = tokens + decoder.positions
    for block in decoder.blocks:
        tokens = block(tokens)
    predicted = decoder.prediction(tokens)[torch.arange(len(clip))[:, None], mask.drop + num_class]
    torch.testing.assert_close(decoder(visible, mask), predicted)


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_picture_differs_from_the_clip_in_masked_places_only(modality):
    xkd, _, clip = parts(modality)
    masked, reconstruction, original, where = xkd.reconstruct(clip, modality, step=3)
    share = xkd.draw_mask(modality, clip, step=3, first_row=0).mask.float().mean()
    assert torch.equal(original, clip)
    assert torch.equal(masked, clip.masked_fill(where, 0))
    assert torch.equal(reconstruction[~where], clip[~where])
    assert (reconstruction[where] != clip[where]).all()
    torch.testing.assert_close(where.float().mean(), share)


@pytest.mark.parametrize("modality", MODALITIES)
def test_predicting_nothing_reconstructs_the_mean_of_each_patch(modality):
    xkd, student, clip = parts(modality)
    torch.nn.init.zeros_(student.decoder.prediction.weight)
    torch.nn.init.zeros_(student.decoder.prediction.bias)
    picture = xkd.reconstruct(clip, modality)
    torch.testing.assert_close(picture.reconstruction[picture.mask], xkd.patch_means(clip, modality)[picture.mask])


@pytest.mark.parametrize("norm_pix_loss", [True, False])
def test_the_pictures_error_is_the_loss(norm_pix_loss):
    """In the loss's units: a patch's squared error divided by its variance where patches are standardised."""
    xkd, student, clip = parts("video", loss={"norm_pix_loss": norm_pix_loss}, weights={"recon": 1, "cmkd": 0, "align": 0})
    picture = xkd.reconstruct(clip, "video", step=5, first_row=2)
    error = (picture.reconstruction - clip).square()
    if norm_pix_loss:
        mean = xkd.patch_means(clip, "video")
        size = student.encoder.tokenizer.projection.in_features
        error = error / (xkd.patch_means((clip - mean).square(), "video") * size / (size - 1) + 1e-6)
    _, _, audio, _ = tiny_batch(dtype=torch.float64)
    loss = xkd(clip, None, audio, None, step=5, first_row=2).parts["recon_video"]
    torch.testing.assert_close(error[picture.mask].mean(), loss)
