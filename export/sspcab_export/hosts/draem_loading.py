"""The steps of loading that DRAEM's layouts share: prefixes, networks, blocks, overrides."""

from __future__ import annotations

from collections.abc import Iterable

from sspcab_edge.errors import HostError, OptionError
from sspcab_edge.front_end_spec import Preprocess
from sspcab_edge.ports import whole_frame_ports
from sspcab_export.block import check_map_size
from sspcab_export.checkpoints import Checkpoint
from sspcab_export.contract.scores import parse_recipe
from sspcab_export.hosts.base import HostOptions, LoadedHost
from sspcab_export.hosts.draem_network import (
    DISCRIMINATIVE_ANCHOR,
    RECONSTRUCTIVE_ANCHOR,
    DraemDetector,
    DraemSemantics,
    build_networks,
    check_size,
)
from sspcab_export.hosts.stages import StageBuilder
from sspcab_export.hosts.torch_source import DetectorSource

__all__ = [
    "DEFAULT_DILATION",
    "OPTIONS",
    "find_prefix",
    "find_prefixes",
    "load_draem",
    "mean_filter",
    "networks",
]

OPTIONS = frozenset(
    {"allow_no_block", "dialect", "dilation", "input_size", "normalisation", "resize", "score"}
)
"""What DRAEM's layouts look at."""

DEFAULT_DILATION = 1
"""The paper's d; no checkpoint stores it."""


def find_prefixes(keys: Iterable[str], anchor: str) -> list[str]:
    """What stands before ``anchor`` in every key that ends with it."""
    return [key[: -len(anchor)] for key in keys if key == anchor or key.endswith("." + anchor)]


def networks(keys: Iterable[str]) -> tuple[list[str], list[str]]:
    """The prefixes of DRAEM's reconstructive network, and of its discriminative one."""
    keys = list(keys)
    return find_prefixes(keys, RECONSTRUCTIVE_ANCHOR), find_prefixes(keys, DISCRIMINATIVE_ANCHOR)


def find_prefix(keys: Iterable[str], anchor: str) -> str | None:
    """What stands before ``anchor`` in the one key that ends with it.

    Raises:
        HostError: Several keys do.
    """
    found = find_prefixes(keys, anchor)
    if len(found) > 1:
        raise HostError(f"the checkpoint holds {anchor} under several prefixes: {', '.join(sorted(found))}")
    return found[0] if found else None


def mean_filter(options: HostOptions, default: int) -> int:
    """K of the mean filter that the score is made with: ``default``, or what ``--score`` says.

    Raises:
        OptionError: It says something else than ``map-max`` or ``map-mean-filter:K``.
    """
    if options.score is None:
        return default
    recipe = parse_recipe(options.score, None)
    if recipe.kind not in ("map-max", "map-mean-filter"):
        raise OptionError(f"score {options.score!r} is none for DRAEM: expected map-max or map-mean-filter:K")
    return recipe.side


def load_draem(
    name: str,
    checkpoint: Checkpoint,
    options: HostOptions,
    semantics: DraemSemantics,
    preprocess: Preprocess,
    *,
    threshold: float | None,
    assumptions: tuple[str, ...],
) -> LoadedHost:
    """Build both networks and wrap them in the contract.

    Raises:
        HostError: Networks contradict themselves or each other, or hold no block.
        OptionError: Size, dialect or dilation cannot be met.
    """
    tensors = checkpoint.tensors
    size = (preprocess.height, preprocess.width)
    check_size(size)
    prefixes = [find_prefix(tensors, a) for a in (RECONSTRUCTIVE_ANCHOR, DISCRIMINATIVE_ANCHOR)]
    reconstructive_prefix, discriminative_prefix = prefixes
    if reconstructive_prefix is None or discriminative_prefix is None:
        missing = "reconstructive" if reconstructive_prefix is None else "discriminative"
        raise HostError(f"{checkpoint.parts[0].path} lacks the {missing} network")
    dilation = DEFAULT_DILATION if options.dilation is None else options.dilation
    builder = StageBuilder(tensors, options.dialect, dilation)
    reconstructive, discriminative = build_networks(builder, reconstructive_prefix, discriminative_prefix)
    if not builder.specs and not options.allow_no_block:
        raise HostError(
            f"{checkpoint.parts[0].path} is a DRAEM without the SSPCAB block: "
            "export it all the same with --allow-no-block"
        )
    for spec in builder.specs:
        stride = _stride(spec.path)
        check_map_size(spec, size[0] // stride, size[1] // stride)
    if builder.specs and options.dilation is None:
        assumptions = (*assumptions, f"dilation {DEFAULT_DILATION}, the paper's: no checkpoint stores it")
    return LoadedHost(
        name=name,
        source=DetectorSource(
            DraemDetector(reconstructive, discriminative, semantics),
            whole_frame_ports(*size, None)[0],
            has_map=True,
        ),
        blocks=tuple(builder.specs),
        preprocess=preprocess,
        map_size=size,
        threshold=threshold,
        overrides=_overrides(options),
        assumptions=assumptions,
        score=f"map-mean-filter:{semantics.mean_filter}" if semantics.mean_filter > 1 else "map-max",
    )


def _stride(path: str) -> int:
    """How many input pixels one map pixel stands for at a stage of either network."""
    stage = next(part for part in path.split(".") if part.startswith(("block", "up", "db", "fin_out")))
    if stage.startswith("block"):
        return int(2 ** (int(stage[len("block") :]) - 1))
    if stage.endswith("_b"):
        return 16
    return 1 if stage == "fin_out" else int(2 ** (4 - int(stage[-1])))


def _overrides(options: HostOptions) -> dict[str, str]:
    given = {
        "dialect": options.dialect,
        "dilation": None if options.dilation is None else str(options.dilation),
        "input-size": None if options.input_size is None else "x".join(map(str, options.input_size)),
        "normalisation": options.normalisation,
        "resize": options.resize,
        "score": options.score,
    }
    return {name: value for name, value in given.items() if value is not None}
