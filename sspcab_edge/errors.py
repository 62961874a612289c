"""Every error a user can meet, as one tree.

::

    EdgeError                  exit 1: one line, what happened, got against expected, what to do
    ├── MissingPackageError    a package is not installed; the text is the pip command
    ├── OptionError            options that contradict each other or the input
    ├── CheckpointError        what training left behind cannot be read, or must not be trusted
    ├── HostError              the network is not one we know, or contradicts itself
    ├── GraphError             a graph could not be made, rewritten or converted
    ├── PictureError           a picture cannot be decoded or is out of bounds
    │   └── RegistrationError  a frame does not show the scene where it should be
    ├── SourceError            a source of frames cannot be opened or read
    ├── BundleError            a bundle is incomplete, changed or not a bundle
    ├── OutputError            an output exists already or cannot be written
    ├── EngineError            a backend refused an artifact or failed while it ran
    ├── InputError             arrays do not fit the ports of an engine
    └── GateError              exit 3: an artifact does not give the source's verdicts
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sspcab_edge.installing import install_command

__all__ = [
    "BundleError",
    "CheckpointError",
    "ConfigError",
    "EdgeError",
    "EngineError",
    "GateError",
    "GraphError",
    "HostError",
    "InputError",
    "MissingPackageError",
    "OptionError",
    "OutputError",
    "PictureError",
    "RegistrationError",
    "SourceError",
]


class EdgeError(Exception):
    """Base of all errors that sspcab-edge raises on purpose. Its text is one line fit for a user."""

    exit_code = 1
    advice: str | None = None
    """A command line that would do, to be shown below the text."""


class MissingPackageError(EdgeError):
    """A package that the chosen backend or command needs is not installed.

    Args:
        package: The package, or the module that could not be imported.
        extra: The extra of this project that holds it, or None: it is in none, and called as on the index.
        needed_for: What needs it.
    """

    def __init__(self, package: str, extra: str | None, needed_for: str) -> None:
        install = f"pip install {package}" if extra is None else install_command(extra, package)
        super().__init__(f"{package} is not installed, needed for {needed_for}: {install}")
        self.package = package
        self.extra = extra


class OptionError(EdgeError):
    """Options contradict each other, or the input they are given for."""


class CheckpointError(EdgeError):
    """A checkpoint is unreadable, hostile, incomplete or holds values that are no weights."""


class HostError(EdgeError):
    """No host recognises the checkpoint, or its keys and shapes contradict each other."""


class GraphError(EdgeError):
    """A graph cannot be made, rewritten, or converted for a target."""


class PictureError(EdgeError):
    """A picture cannot be decoded, is empty or is larger than the limit.

    ``path`` is the file, where a source of pictures knows it.
    """

    path: str | None = None


class RegistrationError(PictureError):
    """A frame is shifted or turned too far against the reference picture, or does not show its scene.

    A fault of the camera, and no verdict: whoever alarms on anomalies must not alarm on this.
    """


class SourceError(EdgeError):
    """A source of frames cannot be opened, or broke while it was read."""


class BundleError(EdgeError):
    """A bundle is not complete, was changed, or is none."""


class OutputError(EdgeError):
    """An output exists already, or cannot be written."""


class ConfigError(EdgeError):
    """A configuration file, or a secret that it names, cannot be used."""


class EngineError(EdgeError):
    """A backend refused an artifact, or failed while it ran."""


class InputError(EdgeError):
    """Arrays given to an engine do not fit its ports."""


class GateError(EdgeError):
    """An artifact does not reproduce the source's verdicts within the gate.

    ``report`` is what an export found until then, as its ``--json`` gives it, where there is one.
    """

    exit_code = 3

    def __init__(self, message: str, report: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.report = report
