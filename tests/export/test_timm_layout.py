import pytest
import torch

from tests.exports import write_export
from tests.model.tiny import AUDIO, VIDEO, shake, tiny_xkd
from xkd.export.layouts import LAYOUTS
from xkd.export.timm_layout import timm_name, timm_snippet
from xkd.model.config import ENCODERS
from xkd.model.tokenizers import Tokenizer
from xkd.model.vit import Encoder, transformer_blocks


@pytest.mark.parametrize("cls_token", [True, False])
@pytest.mark.parametrize(("modality", "shape"), [("video", VIDEO), ("audio", AUDIO)])
@torch.no_grad()
def test_timm_s_model_gives_the_features(modality, shape, cls_token, tmp_path):
    encoder = getattr(tiny_xkd(cls_token=cls_token), f"{modality}_teacher").encoder.eval()
    for parameter in encoder.parameters():
        parameter.requires_grad_(True)
    shake(encoder)
    file = tmp_path / "encoder.safetensors"
    LAYOUTS["timm"].save(encoder, file)
    names = {"view": torch.randn(2, *shape)}
    exec(timm_snippet(encoder, str(file)), names)
    torch.testing.assert_close(names["features"], encoder.features(names["view"]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", ENCODERS)
def test_a_named_size_is_timm_s_of_that_name(size):
    with torch.device("meta"):
        tokenizer = Tokenizer(AUDIO, (4, 4), ENCODERS[size].dim, True, "audio")
        encoder = Encoder(tokenizer, transformer_blocks(ENCODERS[size]), ENCODERS[size].dim)
    assert timm_name(encoder) == f"vit_{size}_patch16_224"


def test_the_card_holds_the_code_for_both_modalities(run, tmp_path):
    card = (write_export(run, tmp_path / "out", "timm") / "README.md").read_text()
    assert card.count("timm.create_model") == 2
    assert 'load_file("audio_timm.safetensors")' in card
