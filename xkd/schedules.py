"""Schedules as pure functions of the step, so that a resumed run needs no scheduler state."""

import math


def linear(step: int, steps: float, start: float, end: float) -> float:
    """Goes from `start` at step 0 to `end` at step `steps` in a straight line and stays there."""
    return end if step >= steps else start + (end - start) * step / steps


def cosine(step: int, steps: float, start: float, end: float) -> float:
    """Goes from `start` at step 0 to `end` at step `steps` along half a cosine wave and stays there."""
    return end + (start - end) * (1 + math.cos(math.pi * min(step / steps, 1))) / 2 if steps > 0 else end


def warmup_cosine(step: int, steps: float, warmup_steps: float, peak: float, final: float = 0.0) -> float:
    """Rises linearly from 0 to `peak` over `warmup_steps`, then falls along half a cosine wave to `final` at `steps`."""
    if step < warmup_steps:
        return linear(step, warmup_steps, 0.0, peak)
    return cosine(step - warmup_steps, steps - warmup_steps, peak, final)
