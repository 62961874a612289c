"""What a command still lacks, all at once, so that the next try works. Imports without torch and onnx."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sspcab_edge.bundle import file_entry
from sspcab_edge.errors import OptionError
from sspcab_export.checkpoints.kinds import PROGRAM_NAMES, fixed_size, program_kind
from sspcab_export.host_options import HostOptions

__all__ = ["MissingOptions", "Need", "check_program", "code_needs", "completed", "score_needs", "size_need"]


@dataclass(frozen=True, slots=True)
class Need:
    """One option that is missing.

    Attributes:
        flag: As on the command line; empty for CHECKPOINT.
        value: What has to be given, or a word in capitals that stands for it.
        why: What it is, for somebody who has to fill it in.
    """

    flag: str
    value: str
    why: str


class MissingOptions(OptionError):
    """Nothing is wrong but that options are missing.

    Attributes:
        what: What is known so far.
        needs: All that is missing.
    """

    def __init__(self, what: str, needs: Sequence[Need]) -> None:
        told = "; ".join(f"{need.flag} {need.value}, {need.why}".lstrip() for need in needs)
        super().__init__(f"{what}. Still needed: {told}")
        self.what = what
        self.needs = tuple(needs)


def completed(command: Sequence[str], needs: Sequence[Need]) -> str:
    """A command line as it was given, with what it lacks behind it."""
    return shlex.join([*command, *(word for need in needs for word in (need.flag, need.value) if word)])


def size_need() -> Need:
    """The size of the images, which nothing in a network of convolutions tells."""
    return Need("--input-size", "HEIGHTxWIDTH", "the size of the images that it was trained on, in pixels")


def code_needs(options: HostOptions) -> list[Need]:
    """What weights need that belong to no known host."""
    needs = [
        Need(
            "--factory",
            "PACKAGE.MODULE:FUNCTION",
            "a function of yours that makes the torch module; it is called without arguments, and modules of "
            "the working directory are found",
        )
    ]
    return needs + _blind(options)


def check_program(files: Sequence[Path], options: HostOptions) -> None:
    """Say at once all that a program needs, if it is one and nobody vouched for it.

    Raises:
        MissingOptions: It is, and nobody did.
        CheckpointError: A file is an archive whose directory is damaged.
    """
    path = files[0]
    kind = program_kind(path)
    if kind is None or options.trust is not None:
        return
    trust = Need(
        "--trust",
        f"sha256:{file_entry(path, path.name).sha256}",
        "if you know where the file comes from, since loading it runs what is in it",
    )
    fixed = fixed_size(path) if kind == "pt2" else None
    needs = [need for need in _blind(options) if fixed is None or need.flag != "--input-size"]
    size = "" if fixed is None else ", for images of {}x{}".format(*fixed)
    raise MissingOptions(f"{path} is a {PROGRAM_NAMES[kind]} program{size}", [trust, *needs])


def _blind(options: HostOptions) -> list[Need]:
    """What no network can do without, before it could be run."""
    needs = [] if options.input_size is not None else [size_need()]
    if options.score is None:
        needs.append(
            Need(
                "--score",
                "RECIPE",
                "map-max or map-mean-filter:21 of a map, error of a reconstruction, output:NAME of a number "
                "(--map NAME where several could be meant; nothing where one is called score)",
            )
        )
    return needs


def score_needs(proposals: Sequence[tuple[str, str | None]]) -> list[Need]:
    """The score of a network that was run once.

    Args:
        proposals: Recipes that fit, the likeliest first, each with the output that ``--map`` names, or None
            where that is clear.
    """
    if not proposals:
        return [Need("--score", "RECIPE", "but nothing of it is a number, a map or a reconstruction")]
    spelled = [f"--score {recipe}{f' --map {name}' if name else ''}" for recipe, name in proposals]
    recipe, name = proposals[0]
    said = (
        "the only one that fits" if len(spelled) == 1 else f"or another that fits: {', '.join(spelled[1:])}"
    )
    needs = [Need("--score", recipe, said)]
    return [*needs, Need("--map", name, "the output that the score is made of")] if name else needs
