"""The grouped losses on two real gloo ranks against one process, in torch and with the Triton kernels interpreted."""

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests.model.tiny import shake, tiny_batch, tiny_xkd
from xkd.kernels.distill_ce import distill_ce
from xkd.losses import ALONE, alignment
from xkd.train.distributed import Place, ranks_of

WORLD_SIZE, SAMPLES, DIM = 2, 4, 24
VIEWS = {"student_video": 2, "student_audio": 3, "teacher_video": 1, "teacher_audio": 1}


def features_of(rows):
    generator = torch.Generator().manual_seed(0)
    whole = {name: torch.randn(count, SAMPLES, DIM, generator=generator) / 4 for name, count in VIEWS.items()}
    return {name: feature[:, rows].clone().requires_grad_() for name, feature in whole.items()}


def align(group, ranks, rows):
    features = features_of(rows)
    of_students, of_teachers = alignment(features, group, ranks)
    return {"students": of_students, "teachers": of_teachers}, 2 * of_students - 3 * of_teachers, features, 1


def distill(_, ranks, rows):
    features = features_of(rows)
    value = distill_ce(features["teacher_video"], torch.linspace(-1, 1, DIM), features["student_audio"], 0.07, 0.1)
    return {"v2a": value}, 3 * value, {"student_audio": features["student_audio"]}, 1


def whole_loss(group, ranks, rows):
    xkd = tiny_xkd(loss={"align_group": group}, ranks=ranks)
    shake(xkd)
    output = xkd(*(view[rows] for view in tiny_batch(SAMPLES)), step=7, first_row=rows.start)
    return {"loss": output.loss, **output.parts}, output.loss, dict(xkd.named_parameters()), None


LOSSES = {"alignment": align, "distillation": distill, "the whole loss": whole_loss}
CASES = [(name, group) for name in LOSSES for group in ("global", 2)]


def values_and_gradients(name, group, ranks, rows):
    """Values, gradients by name, and the gradients' dimension of samples, or None where they are those of parameters."""
    values, loss, inputs, dim = LOSSES[name](group, ranks, rows)
    loss.backward()
    gradients = {key: x.grad.numpy() for key, x in inputs.items() if x.grad is not None}
    return {key: value.item() for key, value in values.items()}, gradients, dim


def run_rank(rank, store, results):
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=WORLD_SIZE)
    half = SAMPLES // WORLD_SIZE
    rows, ranks = slice(rank * half, (rank + 1) * half), ranks_of(Place(rank, rank, WORLD_SIZE))
    for case in CASES:
        results[rank, case] = values_and_gradients(*case, ranks, rows)
    dist.destroy_process_group()


def relative(found, expected):
    return np.linalg.norm(found - expected) / max(np.linalg.norm(expected), 1e-12)


@pytest.mark.long
@pytest.mark.parametrize("implementation", ["torch", "triton"])
def test_two_ranks_average_to_one_process(implementation, tmp_path, monkeypatch):
    """The ranks, processes of their own, run `implementation`; the one process stays with torch."""
    with mp.Manager() as manager, monkeypatch.context() as environment:
        environment.setenv("XKD_KERNELS", implementation)
        environment.setenv("TRITON_INTERPRET", "1" if implementation == "triton" else "0")
        results = manager.dict()
        mp.spawn(run_rank, (tmp_path / "store", results), nprocs=WORLD_SIZE)
        results = dict(results)
    for case in CASES:
        values, gradients, _ = values_and_gradients(*case, ALONE, slice(0, SAMPLES))
        (first_values, first, dim), (second_values, second, _) = results[0, case], results[1, case]
        averages = {key: (first_values[key] + second_values[key]) / 2 for key in values}
        assert averages == pytest.approx(values, rel=1e-5), case
        if case[1] == "global" and case[0] == "alignment":
            assert first_values == second_values
        assert first.keys() == gradients.keys()
        for key, expected in gradients.items():
            # A feature belongs to one rank, whose gradient of it data parallelism halves; a parameter to both.
            joined = first[key] + second[key] if dim is None else np.concatenate([first[key], second[key]], axis=dim)
            assert relative(joined / WORLD_SIZE, expected) < 1e-5, (case, key)
