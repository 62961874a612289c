"""Labelled videos in the layouts of Avenue and ShanghaiTech.

Avenue, as published::

    testing_videos/<n>.avi                         any video suffix
    ground_truth_demo/testing_label_mask/<n>_label.mat   volLabel: a mask for each frame (needs SciPy)

ShanghaiTech, as published::

    testing/frames/<scene_video>/*.jpg
    testing/test_frame_mask/<scene_video>.npy      (frames,)
    testing/test_pixel_mask/<scene_video>.npy      (frames, height, width), optional

In either place ``<n>.npy`` may hold labels (frames,) or masks (frames, height, width). Regions and tracks for
RBDC and TBDC come from files of tracks, one a video, with lines ``track,frame,x_min,y_min,x_max,y_max``;
without them they are made of the masks: what is connected is a region, and regions that overlap from frame to
frame are a track.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from sspcab_edge.datasets import VIDEO_SUFFIXES, natural_key
from sspcab_edge.datasets.files import is_system_entry
from sspcab_edge.errors import MissingPackageError, PictureError

__all__ = ["VIDEO_LAYOUTS", "LabelledVideo", "Regions", "read_videos", "regions_of_masks"]

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Regions:
    """Anomalous regions of a video: see :class:`sspcab_edge.region_metrics.VideoRegions`."""

    tracks: npt.NDArray[np.int64]
    frames: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LabelledVideo:
    """One video of a test set.

    Attributes:
        path: A video file, or a folder of frames.
        name: Its own.
        labels: (n,) whether each frame holds an anomaly.
        regions: Where; None where only frames are labelled.
        size: (height, width) of the frames that regions are pixels of; None: of the video itself.
    """

    path: Path
    name: str
    labels: Bools
    regions: Regions | None
    size: tuple[int, int] | None


def read_videos(folder: Path, layout: str, tracks: Path | None = None) -> tuple[LabelledVideo, ...]:
    """The test videos of a data set with their labels, in order of their names.

    Args:
        folder: Of the data set.
        layout: One of :data:`VIDEO_LAYOUTS`.
        tracks: Folder with a file of tracks for each video.

    Raises:
        PictureError: A folder is missing, a video has no labels, or a file cannot be read.
        MissingPackageError: Labels are .mat files, and SciPy is not installed.
    """
    found = VIDEO_LAYOUTS[layout](folder)
    if not found:
        raise PictureError(f"{folder} holds no test videos in the layout {layout}", str(folder))
    videos = []
    for path, frame_file, mask_file in found:
        masks = None if mask_file is None else _read_labels(mask_file)
        labels = masks if frame_file is None else _read_labels(frame_file)
        assert labels is not None
        if labels.ndim == 3:
            masks = labels
            labels = np.asarray(labels.reshape(len(labels), -1).any(axis=1), np.bool_)
        regions = None if masks is None or masks.ndim != 3 else regions_of_masks(masks)
        if tracks is not None:
            regions = _read_tracks(tracks / f"{path.stem}.txt")
        size = None if masks is None or masks.ndim != 3 else (masks.shape[1], masks.shape[2])
        videos.append(LabelledVideo(path, path.stem, labels, regions, None if tracks is not None else size))
    return tuple(videos)


_Found = list[tuple[Path, Path | None, Path | None]]


def _find_avenue(folder: Path) -> _Found:
    videos = _folder(folder / "testing_videos", "avenue")
    masks = _folder(folder / "ground_truth_demo" / "testing_label_mask", "avenue")
    found: _Found = []
    for path in _entries(videos):
        own = path.stem.lstrip("0") or "0"
        names = [f"{path.stem}.npy", f"{path.stem}_label.mat", f"{own}_label.mat", f"{own}.npy"]
        found.append((path, None, _first(masks, names, path)))
    return found


def _find_shanghaitech(folder: Path) -> _Found:
    testing = _folder(folder / "testing", "shanghaitech")
    frames = _folder(testing / "frames", "shanghaitech")
    labels = _folder(testing / "test_frame_mask", "shanghaitech")
    masks = testing / "test_pixel_mask"
    found: _Found = []
    for path in _entries(frames, folders=True):
        mask = masks / f"{path.stem}.npy"
        own = _first(labels, [f"{path.stem}.npy"], path)
        found.append((path, own, mask if mask.exists() else None))
    return found


def _entries(folder: Path, *, folders: bool = False) -> list[Path]:
    """Videos in a folder, and folders of frames where asked for, in natural order; none of the system's."""
    own = (path for path in folder.iterdir() if not is_system_entry(path.name))
    found = (path for path in own if path.suffix.lower() in VIDEO_SUFFIXES or (folders and path.is_dir()))
    return sorted(found, key=lambda path: natural_key(path.name))


VIDEO_LAYOUTS: dict[str, Callable[[Path], _Found]] = {
    "avenue": _find_avenue,
    "shanghaitech": _find_shanghaitech,
}
"""Name -> what finds (video, file of frame labels, file of masks) in a data set of that layout."""


def regions_of_masks(masks: Bools) -> Regions:
    """What is connected in each mask (n, h, w), and which regions of neighbouring frames are one track."""
    tracks, frames, boxes = [], [], []
    before = np.zeros(masks.shape[1:], np.int64)
    following = 1
    for number, mask in enumerate(masks):
        count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
        now = np.zeros_like(before)
        for part in range(1, count):
            inside = parts == part
            seen = before[inside]
            seen = seen[seen > 0]
            if len(seen):
                track = int(np.bincount(seen).argmax())
            else:
                track, following = following, following + 1
            now[inside] = track
            left, top, width, height = (int(value) for value in stats[part, :4])
            tracks.append(track)
            frames.append(number)
            boxes.append((left, top, left + width - 1, top + height - 1))
        before = now
    return Regions(
        np.asarray(tracks, np.int64),
        np.asarray(frames, np.int64),
        np.asarray(boxes, np.float64).reshape(-1, 4),
    )


def _read_tracks(path: Path) -> Regions:
    try:
        rows = np.loadtxt(path, delimiter=",", ndmin=2) if path.stat().st_size else np.empty((0, 6))
    except (OSError, ValueError) as error:
        raise PictureError(f"{path} cannot be read as tracks: {error}", str(path)) from error
    if rows.shape[1] != 6:
        raise PictureError(
            f"{path} has {rows.shape[1]} columns, expected track, frame, x_min, y_min, x_max, y_max",
            str(path),
        )
    return Regions(rows[:, 0].astype(np.int64), rows[:, 1].astype(np.int64), rows[:, 2:6].astype(np.float64))


def _read_labels(path: Path) -> Bools:
    if path.suffix == ".mat":
        return _read_mat(path)
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise PictureError(f"{path} cannot be read as labels: {error}", str(path)) from error
    if array.ndim not in (1, 3):
        raise PictureError(
            f"{path} has shape {array.shape}, expected (frames,) or (frames, height, width)", str(path)
        )
    return np.asarray(array != 0, np.bool_)


def _read_mat(path: Path) -> Bools:
    try:
        scipy_io = importlib.import_module("scipy.io")
    except ModuleNotFoundError as error:
        raise MissingPackageError("scipy", None, f"{path}, a MATLAB file") from error
    try:
        cells = scipy_io.loadmat(path)["volLabel"].ravel()
        return np.stack([np.asarray(cell, np.float64) != 0 for cell in cells])
    except (OSError, KeyError, ValueError, TypeError, NotImplementedError) as error:
        raise PictureError(
            f"{path} cannot be read as Avenue's labels (volLabel): {error}", str(path)
        ) from error


def _first(folder: Path, names: Sequence[str], video: Path) -> Path:
    for name in names:
        if (folder / name).exists():
            return folder / name
    raise PictureError(f"{video} has no labels: expected {names[0]} in {folder}", str(video))


def _folder(path: Path, layout: str) -> Path:
    if not path.is_dir():
        raise PictureError(f"{path} is no folder: the layout {layout} has it", str(path))
    return path
