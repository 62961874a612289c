"""Precision in the graph: int8 by quantisers, fp16 by casts, both placed by measured ranges."""
