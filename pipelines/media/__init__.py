"""From any media file to the clean form that shards store, and back: decoding, resampling, encoding."""
