"""Installation hints: commands that work, and never a name that nobody here owns."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sspcab_edge import installing
from sspcab_edge.errors import MissingPackageError
from sspcab_edge.installing import install_command, requirements

ROOT = Path(__file__).parents[2]

LINES = [
    "numpy>=1.26",
    "av>=17; extra == 'daemon'",
    "tomli>=2.0; (python_version < '3.11') and extra == 'daemon'",
    "nothing>=1; (platform_machine == 'pdp11' and sys_platform == 'unix') and extra == 'daemon'",
    'uvicorn (>=0.30) ; extra == "daemon"',
    "prometheus-client>=0.20; extra == 'daemon'",
    "sspcab-edge[daemon,video]; extra == 'all'",
    "av>=17; extra == 'video'",
]
"""Lines of a distribution's metadata, as several build tools write them."""


@pytest.mark.parametrize(
    ("extra", "package", "present", "expected"),
    [
        ("video", "av", {"av"}, "pip install 'av>=17'"),
        ("video", "av 17 or newer", {"av"}, "pip install 'av>=17'"),
        ("daemon", "prometheus_client", {"av"}, "pip install 'uvicorn(>=0.30)' 'prometheus-client>=0.20'"),
        ("all", "av", {"uvicorn", "prometheus-client"}, "pip install 'av>=17'"),
        (None, "numpy", {"numpy"}, "pip install 'numpy>=1.26'"),
        ("video", "a.module.inside", {"av"}, "pip install 'av>=17'"),
        ("unheard", "something", set(), "pip install something"),
    ],
)
def test_the_command_names_what_an_extra_lacks(
    monkeypatch: pytest.MonkeyPatch, extra: str | None, package: str, present: set[str], expected: str
) -> None:
    def version(name: str) -> str:
        if name not in {*present, "tomli"}:
            raise importlib.metadata.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(importlib.metadata, "requires", lambda name: LINES)
    monkeypatch.setattr(importlib.metadata, "version", version)
    assert install_command(extra, package) == expected


def test_a_checkout_that_was_never_installed_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installing, "_DISTRIBUTION", "never-installed-anywhere")
    assert requirements("openvino") == []
    assert install_command("openvino", "openvino") == "pip install openvino"


@pytest.mark.parametrize(
    "extra", ["onnxruntime", "openvino", "tensorrt", "video", "export", "daemon", "bench"]
)
def test_no_extra_of_ours_leads_to_our_own_name(extra: str) -> None:
    names = requirements(extra)
    assert names
    assert not any("sspcab" in name for name in names)


def test_pip_understands_every_command() -> None:
    wanted = sorted({one for extra in ("export", "daemon", None) for one in requirements(extra)})
    code = "import sys\nfrom pip._vendor.packaging.requirements import Requirement\n"
    code += "for one in sys.argv[1:]: print(Requirement(one).name)"
    done = subprocess.run([sys.executable, "-c", code, *wanted], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(wanted) > 10


def test_what_is_in_no_extra_is_called_as_on_the_index() -> None:
    text = str(MissingPackageError("scipy", None, "labels.mat, a MATLAB file"))
    assert text == "scipy is not installed, needed for labels.mat, a MATLAB file: pip install scipy"


def test_nothing_that_users_read_installs_our_name_from_an_index() -> None:
    """The name is nobody's there: whoever takes it would get our users."""
    offer = re.compile(r"install [^`\n]*sspcab-edge")
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")]
    folders = ("sspcab_edge", "export", "runtime", "benchmarks")
    code = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert len(pages) > 5
    for path in [*pages, *code]:
        assert not offer.search(path.read_text(encoding="utf-8")), path
