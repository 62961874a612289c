"""The pip command for what is missing, from what the installed distribution says it needs.

It never names this project's own distribution: whoever owns such a name on an index decides what a user gets.
"""

from __future__ import annotations

import importlib.metadata
import platform
import re
import shlex
import sys
from collections.abc import Iterable

__all__ = ["install_command", "requirements"]

_DISTRIBUTION = "sspcab-edge"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")
_VERSION_BELOW = re.compile(r"""python_version\s*<\s*['"](\d+)\.(\d+)['"]""")
_ELSEWHERE = re.compile(r"""(platform_machine|sys_platform)\s*==\s*['"]([^'"]+)['"]""")


def install_command(extra: str | None, package: str) -> str:
    """What installs a missing package, with whatever else its extra lacks, each in a version that works.

    Args:
        extra: Name of the extra that holds it; None: it is always needed.
        package: The package itself, or the module that could not be imported.
    """
    wanted = requirements(extra)
    own = _normal(_name(package))
    missing = [one for one in wanted if _normal(_name(one)) == own or not _installed(_name(one))]
    if not missing:
        missing = wanted or [package]
    return f"pip install {' '.join(shlex.quote(one) for one in missing)}"


def requirements(extra: str | None) -> list[str]:
    """What an extra adds here, or for None what is always needed, as pip takes it; empty if nobody knows."""
    try:
        lines = importlib.metadata.requires(_DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    found: list[str] = []
    for line in lines:
        requirement, _, marker = (part.strip() for part in line.partition(";"))
        named = _EXTRA.search(marker)
        if (named[1] if named else None) != extra or not _applies(marker):
            continue
        if _normal(_name(requirement)) == _DISTRIBUTION:
            found += [one for inner in _extras_of(requirement) for one in requirements(inner)]
        else:
            found.append(requirement.replace(" ", ""))
    return list(dict.fromkeys(found))


def _applies(marker: str) -> bool:
    """Whether the parts of a marker that pyproject.toml uses hold here."""
    below = _VERSION_BELOW.search(marker)
    if below and sys.version_info[:2] >= (int(below[1]), int(below[2])):
        return False
    here = {"platform_machine": platform.machine(), "sys_platform": sys.platform}
    return all(here[what] == value for what, value in _ELSEWHERE.findall(marker))


def _extras_of(requirement: str) -> Iterable[str]:
    inside = requirement.partition("[")[2].partition("]")[0]
    return (one.strip() for one in inside.split(",") if one.strip())


def _name(requirement: str) -> str:
    """``torch`` of ``torch<2.14,>=2.10``; of a module its top-level package."""
    found = _NAME.match(requirement)
    return found[0] if found else requirement


def _normal(name: str) -> str:
    """A name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
