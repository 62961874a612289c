"""Every TensorRT name that our code uses exists in the real Python bindings of 10.3, 10.13, 10.16 and 11.4.

The bindings are NVIDIA's wheels, downloaded once into pytest's cache and never installed. They import against
a stub of the three libraries that they link, which answers nothing: names can be seen, nothing can be called.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from sspcab_runtime.engines import tensorrt as package
from sspcab_runtime.engines.tensorrt.api import API, OBJECTS, OPTIONAL_NAMES

VERSIONS = ("10.3.0", "10.13.3.9", "10.16.1.11", "11.4.0.106")
SOURCES = sorted(Path(str(package.__file__)).parent.glob("*.py"))

STUB = """
void *createInferBuilder_INTERNAL(void) { return 0; }
void *createInferRuntime_INTERNAL(void) { return 0; }
void *createInferRefitter_INTERNAL(void) { return 0; }
void *createNvOnnxParser_INTERNAL(void) { return 0; }
void *createNvOnnxParserRefitter_INTERNAL(void) { return 0; }
void *getBuilderPluginRegistry(void) { return 0; }
void *getPluginRegistry(void) { return 0; }
int getNvOnnxParserVersion(void) { return 0; }
_Bool initLibNvInferPlugins(void) { return 1; }
"""

ASK = """
import json, sys
import tensorrt_bindings as trt
wanted = json.load(sys.stdin)
missing = [name for name in wanted if not hasattr(trt, name)]
for owner, members in wanted.items():
    missing += [f"{owner}.{m}" for m in members if not hasattr(getattr(trt, owner, None), m)]
print(json.dumps([trt.__version__, missing]))
"""


def used() -> tuple[set[str], set[str]]:
    """(names of the module and members of its enums, "Class.member" of objects) in our source."""
    names, members = set(), set()
    for path in SOURCES:
        for found in ast.walk(ast.parse(path.read_text())):
            if isinstance(found, ast.Attribute):
                owner = found.value
                if isinstance(owner, ast.Name) and owner.id == "trt":
                    names.add(found.attr)
                elif isinstance(owner, ast.Name) and owner.id in OBJECTS:
                    members.add(f"{OBJECTS[owner.id]}.{found.attr}")
                elif isinstance(owner, ast.Attribute) and _is_trt(owner.value):
                    members.add(f"{owner.attr}.{found.attr}")
            elif isinstance(found, ast.Call) and getattr(found.func, "id", "") in ("getattr", "hasattr"):
                owner, key = found.args[:2]
                if not isinstance(key, ast.Constant):
                    continue
                if _is_trt(owner):
                    names.add(str(key.value))
                elif isinstance(owner, ast.Attribute) and _is_trt(owner.value):
                    members.add(f"{owner.attr}.{key.value!s}")
    return names - {"__name__", "__version__"}, {m for m in members if not m.endswith(".__init__")}


def _is_trt(value: ast.expr) -> bool:
    return isinstance(value, ast.Name) and value.id == "trt"


def test_the_table_is_what_the_source_uses() -> None:
    names, members = used()
    assert len(SOURCES) > 10
    listed = {f"{owner}.{member}" for owner, row in API.items() for member in row}
    assert members == listed
    assert names <= set(API), "every class and enum has a row"
    assert set(API) == names | {member.split(".")[0] for member in members}


def test_optional_names_are_looked_up_with_getattr() -> None:
    text = "\n".join(path.read_text() for path in SOURCES)
    for name, meaning in OPTIONAL_NAMES.items():
        assert f'"{name.split(".")[-1]}", None)' in text
        assert meaning


def test_enum_members_are_asked_by_name() -> None:
    """11 renumbered its enums: 1 << 1, strongly typed in 10, is another flag there."""
    for path in SOURCES:
        for found in ast.walk(ast.parse(path.read_text())):
            if isinstance(found, ast.Call) and getattr(found.func, "attr", "") == "create_network":
                (argument,) = found.args
                assert isinstance(argument, ast.Call), "flags come from _strongly_typed"


def test_no_name_that_11_removed_and_no_precision_flag_is_used() -> None:
    names, members = used()
    for gone in (
        "FP16",
        "INT8",
        "BF16",
        "FP8",
        "EXPLICIT_BATCH",
        "int8_calibrator",
        "platform_has_fast_fp16",
    ):
        assert not any(name.endswith(gone) for name in names | members)


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders 10 and 11 with the stub libraries."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: the bindings cannot be imported without a stub of their libraries")
    folder = tmp_path_factory.mktemp("stubs")
    (folder / "stub.c").write_text(STUB)
    for major in ("10", "11"):
        (folder / major).mkdir()
        for name in ("nvinfer", "nvonnxparser", "nvinfer_plugin"):
            library = f"lib{name}.so.{major}"
            soname = f"-Wl,-soname,{library}"
            command = [compiler, "-shared", "-fPIC", soname, "-o", str(folder / major / library)]
            subprocess.run([*command, str(folder / "stub.c")], check=True, timeout=60)
    return folder


def bindings(version: str, cache: Path) -> Path:
    """The unpacked wheel of a version, from pytest's cache or the package index."""
    folder = cache / f"{version}-{sys.implementation.cache_tag}"
    if (folder / "tensorrt_bindings").is_dir():
        return folder
    wheels = cache / f"download-{version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(wheels), f"tensorrt-cu12-bindings=={version}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    found = sorted(wheels.glob("*.whl"))
    if done.returncode != 0 or not found:
        last = done.stderr.strip().splitlines()[-1:] or ["no wheel"]
        pytest.skip(f"the bindings of TensorRT {version} cannot be downloaded here: {last[0]}")
    partial = folder.with_name(f"{folder.name}.{os.getpid()}")
    with zipfile.ZipFile(found[0]) as wheel:
        wheel.extractall(partial)
    if not folder.exists():
        partial.rename(folder)
    return folder


@pytest.mark.parametrize("version", VERSIONS)
def test_every_name_exists(version: str, stubs: Path, pytestconfig: pytest.Config) -> None:
    assert pytestconfig.cache is not None
    folder = bindings(version, Path(pytestconfig.cache.mkdir("tensorrt-bindings")))
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(stubs / version.split(".")[0]),
        "PYTHONPATH": str(folder),
    }
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        input=json.dumps(API),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    got: list[Any] = json.loads(done.stdout)
    assert got == [version, []], "nothing is missing"
