"""A trained net beside its references on the same test clips: chance, raw features, an untrained and a supervised net."""

from collections.abc import Mapping

from xkd.eval.checkpoint import Architecture, encoders
from xkd.eval.config import SupervisedConfig, SvmConfig
from xkd.eval.raw import RAW
from xkd.eval.scores import chance
from xkd.eval.supervised import correctness, train_classifiers
from xkd.eval.svm import evaluate_svm
from xkd.eval.tables import Correctness
from xkd.features import FeatureNet, Features, extract
from xkd.model.xkd import XKD
from xkd.pipelines.config import DataConfig
from xkd.pipelines.loader import Loader
from xkd.pipelines.shards.index import ShardSet

BATCH_SIZE = 40
TRAINED, UNTRAINED = "trained net, SVM", "untrained net, SVM"


def compare(
    trained: XKD,
    architecture: Architecture,
    shards: Mapping[str, ShardSet],
    *,
    backbone: str,
    svm: SvmConfig,
    supervised: SupervisedConfig,
    seed: int,
) -> Correctness:
    """Which test clips each row gets right, for video, audio and both.

    The frozen nets and the raw features are judged by the same linear SVM, fitted on the training shards and on features of one
    decoding pass; the supervised net by the classifiers that it was trained with, from the weights that the untrained net has.
    """
    data = architecture.data
    nets = {
        "raw features, SVM": RAW,
        UNTRAINED: encoders(architecture.build(seed), backbone),
        TRAINED: encoders(trained, backbone),
    }
    features = {split: _features(shards[split], data, nets) for split in ("train", "test")}
    rows = {}
    for name in nets:
        train, test = features["train"][name], features["test"][name]
        rows[name] = {modality: result.correct for modality, result in evaluate_svm(train, test, svm, seed).items()}
    rows["supervised net"] = _supervised(architecture, shards, supervised, seed)
    uniform = chance(features["test"][TRAINED].labels, len(shards["test"].classes))
    return {"chance": dict.fromkeys(rows[TRAINED], uniform), **rows}


def _supervised(architecture: Architecture, shards: Mapping[str, ShardSet], config: SupervisedConfig, seed: int):
    classifiers = train_classifiers(architecture.build(seed), shards["train"], architecture.data, config, seed)
    nets = {"supervised": {modality: classifier.log_probabilities for modality, classifier in classifiers.items()}}
    return correctness(_features(shards["test"], architecture.data, nets)["supervised"])


def _features(shards: ShardSet, data: DataConfig, nets: Mapping[str, FeatureNet]) -> dict[str, Features]:
    with Loader(shards, data, preset="eval", batch_size=BATCH_SIZE) as loader:
        return extract(loader, nets)
