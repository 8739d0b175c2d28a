import copy

import pytest
import torch

from xkd.eval.classifier import Classifier, dropped

CLASSES = 3


@pytest.fixture
def encoder(architecture):
    return architecture.build(seed=2).video_teacher.encoder


@pytest.fixture
def clip(architecture):
    return torch.randn(4, *architecture.data.video_shape, generator=torch.Generator().manual_seed(0))


def test_logits_are_a_linear_map_of_the_mean_patch_token_after_the_norm(encoder, clip):
    classifier = Classifier(encoder, CLASSES).eval()
    with torch.no_grad():
        classifier.head.weight.normal_(generator=torch.Generator().manual_seed(1))
        classifier.head.bias.fill_(0.5)
    tokens = encoder(clip)[:, 1:]
    torch.testing.assert_close(classifier(clip), tokens.mean(1) @ classifier.head.weight.T + 0.5)


def test_it_accepts_views_of_another_size_than_the_encoders(encoder):
    assert Classifier(encoder, CLASSES)(torch.randn(2, 3, 8, 48, 48)).shape == (2, CLASSES)


def test_frozen_or_not_decides_what_is_trained(encoder, clip):
    for frozen in (True, False):
        classifier = Classifier(copy.deepcopy(encoder), CLASSES, frozen=frozen).train()
        with torch.no_grad():
            classifier.head.weight.fill_(0.1)
        classifier(clip)[:, 0].sum().backward()
        assert {name.split(".")[0] for name, param in classifier.named_parameters() if param.grad is not None} == (
            {"head"} if frozen else {"head", "encoder"}
        )


def test_dropout_leaves_out_its_share_and_keeps_the_mean():
    features = torch.ones(64, 512)
    left = dropped(features, 0.3, seed=1, step=5, first_row=0)
    assert left.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    assert (left == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert left.mean().item() == pytest.approx(1.0, abs=0.02)


def test_dropout_depends_on_seed_step_and_row_of_the_global_batch_alone():
    features = torch.randn(8, 32)
    whole = dropped(features, 0.5, seed=1, step=5, first_row=16)
    parts = [dropped(features[row : row + 2], 0.5, seed=1, step=5, first_row=16 + row) for row in range(0, 8, 2)]
    assert torch.equal(whole, torch.cat(parts))
    assert not torch.equal(whole == 0, dropped(features, 0.5, seed=1, step=6, first_row=16) == 0)
    assert not torch.equal(whole == 0, dropped(features, 0.5, seed=2, step=5, first_row=16) == 0)
    assert not torch.equal(whole[0] == 0, whole[1] == 0)


def test_nothing_is_dropped_in_evaluation(encoder, clip):
    classifier = Classifier(encoder, CLASSES, dropout=0.9)
    with torch.no_grad():
        classifier.head.weight.fill_(1.0)
        trained, evaluated = classifier.train()(clip), classifier.eval()(clip)
        torch.testing.assert_close(evaluated, classifier.head(encoder.features(clip)))
    assert not torch.equal(trained, evaluated)
