"""Blocks in a flat state dict: found by their keys and shapes alone, checked, and renamed for our module.

The names of each dialect's tensors are in :mod:`sspcab_export.block`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from sspcab_edge.block import DIALECTS, BlockSpec, Geometry, dialect_named
from sspcab_edge.errors import HostError, OptionError

__all__ = [
    "BLOCK_NAMES",
    "DEFAULT_REDUCTION",
    "HEADS",
    "TOKEN_WIDTH",
    "FoundBlock",
    "check_map_size",
    "find_blocks",
    "read_block_spec",
    "reduction_from",
    "rename_block",
]

DEFAULT_REDUCTION: Final = 8
"""The paper's r; preferred where several r give the same number of hidden units."""

BLOCK_NAMES: Final[dict[str, tuple[str, str]]] = {
    "official": ("conv", "se"),
    "anomalib": ("masked_conv", "attention_module"),
    "tensorflow": ("corner", "se"),
    "ssmctb": ("conv", "transformer"),
}
"""What each dialect calls its masked convolutions, without their numbers, and its attention."""

TOKEN_WIDTH: Final = 64
"""Features of a channel in SSMCTB's attention, and of each of its heads, as published for torch."""

HEADS: Final = 5
"""Of SSMCTB's attention, as published for torch."""

_CONVOLUTION: Final = re.compile(r"(?:(?P<path>.+)\.)?(?P<stem>conv|masked_conv|corner)[1-4]\.weight")
_ATTENTION: Final = re.compile(
    r"(?:(?P<path>.+)\.)?(?:(?P<stem>se|attention_module)\.fc[12]\.weight"
    r"|(?P<transformer>transformer)\.(?:projection\.weight|pos_embedding|mha\.to_qkv\.weight))"
)
_TRANSFORMER: Final = (
    "projection.weight",
    "projection.bias",
    "pos_embedding",
    "mha.to_qkv.weight",
    "mha.to_out.0.weight",
    "mha.to_out.0.bias",
)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class FoundBlock:
    """A block as the keys of a state dict show it, its shapes not yet judged: see :func:`read_block_spec`.

    Attributes:
        path: Dotted module path; empty when the block is the whole network.
        convolution: What the checkpoint calls the masked convolutions, without number.
        attention: What it calls the attention.
        shapes: Shape of each of the block's tensors, by the key below ``path``.
    """

    path: str
    convolution: str
    attention: str
    shapes: Mapping[str, tuple[int, ...]]

    @property
    def dialect(self) -> str | None:
        """The dialect the keys tell; None where convolutions and attention tell different ones."""
        for name, names in BLOCK_NAMES.items():
            if names == (self.convolution, self.attention):
                return name
        return None

    @property
    def kernel(self) -> int:
        """Sub-kernel k."""
        return self._shape(f"{self.convolution}1.weight", 4)[3]

    @property
    def channels(self) -> int:
        """C."""
        return self._shape(f"{self.convolution}1.weight", 4)[0]

    @property
    def reduction(self) -> int:
        """The r with C // r hidden units; the paper's 8 where it is one of several; 0 for SSMCTB."""
        if self.attention == "transformer":
            return 0
        return reduction_from(self.channels, self._shape(f"{self.attention}.fc1.weight", 2)[0])

    @property
    def _where(self) -> str:
        return repr(self.path) if self.path else "the root"

    def _shape(self, name: str, rank: int) -> tuple[int, ...]:
        shape = self.shapes.get(name)
        if shape is None:
            raise HostError(f"block at {self._where}: the checkpoint has no {name}")
        if len(shape) != rank:
            raise HostError(f"block at {self._where}: {name} has shape {shape}, expected {rank} dimensions")
        return shape


def reduction_from(channels: int, hidden: int) -> int:
    """The reduction r with ``channels // r == hidden``; the paper's 8 where it is one of several."""
    if hidden < 1 or channels // DEFAULT_REDUCTION == hidden:
        return DEFAULT_REDUCTION
    return max(1, channels // hidden)


def find_blocks(shapes: Mapping[str, tuple[int, ...]]) -> list[FoundBlock]:
    """Every block in a flat state dict, at any prefix and at the root, in order of path.

    A path holds a block when it has a squeeze-and-excitation and all four convolutions, by any dialect's
    names, or three of the four with equal C -> C shapes (one is lost then, and :func:`read_block_spec` says
    so). ``masked_conv``, which nothing else is called, counts from the first and without attention.

    Args:
        shapes: Shape of every tensor of the checkpoint by its key.

    Raises:
        HostError: One path has the tensors of two blocks.
    """
    stems: dict[str, tuple[set[str], set[str]]] = {}
    for key in shapes:
        for kind, pattern in enumerate((_CONVOLUTION, _ATTENTION)):
            if match := pattern.fullmatch(key):
                stem = match["stem"] or match["transformer"]
                stems.setdefault(match["path"] or "", (set(), set()))[kind].add(stem)
    blocks = []
    for path, (convolutions, attentions) in sorted(stems.items()):
        likely = sorted(stem for stem in convolutions if _is_masked(shapes, path, stem))
        if not likely or not (attentions or "masked_conv" in likely):
            continue
        attentions = attentions or {"attention_module"}
        if len(likely) > 1 or len(attentions) > 1:
            several = ", ".join(likely if len(likely) > 1 else sorted(attentions))
            raise HostError(f"{path or 'the root'} holds the tensors of two blocks at once: {several}")
        keys = [f"{likely[0]}{number}.{kind}" for number in range(1, 5) for kind in ("weight", "bias")]
        keys += _attention_keys(next(iter(attentions)))
        own = {key: tuple(shapes[_join(path, key)]) for key in keys if _join(path, key) in shapes}
        blocks.append(FoundBlock(path, likely[0], next(iter(attentions)), own))
    return blocks


def _attention_keys(stem: str) -> list[str]:
    if stem == "transformer":
        return [f"{stem}.{name}" for name in _TRANSFORMER]
    return [f"{stem}.fc{number}.{kind}" for number in (1, 2) for kind in ("weight", "bias")]


def _is_masked(shapes: Mapping[str, tuple[int, ...]], path: str, stem: str) -> bool:
    """True when the convolutions ``stem`` 1..4 under ``path`` are a block's, perhaps with one lost."""
    keys = [_join(path, f"{stem}{number}.weight") for number in range(1, 5)]
    present = [tuple(shapes[key]) for key in keys if key in shapes]
    if len(present) == 4 or stem == "masked_conv":
        return True
    square = all(len(shape) == 4 and shape[0] == shape[1] for shape in present)
    return len(present) == 3 and len(set(present)) == 1 and square


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def read_block_spec(found: FoundBlock, *, dialect: str | None = None, dilation: int = 1) -> BlockSpec:
    """The spec of a found block, every shape checked.

    Args:
        found: One of :func:`find_blocks`.
        dialect: Wins over what the keys tell; convolution i of the checkpoint then looks at the i-th corner
            of that dialect.
        dilation: d, which no checkpoint stores.

    Raises:
        OptionError: An unknown dialect, or an impossible dilation.
        HostError: The keys tell two dialects and none is given, a tensor is missing, or shapes disagree.
    """
    if dialect is not None:
        dialect = dialect_named(dialect).name
    elif (dialect := found.dialect) is None:
        raise HostError(
            f"block at {found._where}: convolutions are called {found.convolution}1..4 and the attention "
            f"{found.attention}, which no dialect has together: say which it is with --dialect "
            f"({', '.join(sorted(DIALECTS))})"
        )
    _check_shapes(found)
    if (DIALECTS[dialect].attention == "channel-transformer") != (found.attention == "transformer"):
        raise HostError(
            f"block at {found._where}: its attention is called {found.attention}, which the dialect "
            f"{dialect} has not: leave --dialect out, or choose another"
        )
    return BlockSpec(
        path=found.path,
        dialect=dialect,
        kernel=Geometry(found.kernel, dilation).kernel,
        dilation=dilation,
        reduction=found.reduction,
        channels=found.channels,
    )


def _check_shapes(found: FoundBlock) -> None:
    first = f"{found.convolution}1.weight"
    out_channels, in_channels, height, width = found._shape(first, 4)
    where = f"block at {found._where}"
    if height != width or height < 1:
        raise HostError(f"{where}: {first} has a {height}x{width} kernel, expected a square one")
    if out_channels != in_channels:
        raise HostError(
            f"{where}: {first} goes from {in_channels} to {out_channels} channels, expected as many out as in"
        )
    expected: dict[str, tuple[int, ...]] = {}
    for number in range(1, 5):
        expected[f"{found.convolution}{number}.weight"] = (out_channels, out_channels, height, height)
        expected[f"{found.convolution}{number}.bias"] = (out_channels,)
    hidden = 0
    if found.attention == "transformer":
        expected |= _transformer_shapes(out_channels)
    else:
        hidden = _hidden_units(found, out_channels)
        for name, rows, columns in (("fc1", hidden, out_channels), ("fc2", out_channels, hidden)):
            expected[f"{found.attention}.{name}.weight"] = (rows, columns)
            expected[f"{found.attention}.{name}.bias"] = (rows,)
    for name, shape in expected.items():
        if name not in found.shapes:
            raise HostError(f"{where}: the checkpoint has no {name}")
        if found.shapes[name] != shape:
            raise HostError(f"{where}: {name} has shape {found.shapes[name]}, expected {shape}")
    if hidden and out_channels // found.reduction != hidden:
        raise HostError(
            f"{where}: {found.attention}.fc1 has {hidden} hidden units, which no reduction r of "
            f"{out_channels} channels gives"
        )


def _transformer_shapes(channels: int) -> dict[str, tuple[int, ...]]:
    inner = HEADS * TOKEN_WIDTH
    shapes = ((TOKEN_WIDTH, 1), (TOKEN_WIDTH,), (1, channels, TOKEN_WIDTH), (3 * inner, TOKEN_WIDTH))
    last = ((TOKEN_WIDTH, inner), (TOKEN_WIDTH,))
    return {f"transformer.{name}": shape for name, shape in zip(_TRANSFORMER, (*shapes, *last), strict=True)}


def _hidden_units(found: FoundBlock, channels: int) -> int:
    where = f"block at {found._where}"
    hidden, seen = found._shape(f"{found.attention}.fc1.weight", 2)
    if hidden < 1:
        raise HostError(f"{where}: {found.attention}.fc1.weight has no rows")
    if hidden == channels > seen:
        raise HostError(
            f"{where}: {found.attention}.fc1.weight has shape {(hidden, seen)}, expected {(seen, hidden)}: "
            "it is transposed, as Paddle stores it"
        )
    return hidden


def check_map_size(spec: BlockSpec, height: int, width: int) -> None:
    """Refuse a dilation with which the block cannot work on maps of this size.

    Args:
        spec: The block.
        height: Rows of the map that reaches it, in pixels.
        width: Columns.

    Raises:
        OptionError: Reflect padding needs k + d pixels more than the map has; or, with zero padding, every
            corner would look at nothing but padding.
    """
    side = min(height, width)
    if DIALECTS[spec.dialect].padding == "reflect":
        least = spec.geometry.pad + 1
        reason = f"reflect padding of {spec.geometry.pad} pixels"
    else:
        least = spec.dilation + 2
        reason = "no corner would see anything but padding"
    if side < least:
        raise OptionError(
            f"dilation {spec.dilation} does not fit the block at {spec.path!r}: its map is {height}x{width}, "
            f"expected at least {least}x{least} ({reason})"
        )


def rename_block(tensors: Mapping[str, _T], found: FoundBlock, dialect: str) -> dict[str, _T]:
    """The state dict with this block's keys as :class:`SSPCAB` of ``dialect`` has them; all else as it is.

    Args:
        tensors: The whole checkpoint's tensors by key; they are passed on, not copied.
        found: The block in it.
        dialect: Dialect of the module that will load the result.
    """
    convolution, attention = BLOCK_NAMES[dialect_named(dialect).name]
    renamed = {}
    for key in found.shapes:
        stem = convolution if key.startswith(found.convolution) else attention
        old = found.convolution if key.startswith(found.convolution) else found.attention
        renamed[_join(found.path, key)] = _join(found.path, stem + key[len(old) :])
    return {renamed.get(key, key): tensor for key, tensor in tensors.items()}
