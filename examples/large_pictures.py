#!/usr/bin/env python3
"""Draw large pictures of the demo's brick wall, with splashes of paint a few pixels wide.

A network for 256 x 256 pixels sees a 2048 x 2048 picture eight times smaller, and a splash of 6 pixels not at
all. In tiles it sees both as they are. The wall is drawn at the scale that the demo network was trained on,
from the calibration part for normal pictures and from the test part for those that are judged; a part is
mirrored over and over until the picture is full.

What it makes, under ``--out``, a folder that is empty or does not exist::

    calibration/*.jpg       normal pictures
    test/good/*.jpg         normal pictures of the other part of the wall
    test/splash/*.jpg       the same with one splash each
    ground_truth/splash/*   where it is

Examples::

    python examples/large_pictures.py --out large
    sspcab-export examples/demo/model --score map-max --calibration large/calibration --validation large \\
        --tiles -o tiles
    sspcab-edge evaluate tiles large
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path
from typing import Final, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

F32: TypeAlias = npt.NDArray[np.float32]

#: First name of the random streams; none of those of the other pictures of the demo.
CALIBRATION_STREAM: Final = 31
TEST_STREAM: Final = 32

#: Paint, BGR: blue and green, which no brick and no mortar has.
PAINTS: Final = ((200.0, 90.0, 20.0), (60.0, 180.0, 40.0))


def write_large(out: Path, seed: int, side: int, splash: float, normal: int, judged: int) -> int:
    """Draw the pictures.

    Args:
        out: Folder to write to.
        seed: Of all random numbers.
        side: Of a picture, in pixels.
        splash: Diameter of a splash, in pixels.
        normal: Calibration pictures.
        judged: Good test pictures, and as many with a splash.

    Returns:
        How many pictures were written.
    """
    from demo_scene import CALIBRATION, TEST, assert_disjoint, encode_jpeg, expose, load_wall, stream

    assert_disjoint([CALIBRATION, TEST])
    wall = load_wall()
    folders = ("calibration", "test/good", "test/splash", "ground_truth/splash")
    for folder in folders:
        (out / folder).mkdir(parents=True, exist_ok=True)
    for index in range(normal):
        rng = stream(seed, CALIBRATION_STREAM, index)
        pixels = expose(large_view(CALIBRATION.cut(wall), side, rng), rng)
        (out / "calibration" / f"{index:03d}.jpg").write_bytes(encode_jpeg(pixels))
    for index in range(2 * judged):
        rng = stream(seed, TEST_STREAM, index)
        scene = large_view(TEST.cut(wall), side, rng)
        if index < judged:
            (out / "test" / "good" / f"{index:03d}.jpg").write_bytes(encode_jpeg(expose(scene, rng)))
            continue
        name = f"{index - judged:03d}"
        scene, alpha = draw_splash(scene, splash, rng)
        (out / "test" / "splash" / f"{name}.jpg").write_bytes(encode_jpeg(expose(scene, rng)))
        mask = np.where(alpha >= 0.5, 255, 0).astype(np.uint8)
        cv2.imwrite(str(out / "ground_truth" / "splash" / f"{name}_mask.png"), mask)
    return normal + 2 * judged


def large_view(part: F32, side: int, rng: np.random.Generator) -> F32:
    """Look at a part of the wall, mirrored until it fills the picture, from a random place.

    Args:
        part: [h, w, 3] float32 BGR, 0..255.
        side: Of the picture, in pixels.
        rng: Random numbers.

    Returns:
        [side, side, 3] float32 BGR, 0..255, at the scale of the demo network's input.
    """
    from demo_scene import INPUT, VIEW

    step = VIEW / INPUT
    height, width = part.shape[:2]
    needed = int(side * step) + 4
    wide = np.pad(part, ((0, needed + height), (0, needed + width), (0, 0)), mode="symmetric")
    if rng.random() < 0.5:
        wide = wide[:, ::-1]
    left, top = rng.uniform(1, width), rng.uniform(1, height)
    place = np.array([[step, 0.0, left], [0.0, step, top]], np.float32)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    picture = cv2.warpAffine(np.ascontiguousarray(wide), place, (side, side), flags=flags)
    return np.clip(picture, 0.0, 255.0).astype(np.float32)


def draw_splash(picture: F32, diameter: float, rng: np.random.Generator) -> tuple[F32, F32]:
    """A round splash of paint somewhere; gives the picture and how much of each pixel it covers, 0 to 1."""
    height, width = picture.shape[:2]
    y, x = rng.uniform(2 * diameter, height - 2 * diameter), rng.uniform(2 * diameter, width - 2 * diameter)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    alpha = np.clip(diameter / 2 + 0.5 - np.hypot(rows - y, columns - x), 0.0, 1.0).astype(np.float32)
    paint = np.array(PAINTS[int(rng.integers(len(PAINTS)))], np.float32)
    return picture * (1.0 - alpha[..., None]) + paint * alpha[..., None], alpha


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Read and check the command line; a mistake ends the program with status 2 and one line."""
    parser = argparse.ArgumentParser(description="Draw large pictures of the demo's wall with tiny defects.")
    parser.add_argument("--out", type=Path, required=True, help="folder to make; it must be empty or absent")
    parser.add_argument("--side", type=int, default=2048, help="of a picture, in pixels (default 2048)")
    parser.add_argument("--splash", type=float, default=6.0, help="diameter of a defect (default 6 pixels)")
    parser.add_argument("--normal", type=int, default=16, metavar="N", help="calibration pictures")
    parser.add_argument(
        "--judged", type=int, default=12, metavar="N", help="good, and defective, test pictures"
    )
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(arguments)
    if args.side < 256 or args.splash < 1 or args.seed < 0:
        parser.error("expected --side of 256 or more, --splash of 1 or more and a --seed of 0 or more")
    if min(args.normal, args.judged) < 1:
        parser.error("expected one picture or more of each kind")
    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        parser.error(f"{args.out} exists and is not an empty folder: give another --out")
    if importlib.util.find_spec("skimage") is None:
        parser.error("scikit-image is not installed, it holds the photograph: pip install scikit-image")
    return args


def main(arguments: list[str] | None = None) -> None:
    """Draw the pictures that the command line asks for."""
    args = parse_arguments(arguments)
    written = write_large(args.out, args.seed, args.side, args.splash, args.normal, args.judged)
    print(f"{written} pictures are in {args.out}")


if __name__ == "__main__":
    main()
