"""Optical flow: by inverse search, and by a network of the bundle whose answer is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from definitions.side_networks import SHIFT, brightness_network, shift_network
from sspcab_edge.errors import BundleError, EngineError
from sspcab_edge.front_end_spec import FlowNetwork, FlowSpec
from sspcab_runtime.frontends.optical_flow import Flows, open_flows

HEIGHT, WIDTH = 48, 64
Pixels = npt.NDArray[np.uint8]


def textured(shift: tuple[int, int] = (0, 0)) -> Pixels:
    """A texture that moves by (right, down)."""
    rng = np.random.default_rng(4)
    large = cv2.GaussianBlur(rng.integers(0, 256, (HEIGHT + 16, WIDTH + 16, 3), dtype=np.uint8), (0, 0), 2)
    right, down = shift
    return np.ascontiguousarray(large[8 - down : 8 - down + HEIGHT, 8 - right : 8 - right + WIDTH])


def network(**more: Any) -> FlowSpec:
    told: dict[str, Any] = {
        "file": "flow.onnx", "first": "first", "second": "second", "output": "flow", "pixels": False,
        "shape": (1, 2, HEIGHT, WIDTH), **more,
    }  # fmt: skip
    return FlowSpec(width=WIDTH, height=HEIGHT, network=FlowNetwork(**told))


def both(flows: Flows) -> Flows:
    flows.add(0, textured())
    flows.add(1, textured((3, -2)))
    return flows


@pytest.mark.parametrize("preset", ["ultrafast", "fast", "medium"])
def test_inverse_search_finds_a_shift_there_and_back(preset: Any) -> None:
    flows = both(open_flows(FlowSpec(width=WIDTH, height=HEIGHT, preset=preset), None))
    inside = (slice(12, -12), slice(12, -12))
    assert np.median(flows.between(0, 1)[inside], axis=(0, 1)) == pytest.approx([3, -2], abs=0.3)
    assert np.median(flows.between(1, 0)[inside], axis=(0, 1)) == pytest.approx([-3, 2], abs=0.3)


def test_frames_are_forgotten_and_pairs_computed_once() -> None:
    flows = both(open_flows(FlowSpec(width=WIDTH, height=HEIGHT), None))
    assert flows.between(0, 1) is flows.between(0, 1)
    flows.forget(1)
    with pytest.raises(KeyError):
        flows.between(0, 1)


@pytest.mark.parametrize(("low", "high"), [(0.0, 255.0), (0.0, 1.0), (-1.0, 1.0)])
def test_a_network_gets_the_frames_in_order_and_in_its_range(tmp_path: Path, low: float, high: float) -> None:
    (tmp_path / "flow.onnx").write_bytes(brightness_network(HEIGHT, WIDTH, "floats"))
    field = both(open_flows(network(low=low, high=high), tmp_path)).between(0, 1)
    want = np.stack([textured().mean(axis=2), textured((3, -2)).mean(axis=2)], axis=2)
    assert field.shape == (HEIGHT, WIDTH, 2)
    np.testing.assert_allclose(field, low + want * (high - low) / 255, rtol=0, atol=1e-4 * (high - low))


def test_a_network_of_pixels_gives_its_channels_last(tmp_path: Path) -> None:
    (tmp_path / "flow.onnx").write_bytes(brightness_network(HEIGHT, WIDTH, "pixels"))
    field = both(open_flows(network(pixels=True, shape=(1, HEIGHT, WIDTH, 2)), tmp_path)).between(1, 0)
    want = np.stack([textured((3, -2)).mean(axis=2), textured().mean(axis=2)], axis=2)
    np.testing.assert_allclose(field, want, rtol=0, atol=1e-3)


def test_a_smaller_field_is_enlarged_and_keeps_its_values(tmp_path: Path) -> None:
    from sspcab_export.side_networks import take_flow_network

    (tmp_path / "given.onnx").write_bytes(shift_network(HEIGHT, WIDTH))
    spec = take_flow_network(tmp_path / "given.onnx", (0.0, 255.0), tmp_path)
    assert spec.network is not None
    assert (spec.network.output, spec.network.shape) == ("flow", (1, 2, HEIGHT // 2, WIDTH // 2))
    (tmp_path / "given.onnx").unlink()
    field = both(open_flows(spec, tmp_path)).between(0, 1)
    assert field.shape == (HEIGHT, WIDTH, 2)
    assert np.allclose(field, SHIFT)


def test_a_network_that_cannot_be_had_or_gives_no_numbers(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="needs its file"):
        open_flows(network(), None)
    with pytest.raises(EngineError):
        open_flows(network(), tmp_path)
    (tmp_path / "flow.onnx").write_bytes(brightness_network(HEIGHT, WIDTH, "floats"))
    with pytest.raises(EngineError, match="no number"):
        both(open_flows(network(low=0.0, high=float("inf")), tmp_path)).between(0, 1)
