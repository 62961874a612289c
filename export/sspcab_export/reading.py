"""From files to host: an ONNX file, a program, a network of the user's own code, or a checkpoint we know."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sspcab_edge.bundle import file_entry
from sspcab_edge.errors import OptionError
from sspcab_edge.manifest import Model
from sspcab_export.checkpoints import Checkpoint, read_checkpoint
from sspcab_export.checkpoints.kinds import program_kind
from sspcab_export.checkpoints.match import one_place
from sspcab_export.hosts import HostOptions, LoadedHost, load_host
from sspcab_export.hosts.network import load_network
from sspcab_export.hosts.onnx_graph import load_onnx
from sspcab_export.needs import check_program
from sspcab_export.networks.factory import load_factory
from sspcab_export.networks.program import load_program

__all__ = ["read_model"]


def read_model(files: Sequence[Path], options: HostOptions, name: str | None) -> tuple[LoadedHost, Model]:
    """The host, and the model's identity for the manifest.

    Args:
        files: Of one checkpoint.
        options: What the user tells.
        name: Of the model; None takes the file's.

    Raises:
        CheckpointError: A file is damaged, hostile, or a program that nobody vouched for.
        HostError: No host recognises it, or it contradicts itself.
        OptionError: An option cannot be met, is missing, or is of no use here.
    """
    graphs = [path for path in files if path.suffix.lower() == ".onnx"]
    if graphs:
        host = load_onnx(graphs[0], options)
        _check_read(graphs[0], host, files)
        return host, _identity(graphs, graphs[0].stem, host, name)
    kinds = [program_kind(path) for path in files]
    if any(kinds) and len(files) > 1:
        raise OptionError(f"{len(files)} files given, expected one ONNX file or program alone")
    if (kind := kinds[0]) is not None:
        if options.factory is not None or options.dialect is not None:
            raise OptionError(
                f"{files[0]} is a program: --factory and --dialect are of no use, it holds both"
            )
        check_program(files, options)
        host = load_network(load_program(files[0], kind, options.trust), options, name="network")
        return host, _identity(files, files[0].stem, host, name)
    checkpoint = read_checkpoint(files)
    if options.trust is not None:
        return _trusted(checkpoint, options, name)
    if options.factory is not None:
        assumptions: list[str] = []
        key = options.weights_key
        network = load_factory(options.factory, checkpoint, assumptions, options.dialect, key)
        told = {"weights-key": ", ".join(key)} if key else {}
        plain = replace(options, weights_key=())
        host = load_network(network, plain, name="network", assumptions=assumptions)
        host = replace(host, overrides={**host.overrides, **told})
    else:
        host = load_host(checkpoint, options)
    return host, _identity(files, checkpoint.name, host, name)


def _trusted(checkpoint: Checkpoint, options: HostOptions, name: str | None) -> tuple[LoadedHost, Model]:
    """A whole module that the user vouches for, run as it was in a process of its own.

    Raises:
        CheckpointError: The file is not the one that was vouched for.
        HostError: Its code cannot be imported, or it holds several modules and none is named.
        OptionError: It holds no module, or an option is of no use.
    """
    paths = [part.path for part in checkpoint.parts]
    places = dict(checkpoint.parts[0].modules)
    if len(paths) > 1 or not places or options.factory is not None:
        raise OptionError(
            f"--trust is for programs and whole modules; {paths[0]} is read without running anything in it"
        )
    if options.dialect is not None:
        raise OptionError(f"--dialect is of no use for {paths[0]}: the module's own code decides")
    place = one_place(list(places), options.weights_key, str(paths[0]))
    assumptions = [f"the module {places[place]} is run as it was saved{f', at {place}' if place else ''}"]
    program = load_program(paths[0], "module", options.trust, place)
    plain = replace(options, weights_key=())
    host = load_network(program, plain, name="network", assumptions=assumptions)
    return host, _identity(paths, checkpoint.name, host, name)


def _check_read(path: Path, host: LoadedHost, files: Sequence[Path]) -> None:
    """Refuse files beside an ONNX file that it does not refer to.

    Raises:
        OptionError: There is one.
    """
    read = {(path.parent / entry.path).resolve() for entry in host.files}
    for file in files:
        if file.resolve() not in read:
            raise OptionError(
                f"{len(files)} files given, expected one ONNX file or program alone: "
                f"{path} has no data in {file}"
            )


def _identity(files: Sequence[Path], stem: str, host: LoadedHost, name: str | None) -> Model:
    source = host.files or tuple(file_entry(path, path.name) for path in files)
    digest = source[0].sha256
    if len(source) > 1 or files[0].suffix.lower() != ".onnx":
        digest = hashlib.sha256("\n".join(entry.sha256 for entry in source).encode()).hexdigest()
    return Model(
        name=name or stem,
        source=source,
        digest=digest,
        overrides=host.overrides,
        assumptions=host.assumptions,
    )
