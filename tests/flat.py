"""Configurations as tables of dotted paths."""

from pathlib import Path


def flat(tree, prefix=""):
    """{dotted path: value} of every leaf; a file's path is text."""
    if not (isinstance(tree, dict) and tree):
        return {prefix: str(tree) if isinstance(tree, Path) else tree}
    below = [flat(value, f"{prefix}.{key}" if prefix else key) for key, value in tree.items()]
    return {path: value for leaves in below for path, value in leaves.items()}
