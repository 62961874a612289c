"""The network in torch, where it came from: eager, and through ``torch.compile``.

Checkpoints are read by ``sspcab_export``, which is reached by name and only here, so that the rest of the
benchmarks runs on devices without torch.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sspcab_bench.peers import Against, Call, in_turns
from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import EngineError, InputError, MissingPackageError
from sspcab_edge.ports import Array
from sspcab_runtime.opening import open_first, wanted_settings
from sspcab_runtime.turns import pack_inputs

__all__ = ["FORMS", "against_torch"]

FORMS = ("eager", "compile")
"""How torch runs the network: operator by operator, or compiled (Inductor, its default mode)."""


def against_torch(
    bundle: Bundle, checkpoint: Sequence[Path], form: str, *, backend: str | None, seconds: float
) -> Against:
    """Our engine, as the runtime would choose, and the checkpoint's network in torch, in turns.

    Raises:
        MissingPackageError: The exporter's packages are not installed.
        InputError: The bundle was not made of this checkpoint, or it is no network of torch.
        EngineError: One of them failed.
        EdgeError: The checkpoint cannot be read.
    """
    module, torch = _module(bundle, checkpoint)
    call: Call = _caller(torch, module if form == "eager" else torch.compile(module))
    inputs = pack_inputs(bundle)
    settings = wanted_settings(bundle.manifest.artifacts, backend=backend, precision="fp32")
    setting, engines = open_first(bundle, settings, fallback=backend is None)
    with engines[0] as engine:
        try:
            call(inputs[0])
        except RuntimeError as error:
            raise EngineError(f"torch {form} failed on this network: {str(error).splitlines()[0]}") from error
        name = f"torch {torch.__version__} {form}"
        return in_turns(str(setting), name, engine.infer, call, inputs, seconds=seconds)


def _module(bundle: Bundle, checkpoint: Sequence[Path]) -> tuple[Any, Any]:
    """The network (N, H, W, 3) uint8 -> score, map, and torch.

    Torch's threads are told to sleep where they wait, if it is not loaded yet: those that wait busily take
    the cores from our engine in the other's turn, and ours from them, until both are many times slower.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        torch = importlib.import_module("torch")
        reading, files = (
            importlib.import_module(f"sspcab_export.{name}") for name in ("reading", "checkpoints")
        )
        hosts = importlib.import_module("sspcab_export.hosts")
    except ModuleNotFoundError as error:
        raise MissingPackageError(str(error.name), "export", "peers in torch") from error
    size = bundle.manifest.preprocess
    options = hosts.HostOptions(input_size=(size.height, size.width))
    loaded, model = reading.read_model(files.checkpoint_files(list(checkpoint)), options, None)
    if model.digest != bundle.manifest.model.digest:
        raise InputError(
            f"{bundle.path} was not made of {', '.join(map(str, checkpoint))}: expected a checkpoint with "
            f"digest {bundle.manifest.model.digest[:12]}, got {model.digest[:12]}"
        )
    module = getattr(loaded.source, "module", None)
    if module is None:
        raise InputError(f"host {loaded.name} is no network of torch: there is nothing to compare with")
    return module, torch


def _caller(torch: Any, module: Any) -> Call:
    def call(inputs: Mapping[str, Array]) -> object:
        with torch.inference_mode():
            return module(*(torch.from_numpy(values) for values in inputs.values()))

    return call
