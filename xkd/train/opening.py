"""What a run says of itself before its first step."""

from xkd.train.config import EMA_FORM, PretrainConfig
from xkd.train.engine import precision_of
from xkd.train.utilisation import TERA, Utilisation, clip_cost, peak_flops


def opening(config: PretrainConfig, utilisation: Utilisation) -> list[str]:
    """Batch, learning rate, network, device and logs, a line each."""
    train, optim, cost = config.train, config.optim, clip_cost(config)
    ranks, accumulation = utilisation.ranks, train.accumulation
    clips = train.global_batch // (ranks * accumulation)
    stage = config.deepspeed.zero_stage
    trained, held = cost.trainable_parameters / 1e6, cost.parameters / 1e6
    lr = optim.lr * train.global_batch / optim.base_batch
    rows = {
        "batch": f"{train.global_batch} clips = {ranks} rank{'s' * (ranks > 1)} x {accumulation} x {clips}",
        "lr": f"{optim.lr:g} x {train.global_batch}/{optim.base_batch} = {lr:g} after {optim.warmup_epochs:g} epochs of warm-up",
        "network": f"{held:.1f} M parameters, {trained:.1f} M of them trained; {cost.step_flops / 1e9:.3g} GFLOP a clip and step",
        "numbers": f"{precision_of(config)}, ZeRO stage {stage}, teachers {config.ema.form or EMA_FORM[stage]}",
        "device": _device(utilisation.gpu),
        "logs": ", ".join(_logs(config)),
    }
    return [f"  {name:8} {text}" for name, text in rows.items()]


def _device(gpu: str | None) -> str:
    if gpu is None:
        return "CPU; without a GPU there is no MFU"
    peak = peak_flops(gpu)
    if peak is None:
        return f"{gpu}; no MFU, for its peak is not in the table of xkd/train/utilisation.py"
    return f"{gpu}; MFU is the share of {peak / TERA:g} TFLOP/s (bfloat16, dense)"


def _logs(config: PretrainConfig) -> list[str]:
    wandb = config.log.wandb
    tensorboard = ["tensorboard"] if config.log.tensorboard else []
    return [str(config.run_dir / "metrics.jsonl"), *tensorboard, *([f"Weights & Biases ({wandb.mode})"] if wandb else [])]
