"""One rule that brings any container to the weights of a network: its own keys, as suffixes of the file's.

A *candidate* is a prefix under which every key of the network lies, with its shape. One candidate is taken,
and all that is left out is said; of several that differ the user names one. Copies of one another are one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from sspcab_edge.errors import HostError, OptionError
from sspcab_export.checkpoints.keys import (
    is_beside,
    is_counter,
    is_loss,
    is_wrapper,
    spread,
    unwrapped,
)

__all__ = ["Matched", "choose", "lies", "match", "one_place", "places", "shown"]

Tensors = Mapping[str, torch.Tensor]

_SHOWN = 4
_COMPARED = 16
_TOP = "."
"""What the top level of a file is called, where a user has to name it."""

_RENAMED = (("_g", "original0"), ("_v", "original1"))
"""Weight normalisation: how torch's older form names its two tensors, and the newer one."""


@dataclass(frozen=True, slots=True)
class Matched:
    """The weights of a network.

    Attributes:
        tensors: By the network's own keys.
        notes: What was left out or taken for granted, in words.
    """

    tensors: dict[str, torch.Tensor]
    notes: tuple[str, ...]


def match(
    held: Tensors, homes: Mapping[str, str], own: Tensors, asked: Sequence[str], where: str, what: str
) -> Matched:
    """The weights of a network whose own keys are known.

    Args:
        held: All tensors of the file, by key.
        homes: Path of the dict or module that each lies in, by its key.
        own: The network's state dict. Keys that share their storage need to be there once.
        asked: Where the user says that the weights lie; empty where nothing is said.
        where: The file, for messages.
        what: The network, for messages.

    Raises:
        HostError: No candidate, several that differ, or weights are left that the network has no place for.
        OptionError: Nothing lies where the user says.
    """
    keys = _by_prefix(held, own)
    aliases = _aliases(own)
    full = {prefix: found for prefix, found in keys.items() if _covers(found, held, own, aliases)}
    if not full:
        raise HostError(
            f"{where} is not of the network that {what} makes: {_lacks(keys, held, own, aliases)}"
        )
    groups = _groups({_place(found): found for prefix, found in full.items()}, held)
    place = _chosen(groups, asked, where, f"networks of the shape that {what} makes")
    found = next(found for prefix, found in full.items() if _place(found) == place)
    _check_aliases(found, held, aliases, where)
    tensors = {name: held[key] for name, key in found.items()}
    for group in aliases:
        there = next((name for name in group if name in tensors), None)
        tensors |= {name: tensors[there] for name in group if there is not None and name not in tensors}
    copies = {key for others in full.values() for key in others.values()}
    notes = _notes(held, homes, found, copies, where, what)
    return Matched(tensors, (*_naming(found, place), *notes))


def choose(
    tensors: Tensors,
    held: Mapping[str, str],
    networks: Sequence[Sequence[str]],
    asked: Sequence[str],
    where: str,
) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """The weights without further copies of a network that a known host finds several times.

    Args:
        tensors: By name, see :func:`sspcab_export.checkpoints.keys.tidy`.
        held: Key in the file by name, where they differ.
        networks: For each of the host's networks the prefixes that it lies under.
        asked: Where the user says that the weights lie; empty where nothing is said.
        where: The file, for messages.

    Returns:
        The weights, and what was left out, in words.

    Raises:
        HostError: Two that differ, and ``asked`` says none of them.
    """
    kept, notes = dict(tensors), []
    for prefixes in networks:
        if len(prefixes) < 2:
            continue
        below = {
            root: {key[len(root) :]: key for key in tensors if key.startswith(root)}
            for root in _roots(prefixes)
        }
        common = set.intersection(*(set(found) for found in below.values()))
        candidates = {
            _place({name: held.get(found[name], found[name]) for name in common}): prefix
            for prefix, found in below.items()
        }
        groups = _groups(
            {place: {name: below[at][name] for name in common} for place, at in candidates.items()}, tensors
        )
        told = [one for one in asked if any(lies(place, [one]) for place in candidates)]
        place = _chosen(groups, told, where, "networks of one kind")
        for other, prefix in candidates.items():
            if other != place:
                inside = prefix and not candidates[place].startswith(prefix)
                for key in below[prefix].values() if inside else [below[prefix][name] for name in common]:
                    kept.pop(key, None)
                notes.append(f"weights at {other} are another copy of those at {place}: not used")
    return kept, tuple(notes)


def _roots(prefixes: Sequence[str]) -> list[str]:
    """Prefixes without the segments that all of them end with: what the copies of a whole lie under."""
    parts = [prefix.split(".")[:-1] for prefix in prefixes]
    while all(parts) and len({one[-1] for one in parts}) == 1:
        parts = [one[:-1] for one in parts]
    return ["".join(f"{part}." for part in one) for one in parts]


def places(held: Mapping[str, str], networks: Sequence[Sequence[str]], tensors: Tensors) -> list[str]:
    """Where in the file the networks of a host lie, as a user may name it."""
    return [
        _place({key[len(prefix) :]: held.get(key, key) for key in tensors if key.startswith(prefix)})
        for prefixes in networks
        for prefix in prefixes
    ]


def shown(keys: Sequence[str]) -> str:
    """A few of many."""
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more


def _by_prefix(held: Tensors, own: Tensors) -> dict[str, dict[str, str]]:
    """Prefix -> own key -> key in the file, of every own key that some key ends with."""
    names = _spellings(own)
    for plain in (unwrapped, str):
        found: dict[str, dict[str, str]] = {}
        if all(_enter(found, key, plain(key), names, held) for key in held):
            break
    return found


def _spellings(own: Tensors) -> dict[str, str]:
    """Every way to spell an own key -> that key."""
    names = {key: key for key in own}
    for key in own:
        names.setdefault(unwrapped(key), key)
        head, _, leaf = key.rpartition(".")
        for old, new in _RENAMED:
            layer, mark, weight = head.rpartition("parametrizations.")
            if leaf == new and mark:
                names.setdefault(f"{layer}{weight}{old}", key)
            elif leaf.endswith(old):
                path = f"{head}." if head else ""
                names.setdefault(f"{path}parametrizations.{leaf.removesuffix(old)}.{new}", key)
    return names


def _enter(
    found: dict[str, dict[str, str]], key: str, plain: str, names: Mapping[str, str], held: Tensors
) -> bool:
    """Enter a key under every prefix it can have; False where another one that differs is there already."""
    start = 0
    while True:
        name = names.get(plain[start:])
        if name is not None:
            there = found.setdefault(plain[:start], {}).setdefault(name, key)
            if there != key and not _same(held[there], held[key]):
                return False
        start = plain.find(".", start) + 1
        if not start:
            return True


def _aliases(own: Tensors) -> list[list[str]]:
    """Own keys that are one tensor under several names."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for key, tensor in own.items():
        if tensor.numel() and tensor.data_ptr():
            view = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
            groups.setdefault(view, []).append(key)
    return [group for group in groups.values() if len(group) > 1]


def _missing(found: Mapping[str, str], own: Tensors, aliases: Sequence[Sequence[str]]) -> list[str]:
    there = {name for group in aliases if any(name in found for name in group) for name in group}
    return [name for name in own if name not in found and name not in there and not is_counter(name)]


def _covers(found: Mapping[str, str], held: Tensors, own: Tensors, aliases: Sequence[Sequence[str]]) -> bool:
    repeated = sum(len(group) - 1 for group in aliases) + sum(map(is_counter, own))
    if not found or len(found) < len(own) - repeated:
        return False
    if any(held[key].shape != own[name].shape for name, key in found.items()):
        return False
    return not _missing(found, own, aliases)


def _lacks(
    keys: Mapping[str, dict[str, str]], held: Tensors, own: Tensors, aliases: Sequence[Sequence[str]]
) -> str:
    """What keeps the likeliest prefix from being the network's."""

    def fits(prefix: str) -> tuple[int, int, int]:
        found = keys[prefix]
        right = sum(held[key].shape == own[name].shape for name, key in found.items())
        return right, len(found), -len(prefix)

    prefix = max(keys, key=fits, default="")
    found = keys.get(prefix, {})
    said = []
    if missing := _missing(found, own, aliases):
        said.append(f"it lacks {shown(missing)}")
    wrong = [name for name, key in found.items() if held[key].shape != own[name].shape]
    if wrong:
        key = found[wrong[0]]
        more = f"; and {len(wrong) - 1} more differ" if len(wrong) > 1 else ""
        got, expected = tuple(held[key].shape), tuple(own[wrong[0]].shape)
        said.append(f"{key} has shape {got}, the network expects {expected}{more}")
    used = set(found.values())
    unexpected = [key for key in held if key not in used and unwrapped(key).startswith(prefix)]
    explained = {key for key in unexpected if is_counter(key) or is_loss(key) or is_beside(key)}
    if unexpected := [key for key in unexpected if key not in explained]:
        said.append(f"it has {shown(unexpected)}, which the network does not")
    return "; ".join(said)


def _place(found: Mapping[str, str]) -> str:
    """Where a candidate lies in the file, as a user may name it: what stands before its own keys."""
    for name, key in sorted(found.items(), key=lambda item: (len(item[1]), item[1])):
        if key == name or key.endswith(f".{name}"):
            return key[: -len(name)].removesuffix(".") or _TOP
        own, parts = unwrapped(name).split("."), key.split(".")
        while own and parts and (parts[-1] == own[-1] or is_wrapper(parts[-1])):
            if parts.pop() == own[-1]:
                own.pop()
        if not own:
            return ".".join(parts) or _TOP
    return _TOP


def _groups(places: Mapping[str, Mapping[str, str]], held: Tensors) -> list[list[str]]:
    """Candidates, those together that hold the same numbers."""
    groups: list[list[str]] = []
    for place, found in places.items():
        for group in groups[:_COMPARED]:
            first = places[group[0]]
            common = [name for name in found if name in first and not is_counter(name)]
            if all(_same(held[found[name]], held[first[name]]) for name in common):
                group.append(place)
                break
        else:
            groups.append([place])
    return groups


def _chosen(groups: Sequence[Sequence[str]], asked: Sequence[str], where: str, what: str) -> str:
    """The one candidate, or the one that the user asks for."""
    if asked:
        there = ", ".join(place for group in groups for place in group)
        groups = [found for group in groups if (found := [place for place in group if lies(place, asked)])]
        exact = [[place] for group in groups for place in group if place in asked]
        groups = exact or groups
        if not groups:
            raise OptionError(
                f"--weights-key is {', '.join(asked)}, but the weights in {where} lie at {there}"
            )
    if len(groups) > 1:
        names = [group[0] for group in groups]
        raise HostError(
            f"{where} holds {len(names)} {what}, at {shown(names)}: they differ, say which it is with "
            f"--weights-key {names[0]} or --weights-key {names[1]}"
        )
    return groups[0][0]


def one_place(there: Sequence[str], asked: Sequence[str], where: str) -> str:
    """The place of the one whole module that is meant.

    Raises:
        HostError: There are several, and none is named.
        OptionError: Nothing lies where the user says.
    """
    names = {place or _TOP: place for place in there}
    return names[_chosen([[name] for name in names], asked, where, "whole modules")]


def lies(place: str, asked: Iterable[str]) -> bool:
    """Whether a place is, or is below, one of those that a user asks for."""
    return any(place == one or place.startswith(f"{one}.") for one in asked)


def _check_aliases(
    found: Mapping[str, str], held: Tensors, aliases: Sequence[Sequence[str]], where: str
) -> None:
    for group in aliases:
        there = [found[name] for name in group if name in found]
        for key in there[1:]:
            if not _same(held[there[0]], held[key]):
                raise HostError(
                    f"{where}: {there[0]} and {key} differ, but they are one tensor in the network: which is "
                    "right is unknown"
                )


def _naming(found: Mapping[str, str], place: str) -> list[str]:
    """How the file's names differ from the network's."""
    said = []
    if place != _TOP:
        said.append(f"weights are named {place}.* in the checkpoint: the prefix was taken off")
    wrapped = sorted({part for name, key in found.items() for part in _between(name, key, place)})
    if wrapped:
        said.append(f"the names of weights hold {', '.join(wrapped)} of wrappers: left out")
    return said


def _between(name: str, key: str, place: str) -> set[str]:
    """Segments of a key in the file that neither its place nor its own name has."""
    own, before = name.split("."), place.split(".")
    return {part for part in key.split(".") if part not in own and part not in before and is_wrapper(part)}


def _notes(
    held: Tensors,
    homes: Mapping[str, str],
    found: Mapping[str, str],
    copies: Iterable[str],
    where: str,
    what: str,
) -> list[str]:
    """What is left out, in words.

    Raises:
        HostError: Weights are left beside the network's that nothing explains.
    """
    used, scopes = set(found.values()), {homes[key] for key in found.values()}
    known = set(copies)
    left = [key for key in held if key not in used]
    apart = [key for key in left if key in known and not is_counter(key)]
    counted = [
        key for key in left if key not in known and (is_counter(key) or is_loss(key) or is_beside(key))
    ]
    gone = known.union(counted)
    rest = [key for key in left if key not in gone]
    unexpected = [key for key in rest if homes[key] in scopes]
    if unexpected:
        raise HostError(
            f"{where} is not of the network that {what} makes: it has {shown(unexpected)}, "
            "which the network does not"
        )
    said = []
    if apart:
        said.append(f"the checkpoint holds other copies of the weights, at {shown(spread(apart))}: not used")
    if counted := [key for key in counted if not key.endswith("num_batches_tracked")]:
        said.append(f"no output depends on {shown(spread(counted))}: left out")
    if rest:
        said.append(f"the checkpoint holds {shown(spread(rest))} beside the network: not used")
    return said


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and (one is other or torch.equal(one, other))
