import pytest

from tests.pipelines.shard_server import Fault, ShardServer
from xkd.pipelines.config import DataConfig
from xkd.pipelines.samples.stream import ExampleStream
from xkd.pipelines.shards.index import ShardSet
from xkd.pipelines.store.opening import check_shards, open_shards
from xkd.pipelines.views.presets import PRESETS


def data(**settings):
    return DataConfig(train="unused", **settings)


@pytest.fixture
def server(tiny_shards):
    with ShardServer(tiny_shards) as server:
        yield server


def samples_of(shards):
    """All that is known of the samples, and the bytes of their tars."""
    found = [shards.sample(index) for index in range(len(shards))]
    return [(sample.id, sample.key, sample.labels, sample.video, sample.audio) for sample in found], [
        shards.files.ensure(name).read_bytes() for name in sorted({sample.shard.stem for sample in found})
    ]


@pytest.mark.parametrize("kept", [{}, {"stage_dir": "stage"}, {"cache_dir": "cache"}], ids=["as it is", "staged", "cached"])
@pytest.mark.parametrize("location", ["{folder}", "file://{folder}", "{url}", "pipe:cat {folder}/{{name}}"])
def test_a_set_is_the_same_from_everywhere(server, tiny_shards, tmp_path, location, kept):
    location = location.format(folder=tiny_shards, url=server.url)
    settings = data(allow_pipe=True, **{name: tmp_path / folder for name, folder in kept.items()})
    if not kept and not location.startswith(("/", "file:")):
        with pytest.raises(
            ValueError, match=r"is not a folder of this machine; set data\.stage_dir or data\.cache_dir to a folder"
        ):
            open_shards(location, settings)
        return
    shards = open_shards(location, settings)
    assert shards.location == location.removeprefix("file://")
    assert samples_of(shards) == samples_of(ShardSet.open(tiny_shards))
    assert all(shards.files.ensure(shards.sample(index).shard.stem) == shards.sample(index).shard for index in range(12))


def test_a_staged_set_is_copied_before_it_is_used_and_not_again(server, tmp_path):
    for _ in range(2):
        shards = open_shards(server.url, data(stage_dir=tmp_path))
        assert sorted(path.name for path in shards.folder.glob("*.tar")) == ["train-000000.tar", "train-000001.tar"]
    assert [len(server.of(f"train-{number:06d}.tar")) for number in range(2)] == [1, 1]


def test_a_cached_set_is_copied_as_it_is_used(server, tmp_path):
    shards = open_shards(server.url, data(cache_dir=tmp_path))
    assert not any(name.endswith(".tar") for name, _, _ in server.served)
    shards.files.ensure("train-000001")
    assert [name for name, _, _ in server.served if name.endswith(".tar")] == ["train-000001.tar"]


def test_a_set_can_be_looked_for_without_copying_it(server, tiny_shards):
    for location in (server.url, tiny_shards):
        check_shards(location, data())
    assert [name for name, _, _ in server.served] == ["manifest.json"]
    with pytest.raises(ValueError, match=r"/set/none/manifest\.json: cannot be read \(there is no such file\)"):
        check_shards(f"{server.url}/none", data())
    with pytest.raises(ValueError, match="no such shard folder"):
        check_shards("absent", data())


def test_global_order_is_refused_with_a_cache_smaller_than_the_set(server, tiny_shards, tmp_path):
    total = sum(path.stat().st_size for path in tiny_shards.glob("*.tar"))
    message = (
        rf"data\.order: 'global' reads from all shards at once, {total} bytes, of which data\.cache_bytes {total - 1} holds a part;"
        r" set data\.order: block, or data\.stage_dir in place of data\.cache_dir"
    )
    with pytest.raises(ValueError, match=message):
        open_shards(server.url, data(cache_dir=tmp_path, cache_bytes=total - 1, order="global"))
    assert len(open_shards(server.url, data(cache_dir=tmp_path, cache_bytes=total - 1))) == 12
    assert len(open_shards(server.url, data(cache_dir=tmp_path, cache_bytes=total, order="global"))) == 12
    assert len(open_shards(server.url, data(stage_dir=tmp_path, order="global"))) == 12


def test_a_pipe_is_refused_unless_it_is_allowed(tiny_shards, tmp_path):
    with pytest.raises(ValueError, match=r"would run a shell command; if you trust it, set data\.allow_pipe: true"):
        open_shards(f"pipe:cat {tiny_shards}/{{name}}", data(stage_dir=tmp_path))


def test_a_location_without_a_set_is_one_clear_error(server, tmp_path):
    with pytest.raises(ValueError, match=r"/set/none/manifest\.json: cannot be read \(there is no such file\)"):
        open_shards(f"{server.url}/none", data(cache_dir=tmp_path))
    with pytest.raises(ValueError, match=r"manifest\.json: cannot be read \(there is no such file\)"):
        open_shards(tmp_path / "absent", data(cache_dir=tmp_path))


@pytest.mark.parametrize("location", ["file:/shards/x", "file://shards/x", "file:shards/x"])
@pytest.mark.parametrize("kept", [{}, {"cache_dir": "cache"}], ids=["as it is", "cached"])
def test_a_file_url_without_three_slashes_is_refused_with_the_right_form(location, kept):
    for opened in (open_shards, check_shards):
        with pytest.raises(
            ValueError, match=rf"^{location}: a URL of .* starts with file:///; write file:///shards/x, or its path$"
        ):
            opened(location, data(**kept))


def test_a_cache_folder_that_cannot_be_made_is_one_clear_error(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        ValueError, match=r"file/cache: cannot be kept here \(Not a directory\); data\.stage_dir and data\.cache_dir"
    ):
        open_shards(server.url, data(cache_dir=tmp_path / "file" / "cache"))


def steps_of(shards, settings):
    """Ids, keys and bytes of two epochs."""
    with ExampleStream(shards, settings, PRESETS["pretrain"], batch_size=8) as stream:
        for epoch in range(2):
            for step in stream.epoch(epoch):
                assert not any(step.substituted)
                yield [
                    (example.sample.id, example.sample.key, bytes(example.inputs["video"]), bytes(example.inputs["pcm"]))
                    for example in step.examples
                ]


def test_training_through_a_small_cache_reads_what_it_reads_from_a_local_folder(many_shards, tmp_path):
    """From a server that hangs up now and then, with room for a part of the 15 shards, which the stream finds enough."""
    settings = data(
        clip_seconds=1.0,
        min_seconds=0,
        block_shards=2,
        canonical_nodes=1,
        read_ahead=8,
        cache_dir=tmp_path,
        cache_bytes=8 * max(path.stat().st_size for path in many_shards.glob("*.tar")),
        video={"fps": 4, "local_view": {"count": 0}},
        audio={"local_view": {"count": 0}},
    )
    with ShardServer(many_shards) as server:
        server.faults = {f"train-{number:06d}.tar": iter([Fault(cut=20_000), Fault(status=503)]) for number in range(0, 15, 4)}
        shards = open_shards(server.url, settings)
        found = list(steps_of(shards, settings))
        asked = [name for name, _, _ in server.served if name.endswith(".tar")]
    assert found == list(steps_of(ShardSet.open(many_shards), settings))
    assert sum(len(step) for step in found) == 2 * 96
    assert len(list(shards.folder.glob("*.tar"))) <= 8
    assert 15 + 8 < len(asked) < 60  # some shards were removed and came again in the second epoch, few more often
