#!/usr/bin/env python3
"""Draw further pictures of the demo's brick wall: as many normal ones, and ones with defects, as are wanted.

The committed pictures (``demo/calibration``, ``demo/test``) are few. These are made by the same functions of
``demo_scene.py``, from the same parts of the wall for the same use, and from other random numbers: no picture
is drawn twice, whatever the seed.

* ``calibration/`` shows the calibration part of the wall only, ``test/`` the test part only. No wall pixel is
  in both, and none is in a training picture.
* Within a part there is one wall: new pictures show the bricks of the committed ones of the same use, from
  other places, mirrored otherwise, in other light, with other noise. What was fitted to ``demo/calibration``
  is judged fairly on ``test/``, not on ``calibration/``.

What it makes, under ``--out``, a folder that is empty or does not exist::

    calibration/*.jpg                      normal pictures for ranges and the threshold
    test/good/*.jpg  test/<kind>/*.jpg     normal pictures, and pictures with one defect each

Picture number i is the same however many are asked for. Needs numpy, OpenCV and scikit-image, which holds the
photograph; nothing is downloaded.

Examples::

    python examples/demo_pictures.py --out more                              # 150 + 300 + 6 times 8 pictures
    python examples/demo_pictures.py --out more --calibration 32 --good 0 --defects 0 --seed 3
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

F32: TypeAlias = npt.NDArray[np.float32]
Scene: TypeAlias = Callable[[np.random.Generator], F32]

#: First name of the random streams. 1 to 7 belong to the committed pictures, the video and the training.
CALIBRATION_STREAM: Final = 21
GOOD_STREAM: Final = 22
DEFECT_STREAM: Final = 23


def write_more(out: Path, seed: int, calibration: int, good: int, defects: int) -> int:
    """Draw the pictures.

    Args:
        out: Folder to write to; its ``calibration`` and ``test`` must not hold pictures.
        seed: Of all random numbers; any, the streams are not those of the committed pictures.
        calibration: Normal pictures of the calibration part.
        good: Normal pictures of the test part.
        defects: Pictures of the test part with a defect, of each kind.

    Returns:
        How many pictures were written.
    """
    from demo_scene import CALIBRATION, DEFECTS, TEST, TRAIN, assert_disjoint, load_wall, view

    assert_disjoint([TRAIN, CALIBRATION, TEST])
    wall = load_wall()
    calibration_part, test_part = CALIBRATION.cut(wall), TEST.cut(wall)
    written = write_folder(
        out / "calibration", calibration, seed, (CALIBRATION_STREAM,), lambda rng: view(calibration_part, rng)
    )
    written += write_folder(
        out / "test" / "good", good, seed, (GOOD_STREAM,), lambda rng: view(test_part, rng)
    )
    for number, (kind, draw) in enumerate(DEFECTS.items()):

        def spoiled(rng: np.random.Generator, draw: Callable[..., tuple[F32, F32]] = draw) -> F32:
            return draw(view(test_part, rng), rng)[0]

        written += write_folder(out / "test" / kind, defects, seed, (DEFECT_STREAM, number), spoiled)
    return written


def write_folder(folder: Path, count: int, seed: int, name: tuple[int, ...], scene: Scene) -> int:
    """Photograph ``count`` scenes, each with the random numbers of (seed, name, its number).

    Without pictures there is no folder.

    Returns:
        ``count``.
    """
    from demo_scene import encode_jpeg, expose, stream

    if count:
        folder.mkdir(parents=True)
    for index in range(count):
        rng = stream(seed, *name, index)
        (folder / f"{index:03d}.jpg").write_bytes(encode_jpeg(expose(scene(rng), rng)))
    return count


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Read and check the command line; a mistake ends the program with status 2 and one line."""
    parser = argparse.ArgumentParser(description="Draw further pictures of the demo's brick wall.")
    parser.add_argument("--out", type=Path, required=True, help="folder to make; it must be empty or absent")
    parser.add_argument(
        "--calibration", type=int, default=150, metavar="N", help="normal calibration pictures"
    )
    parser.add_argument("--good", type=int, default=300, metavar="N", help="normal test pictures")
    parser.add_argument(
        "--defects", type=int, default=8, metavar="N", help="test pictures of each kind of defect"
    )
    parser.add_argument("--seed", type=int, default=1, help="0 or more; none repeats a committed picture")
    args = parser.parse_args(arguments)
    for option in ("calibration", "good", "defects", "seed"):
        if getattr(args, option) < 0:
            parser.error(f"--{option} is {getattr(args, option)}, expected 0 or more")
    if not args.calibration + args.good + args.defects:
        parser.error("no pictures asked for: give --calibration, --good or --defects")
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        parser.error(f"{args.out} exists and is not an empty folder: give another --out")
    if importlib.util.find_spec("skimage") is None:
        parser.error("scikit-image is not installed, it holds the photograph: pip install scikit-image")
    return args


def main(arguments: list[str] | None = None) -> None:
    """Draw the pictures that the command line asks for."""
    args = parse_arguments(arguments)
    written = write_more(args.out, args.seed, args.calibration, args.good, args.defects)
    print(f"{written} pictures are in {args.out}")


if __name__ == "__main__":
    main()
