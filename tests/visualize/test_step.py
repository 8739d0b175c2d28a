"""The sheet of a step's views."""

import pytest
import torch

from tests.visualize.pixels import share_of
from xkd.pipelines.loader import Batch
from xkd.visualize.clips import MASK_GRAY
from xkd.visualize.step import step_sheet


@pytest.mark.parametrize("hides", [False, True])
def test_the_sheet_of_a_step_is_grey_where_the_student_does_not_see(architecture, hides):
    data = architecture.data
    views = {name.removesuffix("_shape"): torch.randn(2, *shape) for name, shape in data.view_shapes.items() if "local" not in name}
    views |= {f"{modality}_global": views.pop(modality) for modality in ("video", "audio")}
    hidden = {modality: torch.full_like(views[f"{modality}_global"], hides, dtype=torch.bool) for modality in ("video", "audio")}
    locals_ = {"video_local": torch.randn(2, 1, *data.local_video_shape), "audio_local": torch.randn(2, 1, *data.local_audio_shape)}
    flags = torch.zeros(2, dtype=torch.bool)
    labels = {"labels": flags, "targets": flags[:, None], "sample_ids": flags, "keys": ["a", "b"]}
    batch = Batch(**views, **locals_, **labels, substituted=flags, valid=~flags)
    figure = step_sheet(batch, hidden, ["first", "second"], [1], data)
    assert [block.get_suptitle() for block in figure.subfigs] == ["second"]
    assert (share_of(figure, [MASK_GRAY] * 3, tolerance=0.01) > 0.1) == hides
