"""What people call folders of normal images, of anomalous ones, of masks, and the parts of a data set."""

from __future__ import annotations

import re
from typing import Final

__all__ = [
    "MASK_ENDINGS",
    "is_anomalous_name",
    "is_mask_name",
    "is_normal_name",
    "is_test_name",
    "is_train_name",
]

_NORMAL: Final = frozenset(
    {"good", "normal", "ok", "okay", "pass", "passed", "negative", "clean", "defect_free", "nondefective"}
    | {"non_defective", "no_defect", "good_images", "normal_images"}
)
_ANOMALOUS: Final = frozenset(
    {"abnormal", "anomalies", "anomalous", "anomaly", "bad", "damaged", "defect", "defective", "defects"}
    | {"fail", "failed", "fault", "faulty", "ko", "ng", "no_good", "nok", "not_good", "not_ok", "notok"}
    | {"positive", "reject", "rejected", "abnormal_images", "bad_images"}
)
_MASK: Final = frozenset(
    {"annotation", "annotations", "ground_truth", "groundtruth", "groundtruths", "gt", "label", "labels"}
    | {"mask", "masks", "seg", "segmentation"}
)
_TRAIN: Final = frozenset({"train", "training"})
_TEST: Final = frozenset({"test", "test_public", "testing"})
_NUMBER: Final = re.compile(r"^\d+[_ .-]+")

MASK_ENDINGS: Final = ("_mask", "_gt", "_label", "_ground_truth", "_groundtruth", "_seg", "-mask", ".mask")
"""What mask files have behind the name of their image, before the suffix."""


def is_normal_name(name: str) -> bool:
    """Whether a folder of this name holds normal images: ``good``, ``OK``, ``0_normal``."""
    return _plain(name) in _NORMAL


def is_anomalous_name(name: str) -> bool:
    """Whether a folder of this name holds anomalous images of any kind: ``bad``, ``NG``, ``1_defect``."""
    return _plain(name) in _ANOMALOUS


def is_mask_name(name: str) -> bool:
    """Whether a folder of this name holds masks: ``ground_truth``, ``mask``."""
    return _plain(name) in _MASK


def is_train_name(name: str) -> bool:
    """Whether a folder of this name holds what is trained on."""
    return _plain(name) in _TRAIN


def is_test_name(name: str) -> bool:
    """Whether a folder of this name holds what is judged, with labels."""
    return _plain(name) in _TEST


def _plain(name: str) -> str:
    return re.sub(r"[ -]+", "_", _NUMBER.sub("", name).strip().lower())
