"""Benchmarks that say latency and frames a second honestly."""

__all__: list[str] = []
