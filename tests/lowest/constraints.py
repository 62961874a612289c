"""Print the lowest version of every package that people who use the project need, as constraints for pip.

torch is left out: its lowest version comes with gigabytes of CUDA. So are the tools of developers.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)>=(?P<lowest>[0-9.]+)")
_EXTRAS = ("onnxruntime", "openvino", "video", "daemon", "export")
_LEFT_OUT = "torch"


def lowest(project: dict[str, Any]) -> dict[str, str]:
    """Name -> version, from the table ``project`` of ``pyproject.toml``."""
    optional = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for extra in _EXTRAS for line in optional[extra])]
    found = [match for line in lines if (match := _REQUIREMENT.match(line)) is not None]
    return {match["name"]: match["lowest"] for match in found if match["name"] != _LEFT_OUT}


def main() -> None:
    """Read the file that is named; print a line for each package."""
    project = tomllib.loads(Path(sys.argv[1]).read_text())["project"]
    for name, version in sorted(lowest(project).items()):
        print(f"{name}=={version}.*")


if __name__ == "__main__":
    main()
