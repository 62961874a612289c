"""The exporter: a trained checkpoint in, a verified bundle out."""

__all__: list[str] = []
