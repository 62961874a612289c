"""The lowest versions that are tested are those that the project promises."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_package_of_the_runtime_and_the_export_is_pinned_to_its_floor() -> None:
    place = ROOT / "tests" / "lowest" / "constraints.py"
    spec = importlib.util.spec_from_file_location("lowest_constraints", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    project = {
        "dependencies": ["numpy>=1.26", "click>=8.1"],
        "optional-dependencies": {
            "onnxruntime": ["onnxruntime>=1.18"],
            "openvino": ["openvino>=2025.0"],
            "video": ["av>=17"],
            "daemon": ["sspcab-edge[video]", "pymodbus>=3.16,<4", "tomli>=2.0; python_version < '3.11'"],
            "export": ["torch>=2.10,<2.14", "onnx>=1.19", "sspcab-edge[onnxruntime]"],
            "dev": ["pytest>=8.3"],
        },
    }
    assert module.lowest(project) == {
        "numpy": "1.26", "click": "8.1", "onnxruntime": "1.18", "openvino": "2025.0", "av": "17",
        "pymodbus": "3.16", "tomli": "2.0", "onnx": "1.19",
    }  # fmt: skip
