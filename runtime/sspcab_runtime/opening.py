"""Opening the first of several settings that runs here and gives the source's verdicts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import EdgeError, EngineError, GateError, MissingPackageError
from sspcab_edge.manifest import Artifact
from sspcab_runtime.engines.base import GraphEngine
from sspcab_runtime.engines.table import candidates, fitting
from sspcab_runtime.replay import prove as prove_parity
from sspcab_runtime.setting import Setting, open_engines

__all__ = ["open_first", "wanted_settings"]

_LOG = logging.getLogger(__name__)


def wanted_settings(
    artifacts: Iterable[Artifact],
    *,
    backend: str | None = None,
    precision: str | None = None,
    target: str | None = None,
    hint: str | None = None,
    threads: int | None = None,
    streams: int | None = None,
    fallback: bool = False,
) -> tuple[Setting, ...]:
    """The ways to run a bundle that fit what was asked for, in order of preference.

    With ``fallback`` a backend, target or hint that was asked for comes first, and all others of the same
    precision after it.

    Raises:
        OptionError: No artifact is what was asked for.
        MissingPackageError: No backend for it is installed; with ``fallback``, none for any other either.
    """
    offered = tuple(artifacts)
    named = (backend, target, hint) != (None, None, None)
    find = fitting if fallback and named else candidates
    pairs = find(offered, backend=backend, precision=precision, target=target, hint=hint)
    asked = [Setting(artifact, name, hint, threads, streams or 1) for artifact, name in pairs]
    if not fallback:
        return tuple(asked)
    others = [
        Setting(artifact, name, None, threads, streams or 1)
        for artifact, name in candidates(offered, precision=precision)
        if (artifact, name) not in pairs
    ]
    return (*asked, *others)


def open_first(
    bundle: Bundle,
    settings: Sequence[Setting],
    *,
    prove: bool = True,
    fallback: bool = False,
    single: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Setting, tuple[GraphEngine, ...]]:
    """The first setting that is fit to be used, with its engines.

    One that does not pass the gate on this device is passed over. One whose backend cannot run is passed over
    only with ``fallback``; otherwise its error is raised. Each that was passed over is a warning in the log.

    Args:
        bundle: Where the artifacts are.
        settings: In order of preference; one or more.
        prove: Ask for the gate at all.
        fallback: Pass over what cannot run here.
        single: No caller gathers several frames into one call.
        progress: Called with (inputs replayed, inputs in all) while a parity pack is replayed.

    Raises:
        GateError: None is left, and one or more did not pass the gate; the text has the reason of each.
        EngineError: The backend refuses the artifact; with ``fallback``, all of them did.
        MissingPackageError: The backend is not installed, without ``fallback``.
    """
    refused: list[tuple[Setting, EdgeError]] = []
    for number, setting in enumerate(settings):
        try:
            engines = open_engines(
                bundle, setting, _gate(bundle, setting, progress) if prove else None, single=single
            )
        except GateError as error:
            refused.append((setting, error))
        except MissingPackageError as error:
            if not fallback:
                raise
            refused.append((setting, error))
        except EngineError as error:
            if not fallback:
                if number + 1 == len(settings):
                    raise
                raise EngineError(f"{error}; a fallback could use {settings[number + 1]}") from error
            refused.append((setting, error))
        else:
            for passed_over, reason in refused:
                _LOG.warning("%s; %s is used instead", _say(passed_over, reason), setting)
            return setting, engines
    raise _none_left(refused)


def _gate(
    bundle: Bundle, setting: Setting, progress: Callable[[int, int], None] | None
) -> Callable[[GraphEngine], object]:
    return lambda engine: prove_parity(bundle, setting.artifact, engine, progress=progress)


def _say(setting: Setting, error: EdgeError) -> str:
    return str(error) if isinstance(error, GateError) else f"{setting} cannot run here: {error}"


def _none_left(refused: Sequence[tuple[Setting, EdgeError]]) -> EdgeError:
    kind = GateError if any(isinstance(error, GateError) for _, error in refused) else EngineError
    reasons = "; ".join(_say(setting, error) for setting, error in refused)
    if len(refused) == 1:
        return kind(f"{reasons}; choose another backend, or export again")
    return kind(f"none of {len(refused)} ways to run the bundle is left: {reasons}; export again")
