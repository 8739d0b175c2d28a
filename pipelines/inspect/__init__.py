"""Looks into finished shard folders: is everything as it was written, what is there, and what does it decode to."""
