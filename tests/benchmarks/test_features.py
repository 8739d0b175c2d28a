from functools import partial
from pathlib import Path

import numpy as np
import pytest

from xkd.benchmarks import features
from xkd.benchmarks.features import PROVIDERS, setup, share
from xkd.benchmarks.harness import measure
from xkd.benchmarks.results import read_csv
from xkd.eval.extraction import Extraction
from xkd.eval.splits import Part
from xkd.eval.subject import Evaluated
from xkd.pipelines.shards.index import ShardSet


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_round_is_one_pass_over_the_clips(provider, architecture, tiny_shards, tmp_path):
    shards, net = ShardSet.open(tiny_shards), architecture.build(seed=0)
    nets = {modality: getattr(net, f"{modality}_student").encoder for modality in ("video", "audio")}
    subject = Evaluated(nets, {}, architecture.data, {"encoders_sha256": "untrained"})
    extraction = Extraction(subject, architecture.data, Path("unused"), 6, "fp32", seed=0)
    (found,) = measure(partial(setup, extraction, Part(shards, np.arange(12))), [provider], rounds=2, warmup=1)
    assert found.items == 12
    assert not Path("unused").exists()


def test_the_share_is_that_of_the_bare_forward_pass_and_of_the_slower_bound():
    rows = [
        {"case": "size=tiny", "provider": name, "items_per_s": speed}
        for name, speed in {"features": "40", "loader": "50", "forward": "80"}.items()
    ]
    assert share(rows) == "size=tiny: 40 clips/s, 50% of the bare forward pass, 80% of the slower bound (loader)"


@pytest.mark.long
def test_the_command_records_features_and_both_bounds(tiny_shards, tmp_path, capsys):
    arguments = ["--shards", str(tiny_shards), "--size", "tiny", "--rounds", "1", "--csv", str(tmp_path / "rows.csv")]
    assert features.main(arguments) == 0
    rows = read_csv(tmp_path / "rows.csv")
    assert [row["provider"] for row in rows] == list(PROVIDERS)
    assert "of the bare forward pass" in capsys.readouterr().out
