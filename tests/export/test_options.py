"""Options have one declaration: the command line, the Python function and the texts follow from it."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from sspcab_edge.errors import OptionError
from sspcab_export import ExportOptions, FrontEndOptions, HostOptions, export
from sspcab_export.cli import command
from sspcab_export.command_options import GroupedCommand, declared_options, take
from sspcab_export.option_field import GROUPS, Option, option, options_of
from sspcab_export.option_types import Numbers, Polygon, Size, Whole

DECLARING = (ExportOptions, HostOptions, FrontEndOptions)
DECLARED = [one for kind in DECLARING for one in options_of(kind)]


def test_the_command_line_has_every_declared_option_and_nothing_twice() -> None:
    params = {param.name: param for param in command.params}
    assert len({one.field for one in DECLARED}) == len({one.flag for one in DECLARED}) == len(DECLARED)
    assert {one.field for one in DECLARED} <= set(params)
    own = set(params) - {one.field for one in DECLARED}
    assert own == {"checkpoint", "dry_run", "recipe_path", "require_plan", "as_json", "verbose", "version"}


def test_the_function_takes_the_fields_as_its_arguments() -> None:
    parameters = dict(inspect.signature(export).parameters)
    parameters.pop("checkpoint")
    assert list(parameters) == [field.name for field in fields(ExportOptions)]
    assert parameters["float_budget"].default == ExportOptions().float_budget == 8
    with pytest.raises(TypeError, match="unexpected keyword argument 'calibratoin'"):
        export("model.pt", calibratoin="good", output="bundle")  # type: ignore[call-arg]


def test_paths_are_read_as_all_commands_read_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    paths = [one for one in DECLARED if one.is_path]
    assert {"calibration", "validation", "training", "output", "mask", "reference"} <= {
        one.field for one in paths
    }
    for one in paths:
        assert one.kind.convert("file://~/our%20images", None, None) == Path("/home/me/our images")


@pytest.mark.parametrize("kind", DECLARING)
def test_every_field_but_the_nested_ones_is_an_option(kind: Any) -> None:
    declared = {one.field for one in options_of(kind)}
    assert {field.name for field in fields(kind)} - declared <= {"host", "front_end", "progress"}
    for field in fields(kind):
        assert f"        {field.name}: " in str(kind.__doc__), field.name


@pytest.mark.parametrize("one", DECLARED, ids=[one.name for one in DECLARED])
def test_every_help_is_whole_sentences_and_says_the_default_where_there_is_one(one: Option) -> None:
    text, _, shown = one.help.partition(" [default: ")
    assert text.endswith(".")
    assert one.default in (None, (), False) or shown


def test_help_shows_groups_in_their_order_with_the_common_first() -> None:
    shown = CliRunner().invoke(command, ["--help"], terminal_width=100).output
    titles = [line.removesuffix(":") for line in shown.splitlines() if line[:1].isalpha() and line[-1] == ":"]
    assert titles[: len(GROUPS)] == list(GROUPS)
    common = shown[shown.index("Common:") : shown.index("Checkpoint:")]
    for flag in ("--target", "--precision", "--calibration", "-o, --output"):
        assert flag in common


@pytest.mark.parametrize("one", DECLARED, ids=[one.name for one in DECLARED])
def test_choices_are_texts_which_all_that_old_versions_of_click_can_show(one: Option) -> None:
    if isinstance(one.kind, click.Choice):
        assert all(isinstance(choice, str) for choice in one.kind.choices)


@dataclass(frozen=True, slots=True)
class Sample:
    """Kinds of options whose value is easily taken for "not given"."""

    number: float | None = option(None, "Output", "A number.")
    count: int = option(3, "Output", "A count.")
    flag: bool = option(False, "Output", "A flag.")
    many: tuple[int, ...] = option((), "Output", "Several.", flag="one")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], Sample()),
        (["--number", "0", "--count", "0"], Sample(number=0.0, count=0)),
        (["--flag", "--one", "0", "--one", "2"], Sample(flag=True, many=(0, 2))),
    ],
)
def test_what_was_given_arrives_and_defaults_are_the_dataclass_s(
    arguments: list[str], expected: Sample
) -> None:
    got: list[Sample] = []

    @click.command(cls=GroupedCommand)
    @declared_options(Sample)
    def tried(**values: Any) -> None:
        got.append(take(Sample, values))
        assert values == {}

    assert CliRunner().invoke(tried, arguments).exit_code == 0
    assert got == [expected]
    assert [one.given(expected) for one in options_of(Sample)] == [
        getattr(expected, field.name) != getattr(Sample(), field.name) for field in fields(Sample)
    ]


def test_messages_name_options_as_the_command_line_does() -> None:
    with pytest.raises(OptionError, match="--detector-confidence is about objects"):
        FrontEndOptions(confidence=0.5).refuse_objects("draem")
    with pytest.raises(OptionError, match="--flow-scale is of no use"):
        FrontEndOptions(flow_scale=2.0).refuse_flow("draem")


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Size(), "256x320", (256, 320)),
        (Numbers("numbers", ",", (1, 3), "1"), "0.485,0.456,0.1", (0.485, 0.456, 0.1)),
        (Numbers("LOW:HIGH", ":", (2,), "-1:1"), "-1:1", (-1.0, 1.0)),
        (Whole("four", ",", (4,), "1"), "10,20,30,40", (10, 20, 30, 40)),
        (Polygon(), "10,10 90,10 90,60", ((10, 10), (90, 10), (90, 60))),
    ],
)
def test_values_are_spelled_as_they_are_read(kind: Any, text: str, value: Any) -> None:
    assert kind.convert(text, None, None) == value
    assert kind.spell(value) == text


def test_the_declaration_needs_neither_torch_nor_onnx() -> None:
    code = (
        "import sys, sspcab_export.cli, sspcab_export.options; from sspcab_export import HostOptions\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'onnx', 'onnx_ir', 'cv2'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
