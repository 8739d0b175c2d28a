"""From media files to batches of tensors: converters, shards, sample order, and the DALI graph; `loader` is where they meet."""
