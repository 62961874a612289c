"""Tunings: which setting of a bundle was found to be fastest on this device, remembered in the user's cache.

One small JSON file for each bundle and device; tuning again replaces it. It holds as long as the bundle, the
device and the versions of all backends are the same. It is a wish, not a proof: what it names has to pass the
gate like any other setting.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import MissingPackageError, OptionError
from sspcab_runtime.cache import cache_folder, write_atomically
from sspcab_runtime.engines.table import candidates, engine_class, installed_backends
from sspcab_runtime.machine import cpu_device, gpus, read_cpu
from sspcab_runtime.setting import Setting

__all__ = ["Objective", "Tuning", "backend_versions", "read_tuning", "record_tuning", "this_device"]

_LOG = logging.getLogger(__name__)

Objective = Literal["latency", "fps"]
"""The time of one inference, or frames a second."""

_Count = Annotated[int, msgspec.Meta(ge=1)]


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was found: a setting, and what it is best at."""

    setting: Setting
    objective: Objective


class _Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tuning on disk: what it holds for, and the setting."""

    schema: Literal[1]
    bundle: str
    device: str
    versions: dict[str, str]
    created: str
    objective: Objective
    artifact: str
    backend: str
    hint: str | None
    threads: _Count | None
    streams: _Count


def this_device() -> str:
    """This machine in words that tell devices apart: CPU, how many cores may be used, GPUs."""
    return ", ".join([cpu_device(), f"{read_cpu().count} usable", *gpus()])


def backend_versions() -> dict[str, str]:
    """The versions of all installed backends, told by their packages' metadata: none is imported."""
    return {backend: _version(engine_class(backend).package) for backend in installed_backends()}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        names = importlib.metadata.packages_distributions().get(package, [])
        return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in sorted(set(names)))


def record_tuning(bundle: Bundle, setting: Setting, objective: Objective) -> Path | None:
    """Write down what is best here; the file, or None and a warning where the cache cannot be written."""
    record = _Record(
        schema=1,
        bundle=bundle.digest,
        device=this_device(),
        versions=backend_versions(),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        objective=objective,
        artifact=setting.artifact.name,
        backend=setting.backend,
        hint=setting.hint,
        threads=setting.threads,
        streams=setting.streams,
    )
    data = msgspec.json.format(msgspec.json.encode(record, order="sorted"), indent=2) + b"\n"
    try:
        path = _file(bundle)
        write_atomically(path, data)
    except OSError as error:
        _LOG.warning("the tuning of %s cannot be remembered: %s", bundle.path, error)
        return None
    return path


def read_tuning(bundle: Bundle) -> Tuning | None:
    """What was found for this bundle on this device; None where nothing was.

    A file that is damaged, or was made with other versions of the backends, is a warning and counts for
    nothing.
    """
    try:
        data = _file(bundle).read_bytes()
    except OSError:
        return None
    try:
        record = msgspec.json.decode(data, type=_Record)
        setting = _setting(bundle, record)
    except (
        msgspec.DecodeError,
        UnicodeDecodeError,
        RecursionError,
        OptionError,
        MissingPackageError,
    ) as error:
        _ignore(bundle, f"damaged: {error}")
        return None
    if (record.bundle, record.device) != (bundle.digest, this_device()):
        _ignore(bundle, "of another bundle or device")
        return None
    versions = backend_versions()
    if record.versions != versions:
        _ignore(bundle, f"out of date: made with {_words(record.versions)}, now there is {_words(versions)}")
        return None
    return Tuning(setting, record.objective)


def _setting(bundle: Bundle, record: _Record) -> Setting:
    """The setting of a record.

    Raises:
        OptionError: The bundle has no such artifact, or the backend no such hint.
        MissingPackageError: The backend is not installed.
    """
    named = [artifact for artifact in bundle.manifest.artifacts if artifact.name == record.artifact]
    if not named:
        raise OptionError(f"the bundle has no artifact {record.artifact!r}")
    ((artifact, backend),) = candidates(named, backend=record.backend, hint=record.hint)
    return Setting(artifact, backend, record.hint, record.threads, record.streams)


def _ignore(bundle: Bundle, reason: str) -> None:
    _LOG.warning("the tuning of %s is ignored, it is %s; run sspcab-edge tune again", bundle.path, reason)


def _words(versions: dict[str, str]) -> str:
    return ", ".join(f"{backend} {version}" for backend, version in sorted(versions.items())) or "nothing"


def _file(bundle: Bundle) -> Path:
    device = hashlib.sha256(this_device().encode()).hexdigest()
    return cache_folder() / "tuning" / f"{bundle.digest[:24]}-{device[:12]}.json"
