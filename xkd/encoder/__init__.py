"""Exported encoders: from a media file to features, without DeepSpeed, DALI or shards."""
