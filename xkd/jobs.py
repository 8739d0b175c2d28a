"""The table of jobs: what a configuration's root field `job` can be, and the class that knows its fields."""

from importlib import import_module

from pydantic import BaseModel

JOBS = {
    "pretrain": "xkd.train.config:PretrainConfig",
    "eval": "xkd.eval.config:EvalConfig",
    "linear": "xkd.eval.training_config:TrainingEvalConfig",
    "finetune": "xkd.eval.training_config:TrainingEvalConfig",
    "study": "xkd.study.config:StudyConfig",
}


def schemas() -> dict[str, type[BaseModel]]:
    """Every job's configuration class, imported now and not before."""
    return {job: _imported(place) for job, place in JOBS.items()}


def _imported(place: str) -> type[BaseModel]:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
