"""The latest picture is a picture of one moment, whatever becomes of the memory that it came from."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sspcab_edge.protocols import Verdict
from sspcab_runtime.daemon.picture import LatestPicture, Moment


@pytest.mark.parametrize("side", [64, 1400])
def test_it_does_not_change_with_its_slot(side: int) -> None:
    slot, heat = np.full((side, side, 3), 30, np.uint8), np.zeros((8, 8), np.float32)
    latest = LatestPicture()
    assert latest.jpeg() is None
    latest.keep(slot, Verdict(0.1, 0.5, False, heat), (0.0, 1.0), Moment(1, 0.0), 0.0)
    slot[:] = 200
    heat[:] = 1.0
    jpeg = latest.jpeg()
    assert jpeg is not None
    shown = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None
    assert abs(float(shown[-20:].mean()) - 30) < 5
    latest.keep(slot, None, None, Moment(2, 0.1), 0.1)
    assert latest.jpeg() == jpeg, "sooner than pictures are kept"
    latest.keep(slot, None, None, Moment(3, 1.0), 1.0)
    assert latest.jpeg() != jpeg
