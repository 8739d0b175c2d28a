import math

import pytest
import torch

from xkd.eval.averaging import FORMS, average

# Two samples of two views each.
LOGITS = torch.tensor([[0.0, 0.0], [math.log(3), 0.0], [2.0, -2.0], [0.0, 2.0]])


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize(
    ("averaging", "expected"),
    [
        ("softmax", [(0.5 + 0.75) / 2, (0.5 + 0.25) / 2, (sigmoid(4) + sigmoid(-2)) / 2, (sigmoid(-4) + sigmoid(2)) / 2]),
        ("sigmoid", [(0.5 + 0.75) / 2, 0.5, (sigmoid(2) + 0.5) / 2, 0.5]),
        ("logits", [math.log(3) / 2, 0.0, 1.0, 0.0]),
    ],
)
def test_the_views_of_a_sample_are_averaged_in_the_form_that_the_protocol_names(averaging, expected):
    assert average(LOGITS, 2, averaging).flatten().tolist() == pytest.approx(expected)


def test_mean_probabilities_still_sum_to_one():
    scores = average(torch.randn(18, 5), 2, "softmax")
    torch.testing.assert_close(scores.sum(1), torch.ones(2))


@pytest.mark.parametrize("averaging", FORMS)
def test_one_view_is_scored_as_it_is_and_low_precision_is_averaged_in_float32(averaging):
    logits = torch.randn(3, 4, dtype=torch.bfloat16)
    scores = average(logits, 3, averaging)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, FORMS[averaging](logits.float()))
