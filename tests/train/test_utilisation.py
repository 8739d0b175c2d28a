"""MFU against what it is made of."""

import pytest

from xkd.config import load
from xkd.train.config import PretrainConfig
from xkd.train.utilisation import Utilisation, clip_cost, peak_flops


@pytest.mark.parametrize(
    ("device", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA H200", 989),
        ("NVIDIA H200 NVL", 836),
        ("NVIDIA GH200 480GB", 989),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A100 80GB PCIe", 312),
        ("NVIDIA A10", 125),
        ("NVIDIA L40S", 362),
        ("NVIDIA L40", 181),
        ("NVIDIA L4", 121),
    ],
)
def test_a_device_has_the_peak_of_its_data_sheet(device, teraflops):
    assert peak_flops(device) == teraflops * 1e12


@pytest.mark.parametrize("device", ["NVIDIA A10G", "Tesla V100-SXM2-16GB", "NVIDIA H100", "NVIDIA A100-SXM4-40GB MIG 1g.5gb", ""])
def test_a_device_that_is_not_in_the_table_or_is_part_of_one_has_none(device):
    assert peak_flops(device) is None


def test_a_run_at_the_peak_of_all_its_gpus_has_an_mfu_of_1():
    found = Utilisation(ranks=8, gpu="NVIDIA H100 80GB HBM3", flops_per_clip=10**12).rates(8 * 989.0)
    assert found == {"clips_per_second_per_gpu": 989.0, "mfu": pytest.approx(1.0)}


def test_a_gpu_of_unknown_peak_has_a_rate_alone_and_a_cpu_has_nothing():
    assert Utilisation(2, "Some GPU", 10**12).rates(10.0) == {"clips_per_second_per_gpu": 5.0}
    assert Utilisation(2, None, 10**12).rates(10.0) == {}


def test_a_clip_of_the_paper_costs_what_the_method_says_less_what_is_not_predicted():
    config = load("pretrain/xkd.yaml", [], {"pretrain": PretrainConfig})
    assert clip_cost(config).step_flops / 1e9 == pytest.approx(442, rel=0.015)
    assert clip_cost(config).trainable_parameters / 1e6 == pytest.approx(206.3, abs=0.05)


def test_terms_of_weight_0_are_not_counted_as_work_done():
    config = load("pretrain/xkd.yaml", ["loss.weights={cmkd: 0, align: 0}"], {"pretrain": PretrainConfig})
    assert clip_cost(config).step_flops < 250e9
