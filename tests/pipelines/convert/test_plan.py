import os

import pytest

from xkd.pipelines.convert.plan import _check_items, make_plan
from xkd.pipelines.convert.sources.item import Item, Location


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    root = tmp_path_factory.mktemp("names")
    for index in range(23):
        path = root / "ab"[index % 2] / f"{index}.mp4"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(index))
    return root


def plan(source, **choices):
    return make_plan(source, dataset="folder", split="train", profile="pretrain", **choices)


@pytest.mark.parametrize("number", [1, 2, 3, 7])
def test_every_item_falls_to_exactly_one_part_and_whole_groups_do(names, number):
    parts = [plan(names, shard_samples=4, part=(part, number)).places for part in range(1, number + 1)]
    assert sorted(place for places in parts for place in places) == list(range(23))
    groups = [{place // 4 for place in places} for places in parts]
    assert sum(map(len, groups)) == 6


def test_a_limit_takes_the_first_of_the_order_whatever_the_seed(names):
    for seed in (None, 5):
        whole = [item.name for item in plan(names, shuffle=seed).items]
        assert [item.name for item in plan(names, shuffle=seed, limit=7).items] == whole[:7]


def test_the_plan_of_a_part_differs_in_nothing_but_the_part(names):
    whole, part = plan(names), plan(names, part=(2, 3))
    assert part.settings.model_copy(update={"part": None}) == whole.settings
    assert (part.items, part.source) == (whole.items, whole.source)


def test_what_is_listed_decides_the_identity_of_the_source(names, tmp_path):
    before = plan(names).settings.source_identity
    assert plan(names).settings.source_identity == before
    (names / "a" / "0.mp4").write_bytes(b"more")
    assert plan(names).settings.source_identity != before


def item(name, label="a"):
    return Item(Location("."), name, (label,), "train")


def test_a_clip_listed_twice_is_one_error(tmp_path):
    with pytest.raises(ValueError, match=r"'x/1.mp4' and 'x/1.mp4' both have the key 1-.*; list each clip once"):
        _check_items(tmp_path, ("a",), [item("x/1.mp4"), item("x/2.mp4"), item("x/1.mp4")])


def test_a_label_that_is_no_class_is_one_error(tmp_path):
    with pytest.raises(ValueError, match=r"'x/1.mp4' has the label 'cat', which is no class of the data set"):
        _check_items(tmp_path, ("a",), [item("x/1.mp4", label="cat")])


@pytest.mark.parametrize(
    ("path", "named"),
    [(b"media/caf\xe9/1.mp4", r"the class 'caf\\udce9'"), (b"m\xe9dia/a/1.mp4", r"the folder's name 'm\\udce9dia'")],
)
def test_a_name_that_the_manifest_cannot_hold_is_refused_before_any_work(tmp_path, path, named):
    file = tmp_path / os.fsdecode(path)
    file.parent.mkdir(parents=True)
    file.write_bytes(b"")
    with pytest.raises(ValueError, match=rf"{named} is not UTF-8; rename it"):
        plan(file.parent.parent)


def test_a_clip_may_have_any_name(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / os.fsdecode(b"caf\xe9.mp4")).write_bytes(b"")
    assert len(plan(tmp_path).items) == 1
