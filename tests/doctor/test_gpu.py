"""What fits a driver, and this machine's."""

import pytest
import torch

from xkd.doctor.gpu import check, judge_driver


@pytest.mark.parametrize(
    ("driver", "wants", "says"),
    [
        ((13, 0), {"torch": 13, "nvidia-dali-cuda130": 13}, None),
        ((12, 4), {"torch": 12, "nvidia-dali-cuda120": 12}, None),
        ((13, 1), {"torch": 12, "nvidia-dali-cuda120": 12}, None),
        ((12, 4), {"torch": 13, "nvidia-dali-cuda120": 12}, "runs CUDA 12.4, but torch is built for 13"),
        ((12, 4), {"torch": 13, "nvidia-dali-cuda130": 13}, "torch is built for 13 and nvidia-dali-cuda130 is built for 13"),
        ((12, 4), {"torch": None}, "torch is built without CUDA"),
    ],
)
def test_a_driver_runs_what_is_built_for_its_cuda_or_an_older_one(driver, wants, says):
    verdict = judge_driver(driver, wants)
    assert verdict.status == ("failed" if says else "ok")
    assert (says or "fit") in verdict.found


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_without_a_gpu_nothing_is_checked_and_that_is_said(alone):
    (verdict,) = check(alone)
    assert (verdict.check, verdict.status) == ("driver", "not checked")
    assert "training runs on the CPU" in verdict.found


@pytest.mark.gpu
def test_a_gpu_and_its_decoder_are_ok(alone):
    assert {verdict.check: verdict.status for verdict in check(alone)} == {"driver": "ok", "gpu": "ok", "libnvcuvid": "ok"}
