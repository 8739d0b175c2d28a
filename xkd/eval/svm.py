"""Linear SVM on frozen features, its C chosen by cross-validation on the training split."""

from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from xkd.eval.config import SvmConfig
from xkd.eval.features import Features


@dataclass(frozen=True)
class SvmResult:
    """Predictions on the test split, with the C that cross-validation chose and the accuracy it saw for each."""

    predictions: np.ndarray
    correct: np.ndarray  # bool, one a test clip
    c: float
    cv_accuracy: dict[float, float]


def evaluate_svm(train: Features, test: Features, config: SvmConfig, seed: int) -> dict[str, SvmResult]:
    """One SVM a modality, and one on all of them concatenated where there are several ("both")."""
    return {modality: _evaluate(modality, train, test, config, seed) for modality in train.modalities}


def _evaluate(modality: str, train: Features, test: Features, config: SvmConfig, seed: int) -> SvmResult:
    # Standardised inside the pipeline, so that a held-out fold never sets its own scale.
    net = make_pipeline(StandardScaler(), LinearSVC(dual=False, random_state=seed))
    folds = StratifiedKFold(config.folds, shuffle=True, random_state=seed)
    search = GridSearchCV(net, {"linearsvc__C": config.c}, cv=folds, error_score="raise").fit(train.of(modality), train.labels)
    cv_accuracy = dict(zip(config.c, search.cv_results_["mean_test_score"].tolist(), strict=True))
    predictions = search.predict(test.of(modality))
    return SvmResult(predictions, predictions == test.labels, search.best_params_["linearsvc__C"], cv_accuracy)
