"""Functions run on real ranks (xkd.benchmarks.ranks)."""

from xkd.benchmarks.ranks import on_ranks

__all__ = ["on_ranks"]
