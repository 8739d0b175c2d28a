"""Makes a large shard set of a small one, for those who measure: its shards are links to one shard."""

from pathlib import Path

from xkd.pipelines.shards.manifest import MANIFEST, read_manifest, totals


def repeat_shard(shard: Path, folder: Path, clips: int) -> Path:
    """A new shard set of so many clips whose shards are links to the only shard of a set; returns it."""
    manifest = read_manifest(shard)
    (record,) = manifest.shards
    assert clips % record.num_samples == 0, clips
    numbers = range(clips // record.num_samples)
    records = [record.model_copy(update={"name": f"train-{n:06d}", "begin": n * record.num_samples}) for n in numbers]
    files = [path.resolve() for path in shard.glob(f"{record.name}.*")]
    folder.mkdir(parents=True)
    for copy in records:
        for file in files:
            (folder / f"{copy.name}{file.name.removeprefix(record.name)}").symlink_to(file)
    repeated = manifest.model_copy(update=totals(records, manifest.settings.profile, len(manifest.classes)))
    (folder / MANIFEST).write_text(repeated.model_dump_json(indent=1))
    return folder
