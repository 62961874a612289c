"""Gates: what a user may say, what holds without it, and what a device has to show again."""

from __future__ import annotations

import math

import msgspec
import pytest

from sspcab_edge.errors import OptionError
from sspcab_edge.manifest import Artifact, Decision, Gate, Parity, Precision, Quantiles, Rounding
from sspcab_edge.parity import shortfalls
from sspcab_export.gates import (
    advice,
    gate_for,
    is_trusted,
    parse_gates,
    passing_gates,
    replay_gate,
    score_rounding,
)

PLAIN = Decision(threshold=0.5, policy="given")


def spread(iqr: float) -> Decision:
    normal = Quantiles(minimum=0, q25=1, median=1, q75=1 + iqr, maximum=2 + iqr)
    return Decision(threshold=0.5, policy="false-alarm-rate", normal=normal)


def test_gates_are_read_by_precision_and_name() -> None:
    texts = ["int8:rate=0.03,auroc=0.01", "fp16:flips=2", "int8:score=0.5", "int8:map=1e-2,flips=0"]
    assert parse_gates(texts) == {
        "int8": {"rate": 0.03, "auroc": 0.01, "score": 0.5, "map": 0.01, "flips": 0},
        "fp16": {"flips": 2},
    }
    assert parse_gates([]) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("int4:rate=0.1", "is not understood"),
        ("int8", "is not understood"),
        ("rate=0.1", "is not understood"),
        (":rate=0.1", "is not understood"),
        ("", "is not understood"),
        ("INT8:rate=0.1", "is not understood"),
        ("int8:", "has no limit ''"),
        ("int8:speed=1", "has no limit 'speed'"),
        ("int8:rate=0.1,", "has no limit ''"),
        ("int8:rate", "sets rate to ''"),
        ("int8:rate=", "sets rate to ''"),
        ("int8:rate=much", "sets rate to 'much'"),
        ("int8:rate=0", "sets rate to '0'"),
        ("int8:rate=1", "sets rate to '1'"),
        ("int8:rate=1.5", "sets rate to '1.5'"),
        ("int8:auroc=1.01", "sets auroc to '1.01'"),
        ("int8:score=-1", "sets score to '-1'"),
        ("int8:score=nan", "sets score to 'nan'"),
        ("int8:score=inf", "sets score to 'inf'"),
        ("int8:flips=inf", "sets flips to 'inf'"),
        ("int8:rate=0.1=0.2", "sets rate to '0.1=0.2'"),
    ],
)
def test_what_is_no_gate_is_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_gates(["fp16:flips=1", text])
    assert said in str(caught.value)
    assert repr(text) in str(caught.value)


def test_half_a_flip_is_refused() -> None:
    """Taken as 1, it would be another gate than the user reads."""
    with pytest.raises(OptionError, match="flips"):
        parse_gates(["int8:flips=1.5"])


def test_limits_at_the_ends_of_what_is_possible_are_taken() -> None:
    assert parse_gates(["fp32:auroc=0,flips=0,score=0,map=0"])["fp32"]["auroc"] == 0
    assert parse_gates(["fp32:auroc=1"])["fp32"]["auroc"] == 1


@pytest.mark.parametrize(
    ("precision", "expected"),
    [
        (
            "fp32",
            Gate(
                max_flips=0,
                score_tolerance=1e-4,
                score_relative=1e-5,
                map_tolerance=1e-3,
                mean_map_tolerance=5e-5,
            ),
        ),
        ("fp16", Gate(max_flips_upper95=0.01, max_auroc_drop=0.005)),
        ("int8", Gate(max_flips_upper95=0.02, max_auroc_drop=0.005)),
    ],
)
def test_gates_on_the_users_scene(precision: Precision, expected: Gate) -> None:
    assert gate_for(precision, PLAIN, "given", {}) == expected


def test_gates_on_built_in_pictures() -> None:
    """They are too few for a rate: labels may not change, and scores are near the source's."""
    assert gate_for("fp32", PLAIN, "built-in", {}) == gate_for("fp32", PLAIN, "given", {})
    assert gate_for("fp16", PLAIN, "built-in", {}) == Gate(max_flips=0, score_tolerance=0.01)


def test_a_users_limits_replace_the_defaults_of_their_precision_alone() -> None:
    limits = parse_gates(["fp16:rate=0.3,flips=4,map=7", "fp32:score=2"])
    assert gate_for("fp16", PLAIN, "given", limits) == Gate(
        max_flips=4, max_flips_upper95=0.3, max_auroc_drop=0.005, map_tolerance=7
    )
    assert gate_for("int8", PLAIN, "given", limits) == gate_for("int8", PLAIN, "given", {})
    assert gate_for("fp32", PLAIN, "given", limits) == Gate(
        max_flips=0, score_tolerance=2, score_relative=1e-5, map_tolerance=1e-3, mean_map_tolerance=5e-5
    )


@pytest.mark.parametrize(("iqr", "factor"), [(0.2, 1), (1.0, 1), (30.0, 30)])
def test_scores_are_tolerated_on_the_scale_of_normal_ones(iqr: float, factor: float) -> None:
    assert gate_for("fp32", spread(iqr), "given", {}).score_tolerance == pytest.approx(1e-4 * factor)
    assert gate_for("fp16", spread(iqr), "built-in", {}).score_tolerance == pytest.approx(0.01 * factor)
    given = gate_for("int8", spread(iqr), "given", parse_gates(["int8:score=0.2"]))
    assert given.score_tolerance == pytest.approx(0.2 * factor)
    assert score_rounding(spread(iqr), None) == pytest.approx(1e-4 * factor)


def shown(gate: Gate, **changed: float | None) -> Parity:
    parity = Parity(
        pictures=500,
        labelled=0,
        blends=100,
        scene="given",
        engine="test",
        max_abs_score_diff=0.25,
        score_excess=0.25,
        mean_abs_score_diff=0.1,
        max_abs_map_diff=0.5,
        margin=0.1,
        flips=3,
        blend_flips=2,
        flips_upper95=0.01,
        auroc_source=None,
        auroc_artifact=None,
        gate=gate,
        passed=True,
    )
    return msgspec.structs.replace(parity, **changed)


def test_fp32_replays_its_own_gate() -> None:
    gate = Gate(max_flips=0, score_tolerance=1e-4, map_tolerance=1e-3)
    assert replay_gate("fp32", shown(gate), PLAIN, 100) == gate


@pytest.mark.parametrize(
    ("inputs", "rate", "own", "expected"),
    [
        (100, 0.02, None, 3 + 2),
        (99, 0.02, None, 3 + 1),
        (49, 0.02, None, 3 + 0),
        (100, None, None, 3),
        (100, 0.02, 10, 10),
        (100, 0.02, 4, 5),
    ],
)
def test_a_replay_may_flip_what_flipped_and_what_the_rate_allows(
    inputs: int, rate: float | None, own: int | None, expected: int
) -> None:
    gate = Gate(max_flips_upper95=rate, max_flips=own)
    assert replay_gate("int8", shown(gate), PLAIN, inputs).max_flips == expected


def test_a_replay_may_differ_twice_as_much_as_the_export_did_and_four_times_on_average() -> None:
    gate = Gate(max_flips_upper95=0.02, max_auroc_drop=0.005)
    assert replay_gate("int8", shown(gate), PLAIN, 100) == Gate(
        max_flips=5, score_tolerance=0.5, mean_score_tolerance=0.4, map_tolerance=1.0
    )


def test_a_replay_of_what_did_not_differ_allows_rounding() -> None:
    parity = shown(Gate(), max_abs_score_diff=0.0, mean_abs_score_diff=0.0, max_abs_map_diff=0.0)
    replay = replay_gate("fp16", parity, spread(20.0), 100)
    assert replay.score_tolerance == pytest.approx(2e-3)
    assert replay.mean_score_tolerance == pytest.approx(2e-3)
    assert replay.map_tolerance == pytest.approx(1e-3)


def test_what_was_not_compared_is_not_replayed() -> None:
    parity = shown(Gate(), max_abs_map_diff=None, flips=None, blend_flips=None, flips_upper95=None)
    replay = replay_gate("fp16", parity, PLAIN, 100)
    assert (replay.map_tolerance, replay.max_flips) == (None, None)
    assert replay.score_tolerance is not None
    assert math.isclose(replay.score_tolerance, 0.5)


def noise(score: float = 0.0, heat: float | None = None, reach: float = 1.0) -> Rounding:
    return Rounding(
        method="float64",
        inputs=5,
        score=score,
        map=heat,
        map_range=None if heat is None else reach,
        trusted=True,
    )


@pytest.mark.parametrize(
    ("own", "score", "heat"),
    [
        (None, 1e-4, 1e-3),
        (noise(), 1e-4, 1e-3),
        (noise(1e-5, 1e-4), 1e-4, 1e-3),
        (noise(5e-5, 8e-4), 3e-4, 4.8e-3),
        (noise(1.0, 1.0), 1e-3, 1e-2),
        (noise(0.0, 0.5, reach=700.0), 1e-4, 3.0),
        (noise(0.0, 0.5, reach=1e-3), 1e-4, 1e-3),
        (noise(math.inf, math.inf), 1e-3, 1e-2),
    ],
)
def test_no_limit_lies_below_six_times_the_models_own_rounding_nor_far_above(
    own: Rounding | None, score: float, heat: float
) -> None:
    gate = gate_for("fp32", PLAIN, "given", {}, own)
    assert gate.score_tolerance == pytest.approx(score)
    assert gate.map_tolerance == pytest.approx(heat)
    assert replay_gate("fp32", shown(gate), PLAIN, 100, own) == gate, "a device has the same limits"
    least = shown(gate, max_abs_score_diff=0.0, mean_abs_score_diff=0.0, max_abs_map_diff=0.0)
    replay = replay_gate("fp16", least, PLAIN, 100, own)
    assert (replay.score_tolerance, replay.mean_score_tolerance) == (gate.score_tolerance,) * 2
    assert replay.map_tolerance == gate.map_tolerance
    if own is not None:
        needed = 6 * own.score <= score * 1.001 and 6 * (own.map or 0) <= heat * 1.001
        assert is_trusted(own, PLAIN) == needed


@pytest.mark.parametrize(
    ("own", "limit"), [(None, 5e-5), (0.0, 5e-5), (1e-5, 5e-5), (6e-5, 2.4e-4), (1.0, 1e-3), (math.inf, 1e-3)]
)
def test_a_map_may_differ_on_average_by_four_times_the_models_own_rounding(
    own: float | None, limit: float
) -> None:
    rounding = None if own is None else msgspec.structs.replace(noise(0.0, 1e-4), map_mean=own)
    gate = gate_for("fp32", PLAIN, "given", {}, rounding)
    assert gate.mean_map_tolerance == pytest.approx(limit)
    assert gate_for("fp32", PLAIN, "given", parse_gates(["fp32:map-mean=1e-9"]), rounding) == (
        msgspec.structs.replace(gate, mean_map_tolerance=1e-9)
    )


def test_a_users_limit_is_not_widened_by_rounding() -> None:
    limits = parse_gates(["fp32:map=1e-5,score=1e-6"])
    gate = gate_for("fp32", PLAIN, "given", limits, noise(1e-3, 1e-3))
    assert (gate.score_tolerance, gate.map_tolerance) == (1e-6, 1e-5)


def artifact(precision: Precision, gate: Gate, **changed: float | None) -> Artifact:
    fits = {
        "max_abs_score_diff": 0.0,
        "score_excess": 0.0,
        "max_abs_map_diff": 0.0,
        "flips": 0,
        "blend_flips": 0,
    }
    parity = shown(gate, **{**fits, "flips_upper95": 0.001, **changed})
    parity = msgspec.structs.replace(parity, passed=not shortfalls(parity))
    return Artifact(
        target="onnx", precision=precision, files=("m",), size_bytes=1, opset=17, parity=parity, replay=gate
    )


FP32 = Gate(max_flips=0, score_tolerance=3e-3, map_tolerance=1e-3, mean_map_tolerance=5e-5)
INT8 = Gate(max_flips_upper95=0.02, max_auroc_drop=0.005)


@pytest.mark.parametrize(
    ("failed", "said"),
    [
        ([artifact("fp32", FP32)], []),
        ([artifact("fp32", FP32, max_abs_map_diff=0.00142)], ["fp32:map=0.0015"]),
        ([artifact("fp32", FP32, max_abs_map_diff=0.0014)], ["fp32:map=0.0015"]),
        ([artifact("fp32", FP32, mean_abs_map_diff=0.000121)], ["fp32:map-mean=0.00013"]),
        ([artifact("fp32", FP32, score_excess=0.0301)], ["fp32:score=0.0011"]),
        ([artifact("fp32", FP32, flips=3)], ["fp32:flips=3"]),
        (
            [
                artifact("fp32", FP32, max_abs_map_diff=0.02),
                artifact("fp32", FP32, max_abs_map_diff=0.5, flips=2),
            ],
            ["fp32:map=0.51,flips=2"],
        ),
        ([artifact("int8", INT8, flips_upper95=0.04131)], ["int8:rate=0.042"]),
        ([artifact("int8", INT8, auroc_source=0.99, auroc_artifact=0.9)], ["int8:auroc=0.091"]),
        ([artifact("int8", INT8, flips_upper95=1.0)], []),
        ([artifact("fp32", FP32, max_abs_map_diff=math.inf)], []),
    ],
)
def test_a_refusal_names_the_options_that_what_was_found_would_pass(
    failed: list[Artifact], said: list[str]
) -> None:
    """Read back as options and judged again, they are passed."""
    options = passing_gates(failed, spread(30.0))
    assert options == said
    text = advice(failed, spread(30.0), None)
    assert all(f"--gate {option}" in text for option in options)
    limits = parse_gates(options)
    for one in failed if options else []:
        gate = gate_for(one.precision, spread(30.0), "given", limits)
        assert not shortfalls(msgspec.structs.replace(one.parity, gate=gate))


def test_a_refusal_names_rounding_that_is_behind_it() -> None:
    failed = [artifact("fp32", FP32, max_abs_map_diff=0.5)]
    blind = msgspec.structs.replace(noise(0.0, 0.5), trusted=False)
    assert "rounding alone moves the model's own answers" in advice(failed, PLAIN, blind)
    assert "rounding" not in advice(failed, PLAIN, noise())
