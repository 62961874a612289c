"""How many bits the user's camera has, where its images come in files of 16 per channel."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

from sspcab_edge.bit_depth import BitDepth, depth_that_holds, largest_value

__all__ = ["measured_bit_depth"]

_NAMED = 5
_DIM: BitDepth = 12  # of 16 bits: a sixteenth of what the file can hold


def measured_bit_depth(
    used: Sequence[tuple[str, int | None]], told: BitDepth | None
) -> tuple[BitDepth, tuple[str, ...]]:
    """The bits in use over a folder, and what should be said of them.

    It is the least depth of 8, 10, 12, 14 and 16 that holds every value. Values shifted up so that their low
    bits are zero use all 16. A scene that is only dark looks like a camera of fewer bits: it is said what was
    seen, and ``told`` wins.

    Args:
        used: Names of images, and for those of 16 bits per channel all their values or-ed.
        told: What the user says.
    """
    deep = [(name, values) for name, values in used if values is not None]
    if not deep:
        return told or 16, ()
    every = functools.reduce(operator.or_, (values for _, values in deep))
    found = depth_that_holds(every)
    bits = told or found
    step = every & -every if every else 1
    multiples = f", all multiples of {step}" if step > 1 else ""
    notes = []
    if told is not None:
        notes.append(
            f"bit depth {told}, as told: the values of {len(deep)} images of 16 bits per channel go up to "
            f"{found} bits{multiples}"
        )
    elif bits < 16:
        notes.append(
            f"bit depth {bits}: no value of {len(deep)} images of 16 bits per channel is above "
            f"{largest_value(bits)}{multiples}, so {bits} are taken to be in use; if the camera has more "
            "and the scene was dark, say so with --bit-depth"
        )
    elif step > 1:
        notes.append(
            f"bit depth 16: the values of {len(deep)} images of 16 bits per channel fill them{multiples}: a "
            f"camera of {16 - step.bit_length() + 1} bits, shifted up"
        )
    beyond = [name for name, values in deep if values > largest_value(_DIM)]
    if found == 16 and 0 < len(beyond) < len(deep) / 2:
        notes.append(
            f"{len(beyond)} of {len(deep)} images of 16 bits per channel go beyond {_DIM} bits "
            f"({_some(beyond)}), the others do not and are dark at 16: if their camera has {_DIM} bits, "
            f"remove what goes beyond and say --bit-depth {_DIM}"
        )
    plain = [name for name, values in used if values is None]
    if plain:
        fewer, what = (
            (plain, "8 bits") if len(plain) <= len(deep) else ([name for name, _ in deep], "16 bits")
        )
        notes.append(
            f"{len(plain)} images have 8 bits per channel and {len(deep)} have 16 ({bits} in use): check "
            f"that one camera gives both; with {what}: {_some(fewer)}"
        )
    return bits, tuple(notes)


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
