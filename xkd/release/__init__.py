"""Weights in the format of the XKD authors' released files: single backbones and whole networks."""
