"""Core of sspcab-edge: what exporter, runtime and benchmarks share. No torch, no engine."""

__all__ = ["__version__"]

__version__ = "0.1.0"
