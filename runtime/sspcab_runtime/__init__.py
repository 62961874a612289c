"""The lean runtime: bundles in, verdicts out, on a device without torch."""

__all__: list[str] = []
