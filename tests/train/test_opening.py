"""What a run says of itself before its first step."""

from xkd.config import load
from xkd.train.config import PretrainConfig
from xkd.train.opening import opening
from xkd.train.utilisation import Utilisation


def said(gpu, ranks, *fields):
    config = load("pretrain/xkd.yaml", fields, {"pretrain": PretrainConfig})
    return [line.strip() for line in opening(config, Utilisation(ranks, gpu, 10**12))]


def test_a_run_states_its_batch_its_scaled_learning_rate_and_its_network():
    lines = said("NVIDIA H100 80GB HBM3", 4, "train.global_batch=128")
    assert lines[0] == "batch    128 clips = 4 ranks x 1 x 32"
    assert lines[1] == "lr       0.0001 x 128/256 = 5e-05 after 30 epochs of warm-up"
    assert lines[2].startswith("network  396.4 M parameters, 206.3 M of them trained; 437 GFLOP")
    assert lines[3].endswith(", ZeRO stage 1, teachers replicated")
    assert lines[4] == "device   NVIDIA H100 80GB HBM3; MFU is the share of 989 TFLOP/s (bfloat16, dense)"


def test_why_there_is_no_mfu_is_said():
    assert said(None, 1)[4] == "device   CPU; without a GPU there is no MFU"
    assert "its peak is not in the table" in said("NVIDIA A10G", 1)[4]


def test_all_places_that_metrics_go_to_are_named():
    assert said(None, 1)[5] == "logs     runs/xkd/metrics.jsonl, tensorboard"
    assert said(None, 1, "log={tensorboard: false, wandb: {mode: offline}}")[5] == (
        "logs     runs/xkd/metrics.jsonl, Weights & Biases (offline)"
    )
