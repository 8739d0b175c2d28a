"""Two nodes of a SLURM job, rehearsed in network namespaces: they share the run directory and the shards, and nothing else."""

import os
import shutil

import pytest

from tests.launch import cluster

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ip"), reason="network namespaces need root and iproute2"),
]


@pytest.fixture
def nodes(tmp_path):
    with cluster.Nodes(tmp_path) as both:
        yield both


@pytest.fixture
def start(nodes, run, tmp_path):
    """Starts the run on both nodes, one rank on each."""
    programs = nodes.programs()
    options = (f"data.stage_dir={nodes.scratch}", f"run_dir={tmp_path / 'run'}", "train.hang_timeout_minutes=0.25")
    command = (programs / "srun", "--ntasks-per-node=1", "xkd", "launch", "--ranks", "1", *run, *options)
    return lambda: cluster.start(command, programs)


def test_two_nodes_go_on_after_one_is_cut_off_and_after_one_dies_to_the_same_numbers(nodes, start, undisturbed, tmp_path):
    run_dir = tmp_path / "run"
    first = start()
    cluster.wait_until(lambda: len(cluster.losses(run_dir)) >= 6, first)
    nodes.cut()
    cluster.finish(first)
    assert first.returncode == 1, nodes.told()
    assert cluster.state(run_dir)["status"] == "failed"
    assert all("failed: hung: " in told for told in nodes.told()), nodes.told()

    nodes.mend()
    second = start()
    cluster.wait_until(lambda: len(cluster.losses(run_dir)) >= 14, second)
    nodes.lose(nodes.names[1])
    cluster.finish(second)
    assert second.returncode != 0
    assert cluster.state(run_dir)["status"] == "failed"
    assert "rank 1 " in cluster.state(run_dir)["reason"]
    assert "of 36 steps done" in nodes.told()[0]
    assert "0 of 36 steps done" not in nodes.told()[0]

    last = start()
    cluster.finish(last)
    assert last.returncode == 0, nodes.told()
    assert cluster.state(run_dir)["status"] == "done"
    assert cluster.losses(run_dir) == undisturbed
    staged = [sorted(path.name for path in (tmp_path / name).rglob("*.tar")) for name in nodes.names]
    assert staged[0] == staged[1] != []  # each in its own folder
    assert not list(nodes.scratch.iterdir())
