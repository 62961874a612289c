"""Pages and tables of reports: everything is in them, and what is hostile is text."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from sspcab_bench import cli
from sspcab_bench.page import html_page, markdown
from sspcab_bench.plots import bars, curve, distribution, scatter, ticks
from sspcab_bench.summary import histogram
from sspcab_edge.bundle import Bundle

_POSITIVE = st.floats(1e-3, 1e6)


@given(st.lists(_POSITIVE, min_size=1, max_size=200), st.integers(1, 50))
def test_a_histogram_counts_everything(values: list[float], bins: int) -> None:
    drawn = histogram(values, bins)
    assert sum(drawn.counts) + drawn.above == len(values)
    assert drawn.above <= math.ceil(len(values) * 0.01) + 1
    assert len(drawn.counts) == bins
    assert drawn.low == min(values)
    np.testing.assert_allclose(
        drawn.low + drawn.step * bins, max(np.percentile(values, 99), drawn.low + 1e-6), rtol=1e-6
    )


@given(st.floats(-1e5, 1e5), st.floats(1e-3, 1e6))
def test_ticks_are_round_and_inside(low: float, span: float) -> None:
    found = ticks(low, low + span)
    assert 1 <= len(found) <= 11
    assert all(low <= value <= low + span for value in found)
    assert found == sorted(found)


def _numbers(svg: str) -> list[float]:
    ElementTree.fromstring(svg)  # it is well-formed
    return [float(number) for number in re.findall(r'"(-?\d+\.?\d*)"', svg)]


@given(st.lists(st.tuples(_POSITIVE, _POSITIVE), min_size=1, max_size=20))
def test_plots_stay_inside(points: list[tuple[float, float]]) -> None:
    for svg in (
        scatter(points, ("x", "y"), "t"),
        curve(sorted(points), ("x", "y"), "t"),
        distribution([{"low": x, "step": y, "counts": [1, 2, 0], "above": 1} for x, y in points], "t"),
        bars({f"{number}": {"a": x, "b": y} for number, (x, y) in enumerate(points)}, ["a", "b"], "ms", "t"),
    ):
        assert "nan" not in svg
        assert "inf" not in svg
        assert all(-1 <= number <= max(485, 44 * len(points) + 10) for number in _numbers(svg))


class _Links(HTMLParser):
    """Whatever a browser would ask the network for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [
            f"{tag} {name}={value}" for name, value in attrs if name in ("src", "href", "srcset", "action")
        ]
        assert tag not in ("script", "link", "iframe", "img")


@pytest.fixture(scope="module")
def report(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A real one, with its page and its table."""
    folder = tmp_path_factory.mktemp("report")
    result = CliRunner().invoke(
        cli.group,
        ["bundle", str(bundle_path), "--seconds", "0.05", "--output", str(folder / "r.json"),
         "--html", str(folder / "r.html"), "--markdown", str(folder / "r.md")],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    read: dict[str, Any] = json.loads((folder / "r.json").read_text())
    assert (folder / "r.html").read_text() == html_page([read])
    assert (folder / "r.md").read_text() == markdown(read)
    return read


def test_the_page_needs_nothing(report: dict[str, Any]) -> None:
    text = html_page([report])
    links = _Links()
    links.feed(text)
    assert links.found == []
    assert "url(" not in text
    assert "@import" not in text
    for result in report["results"]:
        assert f"{result['target']}-{result['precision']} on {result['backend']}" in text


def test_hostile_names_are_text(report: dict[str, Any]) -> None:
    evil = '<script>alert(1)</script>"><img src=x>'
    bad = json.loads(json.dumps(report))
    bad["bundle"]["name"] = bad["source"] = bad["results"][0]["backend"] = evil
    bad["warnings"] = [evil]
    bad["results"][0]["stages_ms"][evil] = 1.0
    links = _Links()
    links.feed(html_page([bad]))
    assert links.found == []


def test_markdown_has_a_row_for_each(report: dict[str, Any]) -> None:
    rows = [line for line in markdown(report).splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + len(report["results"])
    assert len({row.count("|") for row in rows}) == 1


def test_pages_of_several_reports(report: dict[str, Any], bright: Bundle, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(report))
    assert CliRunner().invoke(
        cli.group,
        ["sustained", str(bright.path), "--seconds", "1", "--points", "3",
         "--output", str(tmp_path / "b.json")],
    ).exit_code == 0  # fmt: skip
    result = CliRunner().invoke(
        cli.group,
        ["page", str(tmp_path / "a.json"), str(tmp_path / "b.json"), "-o", str(tmp_path / "p.html")],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    text = (tmp_path / "p.html").read_text()
    assert "Speed on" in text
    assert "Sustained" in text


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"results": [], "warnings": [], "machine": {}}', "null", "\x00"]
)
def test_no_report(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    result = CliRunner().invoke(cli.group, ["page", str(tmp_path / "a.json"), "-o", str(tmp_path / "p.html")])
    assert result.exit_code != 0
    assert not (tmp_path / "p.html").exists()
