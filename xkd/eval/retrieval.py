"""Finding a test clip's sound among all by its pictures, and its pictures by its sound."""

from dataclasses import asdict

import torch

from xkd.eval.config import RetrievalConfig
from xkd.eval.protocol import Trial
from xkd.eval.scores import estimate
from xkd.neighbours import places

RECALLS = (1, 5, 10)
QUERIES_AT_ONCE = 1024


@torch.inference_mode()
def run(config: RetrievalConfig, trial: Trial) -> dict[str, dict]:
    """The record of both directions: `rK` is the share of samples whose own other modality is among the K most similar.

    Compared are the outputs of the heads, which were trained to agree, less their mean over the test samples.
    """
    outputs = {modality: head.cpu().eval()(torch.from_numpy(trial.test.mean(modality))) for modality, head in trial.heads.items()}
    centred = {modality: output - output.mean(0) for modality, output in outputs.items()}
    records = {}
    for query, candidate in (("video", "audio"), ("audio", "video")):
        asked = torch.arange(len(trial.test.keys))
        found = torch.cat([places(centred[query], centred[candidate], part) for part in asked.split(QUERIES_AT_ONCE)])
        recalls = {f"r{among}": asdict(estimate((found < among).numpy())) for among in RECALLS if among < len(found)}
        median = float(found.double().quantile(0.5)) + 1
        note = f"the own one is at place {median:g} of {len(found)} in the median; chance has r1 {100 / len(found):.2f}"
        records[f"{query} to {candidate}"] = recalls | {"median_place": median, "note": note}
    return records
