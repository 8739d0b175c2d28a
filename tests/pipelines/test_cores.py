import os

import pytest

from xkd.pipelines.config import DataConfig
from xkd.pipelines.cores import LOCAL_RANKS, own_cores
from xkd.pipelines.views.example import ExampleConfig
from xkd.pipelines.views.graph import build_graph


@pytest.fixture
def bound():
    """Binds this process to cores, for as long as a test takes."""
    before = os.sched_getaffinity(0)
    yield lambda cores: os.sched_setaffinity(0, cores)
    os.sched_setaffinity(0, before)


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch):
    for name in LOCAL_RANKS:
        monkeypatch.delenv(name, raising=False)


def test_a_process_has_the_cores_that_it_is_bound_to(bound):
    assert own_cores() == len(os.sched_getaffinity(0))
    bound({min(os.sched_getaffinity(0))})
    assert own_cores() == 1


@pytest.mark.parametrize("name", LOCAL_RANKS)
def test_the_ranks_of_a_launcher_share_them(monkeypatch, name):
    cores = len(os.sched_getaffinity(0))
    monkeypatch.setenv(name, str(cores))
    assert own_cores() == 1
    monkeypatch.setenv(name, str(2 * cores))
    assert own_cores() == 1


def test_pipelines_share_a_rank_s_cores_where_nothing_else_is_configured(bound):
    assert DataConfig(train="unused").pipeline_threads == own_cores()
    assert DataConfig(train="unused", pipelines=own_cores(), prefetch=own_cores()).pipeline_threads == 1
    bound({min(os.sched_getaffinity(0))})
    assert DataConfig(train="unused", pipelines=2).pipeline_threads == 1
    assert DataConfig(train="unused", pipelines=2, num_threads=3).pipeline_threads == 3


def test_the_graph_has_that_many_threads(bound):
    def threads(**changes) -> int:
        return build_graph(ExampleConfig(train="unused", **changes), batch_size=1, device="cpu").num_threads

    assert threads() == own_cores()
    assert threads(num_threads=3) == 3
    bound({min(os.sched_getaffinity(0))})
    assert threads() == 1
