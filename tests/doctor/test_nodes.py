"""The doctor on two nodes, rehearsed in network namespaces: started by `xkd launch --doctor` in a SLURM step."""

import os
import shutil

import pytest

from tests.launch import cluster

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("ip"), reason="network namespaces need root and iproute2"),
]


@pytest.fixture
def nodes(tmp_path):
    with cluster.Nodes(tmp_path) as both:
        yield both


def diagnosed(nodes, tiny_shards, run_dir):
    """Exit code, and what the first node has told."""
    programs = nodes.programs()
    fields = (f"data.train={tiny_shards}", "data.test=null", f"run_dir={run_dir}", f"data.stage_dir={nodes.scratch}")
    command = ("srun", "--ntasks-per-node=1", "xkd", "launch", "--doctor", "--ranks", "1", "pretrain/demo.yaml", *fields)
    process = cluster.start((programs / command[0], *command[1:]), programs)
    cluster.finish(process)
    return process.returncode, nodes.told()[0]


def test_two_nodes_are_looked_at_together(nodes, tiny_shards, tmp_path):
    code, told = diagnosed(nodes, tiny_shards, tmp_path / "run")
    assert code == 0, nodes.told()
    for verdict in ("all-reduce: gloo, 2 ranks on 2 nodes", "clocks: apart", "shared run_dir: seen", "same versions: 2 nodes"):
        assert f"ok           {verdict}" in told
    assert told.count("ok           place of data.train: ") >= 1
    assert "2 nodes, 2 processes: " in told
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").glob(".xkd-doctor*"))


def test_a_run_directory_that_each_node_has_for_itself_is_found_out(nodes, tiny_shards):
    code, told = diagnosed(nodes, tiny_shards, nodes.scratch / "run")
    assert code == 1, nodes.told()
    assert "failed       shared run_dir: what the first node has written is not there" in told
