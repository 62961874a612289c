"""Attestations: this device has replayed that bundle's parity pack on that engine, and passed.

They live in the user's cache folder, outside the bundle, one small JSON file each. What they are keyed by
changes whenever verdicts could: the bundle's digest, the artifact, the backend, its version and settings, the
device.
"""

from __future__ import annotations

import hashlib
import logging
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import msgspec

from sspcab_edge.bundle import Bundle
from sspcab_edge.manifest import Artifact, Parity
from sspcab_edge.protocols import Engine
from sspcab_runtime.cache import cache_folder, write_atomically

__all__ = ["Attestation", "read_attestation", "record_attestation"]

_LOG = logging.getLogger(__name__)


@runtime_checkable
class _Configured(Protocol):
    """An engine that can be set to compute in more than one way."""

    @property
    def settings(self) -> str: ...


class _Key(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an attestation holds for, and for nothing else."""

    bundle: str
    artifact: str
    backend: str
    version: str
    settings: str
    device: str

    @classmethod
    def of(cls, bundle: Bundle, artifact: Artifact, engine: Engine) -> _Key:
        return cls(
            bundle=bundle.digest,
            artifact=artifact.name,
            backend=engine.backend,
            version=engine.version,
            settings=engine.settings if isinstance(engine, _Configured) else "",
            device=engine.device,
        )


class Attestation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A passed replay: what it holds for, when it was made, and what was measured."""

    schema: Literal[1]
    key: _Key
    created: str
    parity: Parity


def record_attestation(
    bundle: Bundle, artifact: Artifact, engine: Engine, parity: Parity, *, folder: Path | None = None
) -> Path | None:
    """Write down that ``engine`` reproduced the source's verdicts; the file, or None where none was written.

    A cache that cannot be written is a warning: the replay is then repeated next time. The engine may be
    closed already. ``folder`` None is ``attestations`` in the user's cache folder.

    Raises:
        ValueError: ``parity`` did not pass.
    """
    if not parity.passed:
        raise ValueError(f"{artifact.name} did not pass: nothing to attest")
    key = _Key.of(bundle, artifact, engine)
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    data = msgspec.json.encode(Attestation(schema=1, key=key, created=now, parity=parity), order="sorted")
    try:
        path = _file(key, folder)
        write_atomically(path, msgspec.json.format(data, indent=2) + b"\n")
    except OSError as error:
        _LOG.warning("the parity of %s was proved but cannot be remembered: %s", artifact.name, error)
        return None
    return path


def read_attestation(
    bundle: Bundle, artifact: Artifact, engine: Engine, *, folder: Path | None = None
) -> Attestation | None:
    """The attestation for exactly this bundle, artifact, backend, version, settings and device, or None."""
    key = _Key.of(bundle, artifact, engine)
    try:
        data = _file(key, folder).read_bytes()
    except OSError:
        return None
    try:
        found = msgspec.json.decode(data, type=Attestation)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        _LOG.warning("an attestation of %s is damaged and is ignored", artifact.name)
        return None
    return found if found.key == key and found.parity.passed else None


def _file(key: _Key, folder: Path | None) -> Path:
    digest = hashlib.sha256(msgspec.json.encode(key, order="sorted")).hexdigest()
    place = cache_folder() / "attestations" if folder is None else folder
    return place / f"{key.artifact}-{key.backend}-{digest[:24]}.json"
