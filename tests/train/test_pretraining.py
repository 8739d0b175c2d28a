"""What pre-training asks of the network from step to step."""

import pytest

from tests.train.plain import STEPS_PER_EPOCH, batch_of, configuration
from xkd.train.distributed import Place
from xkd.train.pretraining import Pretraining

ALONE = Place(0, 0, 1)


@pytest.mark.parametrize(("epochs", "first"), [(0, 0), (0.5, STEPS_PER_EPOCH // 2), (1, STEPS_PER_EPOCH)])
def test_distillation_and_alignment_count_from_the_asked_epoch_on(epochs, first):
    config = configuration((f"optim.recon_only_epochs={epochs}", "loss.align_group=2"))
    task = Pretraining(config, ALONE, STEPS_PER_EPOCH)
    heads = [parameter for name, parameter in task.model.named_parameters() if "student.head" in name and parameter.requires_grad]

    def heads_learn(step):
        batch = batch_of(config, step, ALONE)
        task.model.zero_grad()
        outcome = task.forward(task.model, batch, slice(0, len(batch.keys)), step, task.schedule(step))
        outcome.loss.backward()
        return any(bool(head.grad.any()) for head in heads)

    assert [heads_learn(step) for step in (first, first + 1)] == [True, True]
    assert first == 0 or not heads_learn(first - 1)
