"""What `xkd plan` does."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone

from xkd.benchmarks.scaling import Cluster
from xkd.plan.estimate import Estimate, Form
from xkd.plan.figures import results_folder
from xkd.plan.gpus import parse_fleet
from xkd.plan.tables import render
from xkd.train.config import PretrainConfig


def plan(
    config: PretrainConfig,
    name: str,
    gpus: str,
    *,
    dataset_clips: int | None = None,
    clips_per_gpu: float | None = None,
    gpus_per_node: int | None = None,
    gpu_tflops: float | None = None,
    gpu_memory_gib: float | None = None,
    assumed: Mapping[str, float] | None = None,
    form: Form | None = None,
) -> str:
    """The plan of a run of `config`, read from the file `name`, on `gpus` such as 16xH100.

    `assumed` replaces fields of the model's Cluster. Raises ValueError for what the run would refuse, for a GPU that is not known,
    and where the number of clips is unknown.
    """
    cluster = replace(Cluster(), **(assumed or {}))
    fleet = parse_fleet(gpus, per_node=gpus_per_node or cluster.gpus_per_node, tflops=gpu_tflops, memory_gib=gpu_memory_gib)
    known = {"results": results_folder(), "today": datetime.now(timezone.utc).date(), "form": form or Form()}
    return render(Estimate(config, name, fleet, cluster, clips=dataset_clips, clips_per_gpu=clips_per_gpu, **known))
