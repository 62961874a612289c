"""The command line: two forms, one help, nothing heavy before it is needed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest
from click.testing import CliRunner

from sspcab_bench import cli
from sspcab_bench.block_suite import SHAPES, BlockComparison, BlockOptions, Shape


def _invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli.group, arguments, prog_name="sspcab-bench")
    return result.exit_code, result.output


def test_help_teaches_every_form() -> None:
    code, text = _invoke("--help")
    assert code == 0
    assert "sspcab-bench BUNDLE [OPTIONS]" in text
    assert "sspcab-bench block [OPTIONS]" in text
    for option in ("--backend", "--threads", "--seconds", "--source", "--json", "--output", "--version"):
        assert option in text
    assert "sspcab-bench tuned BUNDLE [OPTIONS]" in text
    assert "block  " in text
    code, text = _invoke("tuned", "--help")
    assert code == 0
    for option in ("--objective", "--pairs", "--backend", "--seconds", "--json", "--output"):
        assert option in text
    code, text = _invoke("block", "--help")
    assert code == 0
    for option in ("--shape", "--dialect", "--backend", "--threads", "--seconds", "--json", "--output"):
        assert option in text


def test_no_arguments_give_the_help() -> None:
    assert "sspcab-bench BUNDLE [OPTIONS]" in _invoke()[1]


def test_version() -> None:
    code, text = _invoke("--version")
    assert (code, text.strip()) == (0, "0.1.0")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--no-such-option",),
        ("--json",),
        ("bundle-folder", "one-too-many"),
        ("bundle-folder", "--seconds", "0"),
        ("bundle-folder", "--threads", "0"),
        ("bundle-folder", "--backend", "tpu"),
        ("block", "--shape", "64"),
        ("block", "--shape", "64@0x8"),
        ("block", "--shape", "64@8x8x8"),
        ("block", "--dialect", "klingon"),
        ("block", "too-many"),
        ("tuned",),
        ("tuned", "bundle", "--pairs", "0"),
        ("tuned", "bundle", "--objective", "beauty"),
    ],
)
def test_usage_errors_are_exit_2(arguments: tuple[str, ...]) -> None:
    code, text = _invoke(*arguments)
    assert code == 2, text
    assert "Error" in text


def test_options_reach_the_block_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[BlockOptions] = []

    def fake(options: BlockOptions, progress: object) -> Sequence[BlockComparison]:
        seen.append(options)
        return []

    monkeypatch.setattr(cli, "run_blocks", fake)
    _invoke("block", "--json")
    _invoke("block", "--shape", "3@4X5", "--threads", "7", "--seconds", "0.5", "--backend", "openvino")
    assert seen[0].shapes == SHAPES
    assert seen[0].threads >= 1
    assert seen[1] == BlockOptions(7, ("openvino",), "official", (Shape(3, 4, 5),), 0.5)


def test_import_brings_nothing_heavy() -> None:
    code = (
        "import sys, sspcab_bench.cli\n"
        "heavy = {'torch', 'onnx', 'onnx_ir', 'onnxruntime', 'openvino', 'av', 'sspcab_export'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
