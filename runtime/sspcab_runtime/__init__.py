"""The lean runtime: bundles in, verdicts out, on a device without torch.

::

    from sspcab_runtime import Detector

    with Detector.open("bundle") as detector:
        verdict = detector(frame)      # (H, W, 3) uint8 RGB, any size
"""

from sspcab_edge.protocols import Frame, Verdict
from sspcab_runtime.detector import Detector
from sspcab_runtime.pipeline import Failure, Result, stream
from sspcab_runtime.sources import open_source

__all__ = ["Detector", "Failure", "Frame", "Result", "Verdict", "open_source", "stream"]
