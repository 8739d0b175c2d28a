"""Training with DeepSpeed: engine, trainer, clipping, EMA, checkpoints, metrics."""
