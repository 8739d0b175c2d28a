"""How well features tell clips apart: the classes of nearest neighbours, and finding a clip's other modality.

Shapes: N clips, Q of them that are asked about, C classes, D width. Similarity is the cosine.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

TEMPERATURE = 0.07


def knn_hits(rows_ND: Tensor, labels_N: Tensor, asked_Q: Tensor, neighbours: int) -> Tensor:
    """Whether the nearest other clips name the class of each clip asked about, bool [Q].

    Each of the `neighbours` nearest (all others, where there are fewer) votes for its class with exp(similarity / 0.07): the
    weighted k-NN of instance discrimination (Wu et al. 2018) and DINO, with every clip held out in turn.
    """
    units_ND = normalize(rows_ND, dim=1)
    similarity_QN = units_ND[asked_Q] @ units_ND.T
    similarity_QN.scatter_(1, asked_Q[:, None], -torch.inf)
    votes_QC = vote(similarity_QN, labels_N, min(neighbours, len(rows_ND) - 1), int(labels_N.max()) + 1)
    return votes_QC.argmax(1) == labels_N[asked_Q]


def vote(similarity_QN: Tensor, labels_N: Tensor, neighbours: int, num_classes: int) -> Tensor:
    """Votes for each class [Q, C] of the nearest clips (all, where there are fewer), exp(similarity / 0.07) each."""
    nearest = similarity_QN.topk(min(neighbours, similarity_QN.shape[1]), dim=1)
    votes_QC = similarity_QN.new_zeros(len(similarity_QN), num_classes)
    return votes_QC.scatter_add_(1, labels_N[nearest.indices], (nearest.values / TEMPERATURE).exp())


def places(queries_ND: Tensor, candidates_ND: Tensor, asked_Q: Tensor) -> Tensor:
    """How many other candidates are at least as similar to each query asked about as its own, int64 [Q]; 0: found at once.

    Row i of both belongs to the same clip. A tie is in nobody's favour.
    """
    similarity_QN = normalize(queries_ND[asked_Q], dim=1) @ normalize(candidates_ND, dim=1).T
    return (similarity_QN >= similarity_QN.gather(1, asked_Q[:, None])).sum(1) - 1
