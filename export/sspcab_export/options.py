"""The command line's options in groups, and what they become. Imports without torch and onnx."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from sspcab_edge.block import DIALECTS

__all__ = ["front_end_options", "host_options", "take_front_end", "take_host"]

_F = TypeVar("_F", bound=Callable[..., Any])


class Size(click.ParamType[tuple[int, int]]):
    """HEIGHTxWIDTH, or one number for a square."""

    name = "HxW"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        parts = str(value).lower().split("x")
        if len(parts) > 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
            self.fail(f"{value!r} is no size: expected HEIGHTxWIDTH in pixels, as in 256x256", param, ctx)
        return int(parts[0]), int(parts[-1])


class Numbers(click.ParamType[tuple[float, ...]]):
    """Numbers with one separator between them."""

    def __init__(self, name: str, separator: str, counts: tuple[int, ...], example: str) -> None:
        self.name = name
        self._separator = separator
        self._counts = counts
        self._example = example

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(float(part) for part in str(value).split(self._separator))
        except ValueError:
            numbers = ()
        if len(numbers) not in self._counts:
            self.fail(f"{value!r} is not understood: expected {self.name}, as in {self._example}", param, ctx)
        return numbers


class Whole(Numbers):
    """Whole numbers with commas between them."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        numbers = super().convert(value, param, ctx)
        if not all(float(number).is_integer() for number in numbers):
            self.fail(
                f"{value!r} is not understood: expected whole pixels, as in {self._example}", param, ctx
            )
        return tuple(int(number) for number in numbers)


class Polygon(click.ParamType[tuple[tuple[int, int], ...]]):
    """Corners ``x,y`` with spaces between them."""

    name = "X,Y X,Y X,Y ..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[tuple[int, int], ...]:
        corners = []
        for part in str(value).split():
            x, comma, y = part.partition(",")
            if not (comma and x.isdigit() and y.isdigit()):
                self.fail(
                    f"{part!r} is no corner: expected X,Y in pixels, as in '10,10 90,10 90,60'", param, ctx
                )
            corners.append((int(x), int(y)))
        if len(corners) < 3:
            self.fail(f"{value!r} has {len(corners)} corners, expected 3 or more", param, ctx)
        return tuple(corners)


def _group(*options: Callable[[Any], Any]) -> Callable[[_F], _F]:
    def decorate(command: _F) -> _F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_CHANNELS = Numbers("one number, or one by channel", ",", (1, 3), "0.485,0.456,0.406")

host_options = _group(
    click.option(
        "--dialect", metavar="NAME",
        help=f"Dialect of the blocks ({', '.join(DIALECTS)}), overriding what their keys tell.",
    ),
    click.option(
        "--dilation", type=int, help="Dilation d of the blocks, which no checkpoint stores. [default: 1]"
    ),
    click.option("--input-size", type=Size(), help="Input of the graph in pixels. [default: the host's]"),
    click.option(
        "--normalisation", type=click.Choice(("none", "imagenet")),
        help="What is done to [0, 1] pixels, where the checkpoint cannot tell.",
    ),
    click.option("--allow-no-block", is_flag=True, help="Export a network that holds no SSPCAB block."),
    click.option(
        "--resize", type=click.Choice(("opencv-linear", "antialias-linear")),
        help="Filter that brings frames to the input size. [default: the one of the host's training]",
    ),
    click.option(
        "--density", type=click.Choice(("mahalanobis", "kde")),
        help="CutPaste: how far an embedding lies from normal ones. [default: mahalanobis]",
    ),
    click.option(
        "--density-arrays", type=click.Path(path_type=Path), metavar="FILE.npz",
        help="CutPaste: what the density was fitted to, instead of pictures: mean and precision (or "
        "covariance), or embeddings.",
    ),
    click.option("--bandwidth", type=float, help="CutPaste: of the kernel density. [default: 1]"),
    click.option("--patch-map", is_flag=True, help="CutPaste: a map, too, of how far each patch lies."),
    click.option(
        "--factory", metavar="PACKAGE.MODULE:FUNCTION",
        help="Any network: what makes the torch module for the weights in CHECKPOINT. It is called without "
        "arguments; modules of the working directory are found.",
    ),
    click.option(
        "--trust", metavar="sha256:DIGEST",
        help="Run the program CHECKPOINT (.pt2 or TorchScript) with this digest, in a process of its own.",
    ),
    click.option(
        "--score", metavar="RECIPE",
        help="Any network: map-max, map-mean, map-mean-filter:K (largest mean over K x K pixels), error (of "
        "a reconstruction), or output:NAME. [default: an output called score]",
    ),
    click.option(
        "--map", "map_output", metavar="NAME",
        help="Any network: the output that is the map, or for error the reconstruction. [default: the only "
        "one that can be]",
    ),
    click.option(
        "--input-range", type=Numbers("LOW:HIGH", ":", (2,), "-1:1"),
        help="Any network: what pixels 0 and 255 become before mean and std. [default: 0:1]",
    ),
    click.option(
        "--mean", type=_CHANNELS, metavar="M[,M,M]", default=(), help="Any network: subtracted, by channel."
    ),
    click.option(
        "--std", type=_CHANNELS, metavar="S[,S,S]", default=(), help="Any network: divided by, by channel."
    ),
    click.option(
        "--statistics",
        type=Numbers("mean,std of flow errors, then of frame errors", ",", (4,), "9,3,40,11"),
        metavar="M,S,M,S", default=(),
        help="HF2-VAD: of its errors on normal objects, instead of videos to measure them on.",
    ),
    click.option(
        "--weights", type=Numbers("weights of flow and of frame errors", ",", (2,), "1,0.1"), metavar="W,W",
        default=(), help="HF2-VAD: of flow errors and of frame errors in the score. [default: 1,0.1]",
    ),
    click.option(
        "--colour", type=click.Choice(("RGB", "BGR", "grey"), case_sensitive=False),
        help="Any network: order of its channels. [default: RGB]",
    ),
)  # fmt: skip

front_end_options = _group(
    click.option(
        "--frame-size", type=Size(),
        help="Size of the camera's frames that the options below are in. [default: that of the reference, "
        "the mask or the first picture]",
    ),
    click.option(
        "--region", type=Whole("LEFT,TOP,WIDTH,HEIGHT", ",", (4,), "100,50,640,480"),
        help="Look at this part of the frame only.",
    ),
    click.option(
        "--register", "reference", type=click.Path(path_type=Path), metavar="PICTURE",
        help="Bring frames to where this picture of the scene lies. A frame that cannot be is a camera "
        "fault, and no anomaly.",
    ),
    click.option(
        "--motion", type=click.Choice(("translation", "rotation")), default="translation", show_default=True,
        help="With --register: what may happen between the two; rotation is a shift, too.",
    ),
    click.option(
        "--max-shift", type=float,
        help="With --register: in pixels. [default: a tenth of the frame's shorter side]",
    ),
    click.option(
        "--max-angle", type=float, default=5.0, show_default=True, help="With --register: in degrees."
    ),
    click.option(
        "--zone", "zones", type=Polygon(), multiple=True,
        help="Judge only what lies in this polygon; repeat for several.",
    ),
    click.option(
        "--mask", type=click.Path(path_type=Path), metavar="PICTURE",
        help="Judge only where this picture is white.",
    ),
    click.option(
        "--tiles", is_flag=True,
        help="Cut the region into tiles of the network's input size, at its own resolution: for defects that "
        "vanish when a large picture is made small.",
    ),
    click.option(
        "--tile-overlap", "overlap", type=click.IntRange(min=0),
        help="Of neighbouring tiles, in pixels. [default: a quarter of a tile]",
    ),
    click.option(
        "--tile-margin", "margin", type=click.IntRange(min=0),
        help="Pixels at a tile's inner edges that the map leaves out: as many as the network sees of its own "
        "padding. [default: a quarter of the overlap]",
    ),
    click.option(
        "--tile-batch", "batch", type=click.IntRange(min=1), default=8, show_default=True,
        help="Most tiles of one engine call.",
    ),
    click.option(
        "--tile-levels", "levels", is_flag=True,
        help="Bring each tile's normal scores to one scale, where tiles show different things.",
    ),
    click.option(
        "--proposals", type=click.Choice(("background", "difference")),
        help="Videos: objects are what differs from the learnt background, or from the frame before. "
        "[default: background]",
    ),
    click.option(
        "--detector", type=click.Path(path_type=Path), metavar="FILE.onnx",
        help="Videos: objects are what this detector finds (final boxes, or a YOLO head).",
    ),
    click.option(
        "--detector-class", "classes", type=click.IntRange(min=0), multiple=True,
        help="With --detector: number of a class that counts; may repeat. [default: all]",
    ),
    click.option(
        "--detector-confidence", "confidence", type=click.FloatRange(0, 1, min_open=True, max_open=True),
        help="With --detector: least. [default: 0.25]",
    ),
    click.option(
        "--min-area", type=click.IntRange(min=1),
        help="Videos: smallest object in pixels of a frame. [default: a 1500th of the frame]",
    ),
    click.option(
        "--max-objects", type=click.IntRange(min=1), default=64, show_default=True,
        help="Videos: most objects of a frame that are judged.",
    ),
    click.option(
        "--flow", type=click.Path(path_type=Path), metavar="FILE.onnx",
        help="Videos: optical flow is what this network says of two frames. [default: dense inverse search]",
    ),
    click.option(
        "--flow-range", type=Numbers("LOW:HIGH", ":", (2,), "0:1"), default=(0.0, 255.0), metavar="LOW:HIGH",
        help="With --flow: what pixels 0 and 255 are to it. [default: 0:255]",
    ),
    click.option(
        "--flow-size", type=Size(), help="Videos: size at which inverse search runs. [default: 320 wide]"
    ),
    click.option(
        "--flow-preset", type=click.Choice(("ultrafast", "fast", "medium")), default="ultrafast",
        show_default=True, help="Videos: how thorough inverse search is.",
    ),
    click.option(
        "--flow-scale", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True,
        help="Videos: what flow is multiplied by, so that it is as large as in training: 3.2, where that was "
        "in pixels of frames 1024 wide and is in those of 320 here.",
    ),
    click.option(
        "--smoothing", type=click.IntRange(min=1), default=1, show_default=True,
        help="Videos: frames, this one the last, that a score is averaged over.",
    ),
)  # fmt: skip

_HOST = (
    "dialect", "dilation", "input_size", "normalisation", "allow_no_block", "resize", "density",
    "density_arrays", "bandwidth", "patch_map", "factory", "trust", "score", "map_output", "input_range",
    "mean", "std", "colour", "statistics", "weights",
)  # fmt: skip
_FRONT_END = (
    "frame_size", "region", "reference", "motion", "max_shift", "max_angle", "zones", "mask", "tiles",
    "overlap", "margin", "batch", "levels", "proposals", "detector", "classes", "confidence", "min_area",
    "max_objects", "flow", "flow_range", "flow_size", "flow_preset", "flow_scale", "smoothing",
)  # fmt: skip


def take_host(options: dict[str, Any]) -> dict[str, Any]:
    """Take the options of :func:`host_options` out of those of a command."""
    return {name: options.pop(name) for name in _HOST}


def take_front_end(options: dict[str, Any]) -> dict[str, Any]:
    """Take the options of :func:`front_end_options` out of those of a command."""
    return {name: options.pop(name) for name in _FRONT_END}
