"""What the report of a run checks."""

import numpy as np
import pytest

from xkd.eval.compare import TRAINED, UNTRAINED
from xkd.report import _gain_check, _net_checks, _training_checks
from xkd.visualize.curves import read_metrics

HEALTHY = {
    **{"recon_error_video": 0.6, "patch_mean_error_video": 1.0, "feature_std_video": 0.3},
    **{"recon_error_audio": 0.5, "patch_mean_error_audio": 1.0, "feature_std_audio": 0.2},
}


def failed(checks):
    return [check.sentence for check in checks if check.required and not check.holds]


def test_a_healthy_net_fails_nothing():
    assert failed(_net_checks({"trained": HEALTHY, "untrained": HEALTHY})) == []
    assert failed(_training_checks([{"recon": 0.9}, {"recon": 0.6}])) == []


@pytest.mark.parametrize("modality", ["video", "audio"])
def test_features_under_a_third_of_the_untrained_nets_spread_are_a_collapse(modality):
    name = f"feature_std_{modality}"
    collapsed = HEALTHY | {name: HEALTHY[name] / 3 * 0.99}
    (sentence,) = failed(_net_checks({"trained": collapsed, "untrained": HEALTHY}))
    assert sentence.startswith(f"{modality}: features have deviation")
    kept = HEALTHY | {name: HEALTHY[name] / 3 * 1.01}
    assert failed(_net_checks({"trained": kept, "untrained": HEALTHY})) == []


@pytest.mark.parametrize("modality", ["video", "audio"])
def test_reconstruction_no_better_than_the_patch_mean_fails(modality):
    useless = HEALTHY | {f"recon_error_{modality}": 1.0}
    (sentence,) = failed(_net_checks({"trained": useless, "untrained": HEALTHY}))
    assert sentence.startswith(f"{modality}: error of masked patches 1.000")


@pytest.mark.parametrize("last", [0.9, 1.2, float("nan")])
def test_a_reconstruction_loss_that_did_not_fall_fails(last):
    assert failed(_training_checks([{"recon": 0.9}, {"recon": last}]))


def test_a_gain_needs_intervals_that_do_not_overlap_and_is_reported_but_not_required():
    def right(share):
        return {"both": np.arange(600) < share * 600}

    assert _gain_check({TRAINED: right(0.9), UNTRAINED: right(0.7)}).holds
    overlapping = _gain_check({TRAINED: right(0.72), UNTRAINED: right(0.7)})
    assert not overlapping.holds
    assert not overlapping.required


def test_a_run_without_reconstruction_is_not_asked_whether_it_fell():
    assert _training_checks([{"loss": 0.9}, {"loss": 0.6}]) == []


def test_a_run_without_metrics_is_refused_by_name(tmp_path):
    for text in (None, ""):
        if text is not None:
            (tmp_path / "metrics.jsonl").write_text(text)
        with pytest.raises(ValueError, match=r"metrics\.jsonl: holds no training metrics"):
            read_metrics(tmp_path)
