"""Fused operations of the XKD step: one op a file, each a torch reference (and, where it pays, a Triton kernel)."""
