"""The shards on a disk: manifest, sidecars, tars, and what is read and checked of a sample."""
