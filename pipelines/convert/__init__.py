"""Converts datasets to shards: sources list items, workers convert each to its clean form, one writer packs them into shards."""
