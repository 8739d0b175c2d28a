import pytest
import torch

from xkd.neighbours import TEMPERATURE, knn_hits, places


def drawn(clips, width=6, seed=0):
    return torch.randn(clips, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def one_by_one(rows, labels, asked, neighbours):
    """The vote on each clip, written out."""
    hits = []
    for clip in asked.tolist():
        others = [other for other in range(len(rows)) if other != clip]
        similarity = {other: torch.cosine_similarity(rows[clip], rows[other], dim=0).item() for other in others}
        nearest = sorted(others, key=similarity.get, reverse=True)[:neighbours]
        votes = torch.zeros(10, dtype=torch.float64)
        for other in nearest:
            votes[labels[other]] += torch.tensor(similarity[other] / TEMPERATURE).exp()
        hits.append(votes.argmax() == labels[clip])
    return torch.stack(hits)


@pytest.mark.parametrize("neighbours", [1, 5, 200])
def test_knn_is_the_vote_written_out(neighbours):
    rows, labels, asked = drawn(30), torch.arange(30) % 3, torch.arange(1, 30, 2)
    rows += 0.5 * drawn(3, seed=1)[labels]
    expected = one_by_one(rows, labels, asked, neighbours)
    assert 0 < expected.sum() < len(asked)
    assert torch.equal(knn_hits(rows, labels, asked, neighbours), expected)


def test_a_clip_is_no_neighbour_of_its_own():
    assert not knn_hits(torch.eye(4), torch.arange(4), torch.arange(4), 1).any()


def test_who_is_asked_changes_nothing_for_the_others():
    rows, labels = drawn(20), torch.arange(20) % 2
    whole = knn_hits(rows, labels, torch.arange(20), 3)
    parts = [knn_hits(rows, labels, torch.arange(rank, 20, 2), 3) for rank in range(2)]
    assert torch.equal(torch.stack(parts, 1).flatten(), whole)
    assert torch.equal(places(rows, drawn(20, seed=1), torch.tensor([7])), places(rows, drawn(20, seed=1), torch.arange(20))[7:8])


def test_a_place_counts_the_candidates_that_are_at_least_as_near():
    queries = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    candidates = torch.tensor([[5.0, 0.0], [1.0, 0.1], [1.0, 0.2]])
    assert places(queries, candidates, torch.arange(3)).tolist() == [0, 1, 0]


def test_candidates_that_say_nothing_are_found_by_nobody():
    assert places(drawn(5), torch.zeros(5, 6, dtype=torch.float64), torch.arange(5)).tolist() == [4] * 5
