"""Linear SVM on frozen features, its C chosen by cross-validation on the training split.

Shapes: N samples, V views of each, D width, K classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from sklearn.model_selection import GridSearchCV, StratifiedGroupKFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import LinearSVC

from xkd.eval.config import SvmConfig
from xkd.eval.metrics import top_hits
from xkd.eval.protocol import Trial, one_hot
from xkd.eval.results import judge
from xkd.features import Features


@dataclass(frozen=True)
class SvmResult:
    """Mean decisions over the views of the test samples, with the C that was chosen and the accuracy that each had by the rule."""

    scores: np.ndarray  # [N, K]
    correct: np.ndarray  # bool, one a test sample
    c: float
    accuracy_by_c: dict[float, float]

    @property
    def predictions(self) -> np.ndarray:
        return self.scores.argmax(1)


def run(config: SvmConfig, trial: Trial) -> dict[str, dict]:
    """The record of each modality, and of both where there are two."""
    recordings = [trial.task.recording(key) for key in trial.train.keys]
    found = evaluate_svm(trial.train, trial.test, config, trial.seed, num_classes=trial.num_classes, recordings=recordings)
    targets = one_hot(trial.test.labels, trial.num_classes)
    how = {
        "cross-validation": f"by {config.folds}-fold cross-validation on the training split",
        "release": "THE BEST ON THE TEST SPLIT, as in the authors' release",
    }[config.svm_c]
    return {
        modality: judge(result.scores, targets, trial.task)
        | {"c": result.c, "accuracy_by_c": result.accuracy_by_c, "note": f"C = {result.c:g}, {how}"}
        for modality, result in found.items()
    }


def evaluate_svm(
    train: Features,
    test: Features,
    config: SvmConfig,
    seed: int,
    *,
    num_classes: int | None = None,
    recordings: Sequence[str] | None = None,
) -> dict[str, SvmResult]:
    """One SVM a modality, and one on all of them side by side where there are several ("both").

    Each view of a training sample is a row. `recordings` names what each sample was cut from: what is of one recording (None: of
    one sample) is never on both sides of a cross-validation.
    """
    num_classes = num_classes or int(max(train.labels.max(), test.labels.max())) + 1
    groups = np.unique(recordings if recordings is not None else train.keys, return_inverse=True)[1]
    evaluate = partial(_evaluate, config=config, seed=seed, num_classes=num_classes, groups=groups)
    return {modality: evaluate(modality, train, test) for modality in train.modalities}


def _evaluate(
    modality: str, train: Features, test: Features, *, config: SvmConfig, seed: int, num_classes: int, groups: np.ndarray
) -> SvmResult:
    views = train.of(modality).shape[1]
    rows, labels, groups = _rows(train, modality, config), np.repeat(train.labels, views), np.repeat(groups, views)
    test_rows = _rows(test, modality, config)

    def decide(fitted) -> np.ndarray:
        """Mean decisions [N, K]; a class that the training split lacks is the least likely."""
        decisions = fitted.decision_function(test_rows)
        decisions = np.stack([-decisions, decisions], axis=1) if decisions.ndim == 1 else decisions
        scores = np.full((len(decisions), num_classes), decisions.min() - 1)
        scores[:, fitted.classes_] = decisions
        return scores.reshape(len(test.labels), -1, num_classes).mean(1)

    build = partial(_pipeline, train, modality, config)
    choose = {"cross-validation": _by_cross_validation, "release": _by_test_split}[config.svm_c]
    chosen, accuracy_by_c, fitted = choose(build, rows, labels, groups, config, seed, decide, test.labels)
    scores = decide(fitted)
    return SvmResult(scores, _correct(scores, test.labels), chosen, accuracy_by_c)


def _by_cross_validation(build, rows, labels, groups, config: SvmConfig, seed: int, decide, test_labels):
    """The C with the best accuracy on the rows held out, all of a recording at a time, and the SVM of all rows with it."""
    several = len(np.unique(groups)) < len(rows)
    kind, groups = (StratifiedGroupKFold, groups) if several else (StratifiedKFold, None)
    folds = list(kind(config.folds, shuffle=True, random_state=seed).split(rows, labels, groups))
    search = GridSearchCV(build(), {"linearsvc__C": config.c}, cv=folds, error_score="raise").fit(rows, labels)
    accuracies = dict(zip(config.c, search.cv_results_["mean_test_score"].tolist(), strict=True))
    return search.best_params_["linearsvc__C"], accuracies, search.best_estimator_


def _by_test_split(build: Callable, rows, labels, groups, config: SvmConfig, seed: int, decide: Callable, test_labels):
    """The C with the best accuracy on the test split: the release's rule, which flatters."""
    fitted = {c: build().set_params(linearsvc__C=c).fit(rows, labels) for c in config.c}
    accuracies = {c: float(_correct(decide(svm), test_labels).mean()) for c, svm in fitted.items()}
    best = max(accuracies, key=accuracies.get)
    return best, accuracies, fitted[best]


def _pipeline(train: Features, modality: str, config: SvmConfig):
    """Columns are standardised inside the pipeline, so that a held-out fold never sets its own scale."""
    svm = LinearSVC(dual=False, tol=1e-3)
    if config.scaling != "standard":
        return make_pipeline(svm)
    # Divided by the root of its width, a modality weighs the same as the other in "both", and C means the same at any width.
    scales = np.concatenate([np.full(part.shape[2], part.shape[2] ** -0.5) for part in train.parts(modality)])
    return make_pipeline(StandardScaler(), FunctionTransformer(partial(np.multiply, scales)), svm)


def _rows(features: Features, modality: str, config: SvmConfig) -> np.ndarray:
    """Every view of every sample [N * V, D]."""
    parts = features.parts(modality)
    if config.scaling == "unit":
        parts = [part / np.linalg.norm(part, axis=2, keepdims=True) for part in parts]
    return np.concatenate(parts, axis=2).reshape(-1, sum(part.shape[2] for part in parts))


def _correct(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return top_hits(scores, one_hot(labels, scores.shape[1]))["top1"]
