import json

import pytest

from xkd.pipelines.shards.manifest import read_manifest


def test_an_absent_folder_and_an_unfinished_one_are_told_apart(tmp_path):
    with pytest.raises(ValueError, match=r"absent: no such shard folder; write it with"):
        read_manifest(tmp_path / "absent")
    with pytest.raises(ValueError, match=r"is no finished shard folder \(no manifest.json\)"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("change", [{"format": 2}, {"shards": None}, {"more": 1}])
def test_a_manifest_of_another_format_is_refused_by_name(tiny_shards, tmp_path, change):
    content = json.loads((tiny_shards / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**content, **change}))
    with pytest.raises(ValueError, match=r"manifest.json: is not a manifest of format 1"):
        read_manifest(tmp_path)
