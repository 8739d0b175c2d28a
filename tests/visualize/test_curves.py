"""Training curves."""

from tests.visualize.pixels import colours
from xkd.visualize.curves import curves


def rows(**others):
    return [{"step": step, "loss": 1 / step, "recon_video": 1.0, "lr": 0.1, **others} for step in range(20, 80, 20)]


def titles(metrics):
    return [axis.get_title() for axis in curves(metrics).get_axes() if axis.get_title()]


def test_panels_without_recorded_metrics_are_left_out():
    assert titles(rows()) == ["loss", "masked reconstruction", "learning rate"]
    assert "distillation" in titles(rows(v2a=1.0))
    assert "distillation" not in titles(rows(v2a=None))


def test_a_number_that_was_not_finite_is_a_gap_and_a_probe_may_be_in_some_rows_only():
    metrics = rows(v2a=1.0)
    metrics[1]["v2a"] = None
    metrics[2]["probe/knn_video"] = 0.5
    (distillation,) = [axis for axis in curves(metrics).get_axes() if axis.get_title() == "distillation"]
    assert list(distillation.lines[0].get_xdata()) == [20, 60]
    assert titles(metrics)[-1] == "k-NN accuracy of the teachers"
    assert len(colours(curves(metrics))) > 100
