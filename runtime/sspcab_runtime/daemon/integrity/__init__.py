"""Camera integrity: what can be seen of a frame, and whether the camera is at fault."""

__all__: list[str] = []
