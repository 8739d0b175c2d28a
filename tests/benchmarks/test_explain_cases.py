"""The finder on real runs that are slowed down from outside; other processes may disturb them, as they may a user's."""

import threading
from urllib.request import urlopen

import pytest
import torch

from xkd.benchmarks import explain_cases, slow_optimizer
from xkd.benchmarks.explain.rules import RULES
from xkd.benchmarks.explain_cases import CASES
from xkd.benchmarks.results import read_csv
from xkd.benchmarks.slow_server import slow_server


def test_the_slow_optimizer_steps_as_adamw_does():
    weights = [torch.nn.Parameter(torch.randn(3, 50, generator=torch.Generator().manual_seed(0))) for _ in range(2)]
    with torch.no_grad():
        weights[1].copy_(weights[0])
    ours, theirs = (torch.optim.AdamW([weight], lr=0.1, weight_decay=0.3, betas=(0.9, 0.95)) for weight in weights)
    for number in range(3):
        for weight in weights:
            weight.grad = torch.randn(3, 50, generator=torch.Generator().manual_seed(1 + number))
        slow_optimizer.step(ours)
        theirs.step()
    torch.testing.assert_close(weights[0], weights[1])


def test_the_slow_server_gives_out_files_whole_and_one_after_the_other(tmp_path):
    (tmp_path / "file").write_bytes(bytes(range(256)) * 600)
    with slow_server(tmp_path, bytes_per_second=1e7) as url:
        found = []
        threads = [threading.Thread(target=lambda: found.append(urlopen(f"{url}/file").read())) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [(tmp_path / "file").read_bytes()] * 2


def test_the_cases_are_five_causes_that_rules_have_and_two_controls():
    causes = [case.expected for case in CASES if case.expected != explain_cases.NOTHING]
    assert len(CASES) == 7
    assert len(set(causes)) == 5
    assert set(causes) <= {rule.cause for rule in RULES}


@pytest.mark.long
@pytest.mark.timeout(600)
def test_causes_that_lie_outside_are_named(tmp_path):
    cases = ("tiny batch", "slow optimizer", "one rank stopped and continued")
    assert explain_cases.main(["--seconds", "4", "--csv", str(tmp_path / "rows.csv"), "--cases", *cases]) == 0
    rows = read_csv(tmp_path / "rows.csv")
    assert [row["case"] for row in rows] == list(cases)
    assert [row["found"] for row in rows] == ["a small batch", "a slow optimizer", "a slow rank"]
    assert all(row["setting"] and row["seen"] for row in rows)
