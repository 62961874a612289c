"""Overlays of a run, written into a folder as they come, and a contact sheet in the end."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from sspcab_edge.errors import OutputError
from sspcab_edge.printable import printable
from sspcab_runtime.overlay import Tile, contact_sheet, draw_overlay, thumbnail
from sspcab_runtime.pipeline import Result

__all__ = ["SHEET_NAME", "OverlayFolder"]

SHEET_NAME = "contact_sheet.png"

_MOST_NAME = 200  # bytes
_MOST_TILES = 48


class OverlayFolder:
    """A folder that gets one PNG per result. Files of the same name are replaced, others stay.

    The contact sheet shows results spread evenly over the run: when it is full every other tile is dropped
    and only every second further result is taken, so that memory stays bounded on a video of any length.

    Args:
        folder: Made where it does not exist.
        heat: For every overlay: see :func:`sspcab_runtime.overlay.heat_range`.
        numbered: Whether files have the numbers of results instead of those of frames, and name the source,
            as frames of several sources have the same numbers.

    Raises:
        OutputError: The folder cannot be made.
    """

    def __init__(
        self, folder: Path, heat: tuple[float, float] | None = None, *, numbered: bool = False
    ) -> None:
        self.folder = folder
        self._numbered = numbered
        self._heat = heat
        self._tiles: list[Tile] = []
        self._stride = 1
        self._seen = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder {folder}: {error.strerror}") from error

    def save(self, result: Result) -> Path:
        """Write ``<index>_<name>.png``; of a video ``<index>.png``, or of several ``<number>_<video>.png``.

        Raises:
            OutputError: It cannot be written.
        """
        frame = result.frame
        overlay = draw_overlay(frame.pixels, result.verdict, heat=self._heat)
        named = frame.path or (frame.source if self._numbered else None)
        number = f"{self._seen if self._numbered else frame.index:06d}"
        path = self.folder / f"{number if named is None else f'{number}_{_short(named)}'}.png"
        _write_png(path, overlay)
        caption = "" if named is None else printable("/".join(Path(named).parts[-2:]))
        if frame.path is None:
            caption = f"{caption} frame {frame.index}".lstrip()
        self._keep(Tile(thumbnail(overlay), caption))
        return path

    def write_sheet(self) -> Path | None:
        """Write the contact sheet of what was saved; None when nothing was.

        Raises:
            OutputError: It cannot be written.
        """
        if not self._tiles:
            return None
        path = self.folder / SHEET_NAME
        _write_png(path, contact_sheet(self._tiles))
        return path

    def _keep(self, tile: Tile) -> None:
        if self._seen % self._stride == 0:
            if len(self._tiles) == _MOST_TILES:
                self._tiles = self._tiles[::2]
                self._stride *= 2
            if self._seen % self._stride == 0:
                self._tiles.append(tile)
        self._seen += 1


def _short(path: str) -> str:
    """The stem of a path as a name for a file: printable, and short enough for any file system."""
    return printable(Path(path).stem).encode()[:_MOST_NAME].decode(errors="ignore")


def _write_png(path: Path, pixels: npt.NDArray[np.uint8]) -> None:
    ok, data = cv2.imencode(".png", pixels[..., ::-1])
    if not ok:
        raise OutputError(f"{path} cannot be encoded as PNG")
    try:
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
