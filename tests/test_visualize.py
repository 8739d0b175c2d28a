import numpy as np
import pytest
import torch
from matplotlib.image import imread

from tests.runs import pretrain_settings, write_settings
from xkd import visualize
from xkd.eval.checkpoint import read_architecture
from xkd.eval.scores import Estimate
from xkd.pipelines.loader import Batch
from xkd.pipelines.shards.index import ShardSet


@pytest.fixture(scope="module")
def shards(tiny_shards):
    return ShardSet.open(tiny_shards)


@pytest.fixture(scope="module")
def architecture(tiny_shards, tmp_path_factory):
    return read_architecture(write_settings(tmp_path_factory.mktemp("settings") / "pretrain.yaml", pretrain_settings(tiny_shards)))


def colours(path):
    """The pixels of a picture [N, 3] in 0..1."""
    return imread(path)[..., :3].reshape(-1, 3)


def test_training_curves_leave_out_what_was_not_recorded(tmp_path):
    recon_only = [{"step": step, "loss": 1 / step, "recon_video": 1.0, "lr": 0.1} for step in range(20, 80, 20)]
    full = [{**row, "v2a": 1.0, "teacher_entropy_video": 2.0} for row in recon_only]
    for name, metrics in (("recon", recon_only), ("full", full)):
        visualize.loss_curves(metrics, tmp_path / f"{name}.png")
    assert imread(tmp_path / "recon.png").shape[0] < imread(tmp_path / "full.png").shape[0]


def test_the_accuracy_chart_draws_a_longer_bar_for_a_better_row(tmp_path):
    def width_of_first_bar(mean):
        rows = {"net": {"video": Estimate(mean, mean, mean)}}
        visualize.accuracy_chart(rows, tmp_path / "chart.png")
        return (np.abs(colours(tmp_path / "chart.png") - np.array([0x1F, 0x77, 0xB4]) / 255).max(axis=1) < 0.02).sum()

    assert width_of_first_bar(0.8) == pytest.approx(2 * width_of_first_bar(0.4), rel=0.05)


def test_the_rows_of_a_reconstruction_agree_where_nothing_was_hidden(architecture):
    net = architecture.build(seed=0)
    clip = torch.randn(2, *architecture.data.video_shape)
    rows = visualize.reconstruction_rows(net, "video", clip)
    hidden = rows["input"].isnan()
    assert list(rows) == ["original", "input", "patch means", "reconstruction"]
    assert hidden.float().mean() == pytest.approx(1 - round(32 * 0.15) / 32)
    for row in rows.values():
        torch.testing.assert_close(row[~hidden], clip[~hidden])


def test_what_the_picture_is_given_is_shown_as_a_row_of_its_own(architecture):
    net = architecture.build(seed=0)
    clip = torch.randn(2, *architecture.data.audio_shape)
    rows = visualize.reconstruction_rows(net, "audio", clip)
    hidden = rows["input"].isnan()
    column = hidden[0, 0, 0].nonzero()[0]  # a patch is one column of all 16 mel bands
    torch.testing.assert_close(rows["patch means"][0, 0, :, column], clip[0, 0, :, column].mean().expand(16, 1))
    assert "taken from the original" in visualize.reconstruction_title(net)


def test_without_per_patch_normalisation_nothing_is_given_away(architecture):
    loss = architecture.loss.model_copy(update={"norm_pix_loss": False})
    net = architecture.model_copy(update={"loss": loss}).build(seed=0)
    rows = visualize.reconstruction_rows(net, "video", torch.randn(1, *architecture.data.video_shape))
    assert "patch means" not in rows
    assert "taken from the original" not in visualize.reconstruction_title(net)


def test_reconstructions_of_real_clips_are_drawn(shards, architecture, tmp_path):
    visualize.reconstructions(architecture.build(seed=0), shards, architecture.data, tmp_path / "deep" / "recon.png", samples=2)
    assert len(np.unique((colours(tmp_path / "deep" / "recon.png") * 255).round(), axis=0)) > 100


@pytest.mark.parametrize("hides", [False, True])
def test_the_sheet_of_a_step_is_grey_where_the_student_does_not_see(architecture, tmp_path, hides):
    data = architecture.data
    views = {name.removesuffix("_shape"): torch.randn(2, *shape) for name, shape in data.view_shapes.items() if "local" not in name}
    views |= {f"{modality}_global": views.pop(modality) for modality in ("video", "audio")}
    hidden = {modality: torch.full_like(views[f"{modality}_global"], hides, dtype=torch.bool) for modality in ("video", "audio")}
    locals_ = {"video_local": torch.randn(2, 1, *data.local_video_shape), "audio_local": torch.randn(2, 1, *data.local_audio_shape)}
    flags = torch.zeros(2, dtype=torch.bool)
    labels = {"labels": flags, "targets": flags[:, None], "sample_ids": flags, "keys": ["a", "b"]}
    batch = Batch(**views, **locals_, **labels, substituted=flags, valid=~flags)
    visualize.step_sheet(batch, hidden, ["first", "second"], [1], data, tmp_path / "sheet.png")
    grey = (np.abs(colours(tmp_path / "sheet.png") - visualize.MASK_GRAY).max(axis=1) < 0.01).mean()
    assert (grey > 0.1) == hides
