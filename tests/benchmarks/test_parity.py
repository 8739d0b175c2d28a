"""Golden files made from float64 formulas pass in all variants; what is off, absent or unknown is said."""

from functools import cache

import numpy as np
import pytest

from tests.benchmarks import golden_files
from tests.benchmarks.golden_files import FILES, Variant
from xkd.benchmarks import parity
from xkd.benchmarks.parity_geometry import patches

USUAL = Variant()
WITH_TRANSFORMERS = ["video_encoder", "audio_encoder", "video_autoencoder", "audio_autoencoder", "network"]
VARIANTS = {
    "no class token": Variant(cls_token=False),
    "plain pixels": Variant(norm_pix_loss=False),
    "nothing shared": Variant(sharing="none"),
    "teachers share": Variant(sharing="both"),
    "oblong tokens": Variant(tubelet=(1, 8, 4), patch=(4, 2)),
    "one local view": Variant(video_locals=1),
    "one token in time": Variant(tubelet=(2, 4, 4), video=(3, 2, 16, 16), local_video=(3, 2, 8, 8)),
    "other sizes": Variant(
        video=(3, 6, 8, 16), local_video=(3, 4, 4, 12), audio=(1, 4, 60), local_audio=(1, 4, 32), video_locals=1
    ),
}


@cache
def arrays(name, variant=USUAL):
    return golden_files.make(name, variant)


def written(folder, name, content):
    path = folder / f"{name}.npz"
    np.savez(path, **content)
    return path


def compared(folder, name, content, **options):
    return parity.compare_file(written(folder, name, content), parity.Options(**options))


def missed(result):
    return [row.quantity for row in result.rows if not row.passed]


def test_a_folder_of_every_kind_passes(tmp_path, capsys):
    for name in FILES:
        written(tmp_path, name, arrays(name))
    assert parity.main([str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert f"{len(FILES)} of {len(FILES)} files compared" in printed
    assert "all pass" in printed
    assert all(f"| {name} " in printed for name in FILES)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("name", WITH_TRANSFORMERS)
def test_every_variant_passes(tmp_path, name, variant):
    result = compared(tmp_path, name, arrays(name, variant))
    assert result.fault == ""
    assert missed(result) == []
    assert len(result.rows) > 4


@pytest.mark.parametrize(
    ("name", "variant", "said"),
    [
        ("video_encoder", "oblong tokens", "read as video in tokens of 1x8x4, 3 heads"),
        ("audio_autoencoder", "plain pixels", "read as audio in tokens of 2x4, 3 heads, norm_pix_loss false"),
        (
            "network",
            "teachers share",
            "read as video in tokens of 2x4x4, audio of 2x4, norm_pix_loss true, sharing both",
        ),
    ],
)
def test_what_is_inferred_is_said(tmp_path, name, variant, said):
    assert said in compared(tmp_path, name, arrays(name, VARIANTS[variant])).remarks


OUTPUTS = {
    "video_encoder": ["tok_global", "tok_local", "attn_global", "attn_local", "pos_local", "patches_local0"],
    "masks": ["0/ids_keep", "0/ids_restore", "0/mask", "0/x_masked"],
    "audio_autoencoder": ["latent", "loss", "pred", "mask", "ids_restore", "grad/mask_token", "gradnorm/encoder.enc_pos_embed"],
    "mmd": ["val_f64", "gx_f64", "gy_f64"],
    "distillation": ["0/0/loss", "0/1/grad_student", "1/1/center_after"],
    "refinement": ["0/mean/cvattn", "0/mean/vfeat_aligned", "0/softmax/caattn", "0/softmax/afeat_aligned"],
    "head": ["y", "grad_x", "grad/last_layer.weight_v"],
    "audio": ["global_reflect_norm", "local_reflect_norm", "rrc1"],
    "network": [
        "softmax/loss/loss",
        "softmax/gradnorm/aud_student.head.mlp.6.bias",
        "mean/center_at2vs",
        "mean/grad/aud_ae.mask_token",
        "mean64/loss/as2vs_align_loss",
        "mean64/loss/vt2at_align_loss",
        "mean64/grad/vid_student.backbone.cls_token",
        "clip_norms",
        "after_step/vid_teacher.backbone.cls_token",
        "after_step/aud_student.backbone.enc_pos_embed",
        "after_step_sum/vid_student.backbone.encoder.blocks.0.attn.qkv.weight",
        "after_step_sq/vid_student.backbone.encoder.blocks.1.mlp.fc1.weight",
    ],
}


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, keys in OUTPUTS.items() for key in keys])
def test_a_quantity_that_is_off_misses(tmp_path, name, key):
    content = dict(arrays(name))
    value = content[key]
    content[key] = value + 1 if value.dtype.kind == "i" else value * 1.01 + np.asarray(0.003, value.dtype)
    result = compared(tmp_path, name, content)
    assert result.fault == ""
    group = key.split("/")[0] if name in ("head", "audio_autoencoder") or "after_step" in key else "/".join(key.split("/")[:2])
    assert any(quantity.startswith(group) for quantity in missed(result)), missed(result)
    assert not result.passed


def test_one_miss_makes_the_exit_code_1_and_is_shown(tmp_path, capsys):
    written(tmp_path, "head", {**arrays("head"), "y": arrays("head")["y"] + 0.01})
    written(tmp_path, "masks", arrays("masks"))
    assert parity.main([str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert "1 missed" in printed
    assert "MISS" in next(line for line in printed.splitlines() if line.startswith("| head ") and " y " in line)


def test_nan_is_a_miss(tmp_path):
    assert missed(compared(tmp_path, "head", {**arrays("head"), "y": np.full_like(arrays("head")["y"], np.nan)})) == ["y"]


def test_an_unknown_kind_is_listed_as_not_compared(tmp_path, capsys):
    written(tmp_path, "masks", arrays("masks"))
    written(tmp_path, "weather", {"rain": np.zeros(3)})
    assert parity.main([str(tmp_path)]) == 0
    assert "weather: not compared: of no known kind" in capsys.readouterr().out


def test_arrays_that_nothing_is_compared_with_are_listed(tmp_path):
    remarks = compared(tmp_path, "masks", {**arrays("masks"), "0/weather": np.zeros(3)}).remarks
    assert remarks == ["not compared: 0/weather"]


@pytest.mark.parametrize(
    ("name", "key", "message"),
    [
        ("audio_autoencoder", "mask", "has no array 'mask'"),
        ("video_encoder", "sd/encoder.blocks.1.mlp.fc2.bias", "missing: encoder.blocks.1.mlp.fc2.bias"),
        ("network", "sd/vid_ae.mid_proj.weight", "missing: vid_ae.mid_proj.weight"),
    ],
)
def test_an_absent_array_is_a_miss_that_names_it(tmp_path, capsys, name, key, message):
    written(tmp_path, name, {other: value for other, value in arrays(name).items() if other != key})
    assert parity.main([str(tmp_path)]) == 1
    assert message in capsys.readouterr().out


def test_a_mis_shaped_array_is_a_miss_that_names_it(tmp_path):
    result = compared(tmp_path, "head", {**arrays("head"), "y": arrays("head")["y"][:, :5]})
    assert "y: this model gives shape (6, 24), the file has (6, 5)" in result.fault


def test_text_in_place_of_numbers_is_a_miss_that_names_it(tmp_path):
    result = compared(tmp_path, "head", {**arrays("head"), "x": np.array("x")})
    assert "the array 'x' holds <U1, not real numbers" in result.fault


def test_a_folder_of_unknown_kinds_only_shows_nothing(tmp_path, capsys):
    written(tmp_path, "weather", {"rain": np.zeros(3)})
    assert parity.main([str(tmp_path)]) == 0
    assert "0 of 1 files compared, 0 quantities: nothing is shown" in capsys.readouterr().out


def test_a_file_that_cannot_be_read_is_a_miss_and_hides_no_other(tmp_path, capsys):
    (tmp_path / "broken.npz").write_bytes(b"no zip file")
    np.savez(tmp_path / "objects.npz", x=np.array([{}], dtype=object))
    with open(tmp_path / "bare.npz", "wb") as file:
        np.save(file, np.zeros(3))
    np.savez_compressed(tmp_path / "flipped.npz", x=np.arange(1000.0))
    content = bytearray((tmp_path / "flipped.npz").read_bytes())
    content[len(content) // 3] ^= 0xFF
    (tmp_path / "flipped.npz").write_bytes(content)
    written(tmp_path, "masks", arrays("masks"))
    assert parity.main([str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    for name in ("broken", "objects", "bare", "flipped"):
        assert f"{name}.npz: cannot be read as an npz file of plain arrays" in printed
    assert "unsafely" not in printed  # numpy's advice
    assert "0/ids_keep" in printed


@pytest.mark.parametrize(
    "arguments", [["absent"], ["."], [".", "--set", "loss.video.temperature=1"], [".", "--set", "ema.video=7"]]
)
def test_wrong_arguments_are_refused(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    if len(arguments) > 1:
        written(tmp_path, "masks", arrays("masks"))
    assert parity.main(arguments) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_inputs_rounded_after_use_widen_the_tolerance_of_mmd_gradients_and_this_is_said(tmp_path):
    content = {key: np.asarray(value.detach()) for key, value in golden_files.mmd_file(USUAL, rounded=True).items()}
    rows = {row.quantity: row for row in compared(tmp_path, "mmd", content).rows}
    assert rows["gx_f64"].passed
    assert rows["gx_f64"].error > 1e-4
    assert "float64 itself" in rows["gx_f64"].measure
    assert rows["gx_f64 of the stored inputs"].tolerance == 1e-4
    wrong = compared(tmp_path, "mmd", {**content, "gx_f64": 1.1 * content["gx_f64"]})
    assert missed(wrong) == ["gx_f64"]
    assert missed(compared(tmp_path, "mmd", {**content, "val_f64": 1.01 * content["val_f64"]})) == ["val_f64"]


def test_settings_that_no_file_shows_can_be_given(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(golden_files, "TEMPERATURES", {"vid": 0.09, "aud": 0.05})
    written(tmp_path, "network", golden_files.make("network"))
    assert parity.main([str(tmp_path)]) == 1
    assert parity.main([str(tmp_path), "--set", "loss.video.teacher_temperature=0.09", "loss.audio.teacher_temperature=0.05"]) == 0
    capsys.readouterr()


def test_other_numbers_of_heads_can_be_given(tmp_path):
    assert missed(compared(tmp_path, "video_autoencoder", arrays("video_autoencoder"), heads=2))
    assert missed(compared(tmp_path, "video_autoencoder", arrays("video_autoencoder"), decoder_heads=2))


def test_the_likeliest_cut_is_the_methods():
    assert patches("video", 3072, [(3, 32, 112, 112), (3, 8, 96, 96)])[0] == (4, 16, 16)
    assert patches("audio", 64, [(1, 80, 448), (1, 80, 112)])[0] == (4, 16)
    assert patches("video", 1536, [(3, 32, 64, 64)])[0] == (2, 16, 16)


def test_views_that_no_token_of_the_size_cuts_are_refused():
    with pytest.raises(ValueError, match="no tokens of 3000 values"):
        patches("video", 3000, [(3, 32, 64, 64)])
