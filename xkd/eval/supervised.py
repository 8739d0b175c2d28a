"""A reference: the same encoders trained from labels, with a linear classifier each."""

import copy
from itertools import chain

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_
from tqdm import tqdm

from xkd.eval.classifier import Classifier
from xkd.eval.config import SupervisedConfig
from xkd.features import Features, clips_of
from xkd.model.xkd import XKD
from xkd.pipelines.config import DataConfig
from xkd.pipelines.loader import Loader
from xkd.pipelines.shards.index import ShardSet
from xkd.schedules import warmup_cosine


def train_classifiers(net: XKD, shards: ShardSet, data: DataConfig, config: SupervisedConfig, seed: int) -> dict[str, Classifier]:
    """Train copies of both student encoders of `net` on the augmented global views and labels of `shards`.

    One decoding pass feeds both; their losses share no parameter, so each learns as it would alone.
    Raises ValueError where a sample has not exactly one label.
    """
    shards.labels()
    encoders = {"video": net.video_student.encoder, "audio": net.audio_student.encoder}
    classifiers = {
        modality: Classifier(copy.deepcopy(encoder), len(shards.classes)).train() for modality, encoder in encoders.items()
    }
    parameters = chain.from_iterable(classifier.parameters() for classifier in classifiers.values())
    optimizer = torch.optim.AdamW(parameters, betas=config.betas, weight_decay=config.weight_decay)
    with Loader(shards, global_views_only(data), preset="pretrain", batch_size=config.batch_size, seed=seed) as loader:
        steps = config.epochs * len(loader)
        batches = chain.from_iterable(map(loader.epoch, range(config.epochs)))
        for step, batch in enumerate(tqdm(batches, total=steps, desc="supervised", unit="step", disable=None)):
            for group in optimizer.param_groups:
                group["lr"] = warmup_cosine(step, steps, config.warmup * steps, config.lr)
            clips = clips_of(batch)
            loss = sum(cross_entropy(classifier(clips[modality]), batch.labels) for modality, classifier in classifiers.items())
            optimizer.zero_grad()
            loss.backward()
            for classifier in classifiers.values():
                clip_grad_norm_(classifier.parameters(), config.clip_norm)
            optimizer.step()
    return {modality: classifier.eval() for modality, classifier in classifiers.items()}


def global_views_only(data: DataConfig) -> DataConfig:
    """The same views without the local ones, which cost decoding time."""

    def without_locals(stream):
        return stream.model_copy(update={"local_view": stream.local_view.model_copy(update={"count": 0})})

    return data.model_copy(update={"video": without_locals(data.video), "audio": without_locals(data.audio)})


def correctness(log_probabilities: Features) -> dict[str, np.ndarray]:
    """Which clips each classifier gets right [N], and which their mean log-probability does ("both")."""
    scores = {modality: log_probabilities.mean(modality) for modality in log_probabilities.arrays}
    scores["both"] = sum(scores.values())
    return {modality: score.argmax(axis=1) == log_probabilities.labels for modality, score in scores.items()}
