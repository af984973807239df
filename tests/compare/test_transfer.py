"""Initial weights against the filler's distribution, segments from snapshots, and the momentum's measure."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from fake_pair import SHAPES, change_spec, outputs, write_stage

from compare.stages import compare_stage
from compare.transfer import msra_p_value
from experiment.artifacts import RunFolder


def p_value(weight, variance_norm="FAN_IN"):
    return msra_p_value(SimpleNamespace(array=lambda stage, name: weight), "fc1_weight_initial", variance_norm)


def drawn(n: float, shape=(120, 480), seed=0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=shape) * (2 / n) ** 0.5).astype(np.float32)


FANS = {"FAN_IN": 480, "FAN_OUT": 120, "AVERAGE": 300}


@pytest.mark.parametrize("norm", FANS)
@pytest.mark.parametrize("of", FANS)
def test_only_the_filler_that_the_specification_names_passes(norm, of):
    p = p_value(drawn(FANS[of]), norm)
    assert (p > 1e-3) if norm == of else (p < 1e-6)


def test_p_values_of_right_weights_are_uniform():
    p = np.sort([p_value(drawn(20, (4, 20), seed)) for seed in range(200)])
    assert np.abs(p - (np.arange(200) + 0.5) / 200).max() < 0.12  # a KS distance that one draw in 200 exceeds


def test_the_p_value_is_that_of_kolmogorovs_limit():
    weight = drawn(480)
    values = np.sort(weight.ravel().astype(float)) / math.sqrt(2 / 480)
    cdf = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in values])
    n = len(cdf)
    d = max((np.arange(1, n + 1) / n - cdf).max(), (cdf - np.arange(n) / n).max())
    x = d * math.sqrt(n)
    assert p_value(weight) == pytest.approx(
        2 * sum((-1) ** (j - 1) * math.exp(-2 * j * j * x * x) for j in range(1, 50)), rel=0.02, abs=1e-3
    )


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_have_no_p_value(value):
    weight = drawn(480)
    weight[3, 4] = value
    assert math.isnan(p_value(weight))


def test_uniform_weights_of_the_same_variance_are_found():
    bound = math.sqrt(3 * 2 / 480)
    assert p_value(np.random.default_rng(0).uniform(-bound, bound, (120, 480))) < 1e-6


def by_name(checks):
    found = {(check.quantity, check.item): check for check in checks}
    assert len(found) == len(checks)
    return found


@pytest.mark.parametrize("side", ["a", "b"])
def test_each_sides_weights_are_judged_by_the_named_filler(runs, pair_of, side):
    shapes = {"fc1": (400, 3), "fc2": (3, 400)}
    for run in (runs.a, runs.b):
        fan_out = run == getattr(runs, side)
        change_spec(run, lambda s: s["values"]["transfer"].update(variance_norm="FAN_IN"))
        write_stage(RunFolder(run), "transfer", {
            ("transfer", f"{layer}_weight_initial"): lambda _, s=shape, out=fan_out: drawn(s[0] if out else s[1], s)
            for layer, shape in shapes.items()
        }, drew_itself=True)  # fmt: skip
    for mode in ("isolated", "chained"):
        found = by_name(compare_stage("transfer", pair_of(runs.a, runs.b, mode)))
        for layer in shapes:
            for of in "ab":
                assert found["initial_p", f"{layer}_weight_initial of {of}"].agrees is (of != side)
    change_spec(runs.a, lambda s: s["values"]["transfer"].update(variance_norm="FAN_OUT"))
    found = by_name(compare_stage("transfer", pair_of(runs.a, runs.b)))
    assert all(found["initial_p", f"fc1_weight_initial of {of}"].agrees is (of == side) for of in "ab")


def test_weights_that_run_b_drew_by_itself_are_only_shown(runs, pair_of):
    other = {("transfer", "fc1_weight_initial"): lambda w: w[::-1]}
    for drew_itself in (False, True):
        write_stage(RunFolder(runs.b), "transfer", other, drew_itself=drew_itself)
        found = by_name(compare_stage("transfer", pair_of(runs.a, runs.b)))
        check = found["initial_relative_l2", "fc1_weight_initial"]
        assert check.value > 0.1 and check.agrees is drew_itself and (check.allowed is None) is drew_itself
        assert found["initial_p", "fc1_weight_initial of b"].agrees


# ---------------------------------------------------------------- segments


def segments_of(checks):
    return [(check.quantity, check.item) for check in checks if check.item.startswith("segments/")]


def test_a_step_and_a_segment_are_judged_by_bounds_of_their_own_and_only_a_step_has_a_history(runs, pair_of):
    found = segments_of(compare_stage("transfer", pair_of(runs.a, runs.b)))
    step = [(f"step_{kind}", f"segments/2/{name}{ending}") for name in SHAPES
            for kind, ending in (("relative_l2", ""), ("history", "_history"))]  # fmt: skip
    assert found == step + [("segment_relative_l2", f"segments/10/{name}") for name in SHAPES]
    assert segments_of(compare_stage("transfer", pair_of(runs.a, runs.b, "chained"))) == []


@pytest.mark.parametrize(
    ("name", "quantity"),
    [
        ("segments/2/fc1_weight", "step_relative_l2"),
        ("segments/2/fc1_bias_history", "step_history"),
        ("segments/10/fc2_weight", "segment_relative_l2"),
    ],
)
def test_one_flipped_row_is_forgiven_and_a_shift_of_all_rows_is_not(runs, pair_of, tolerances, name, quantity):
    whole = outputs()["transfer"][name]
    bound = tolerances.bounds[f"transfer.{quantity}"].isolated

    def flipped(array):
        array = array.copy()
        array[1] += 5
        return array

    def shifted(by):
        return lambda array: (array * (1 + by)).astype(np.float32)

    for change, agrees in ((flipped, True), (shifted(bound / 20), True), (shifted(4 * bound), False)):
        write_stage(RunFolder(runs.b), "transfer", {("transfer", name): change})
        check = by_name(compare_stage("transfer", pair_of(runs.a, runs.b)))[quantity, name]
        assert check.agrees is agrees
        rows = np.sort([np.sum((x - y.astype(float)) ** 2) for x, y in zip(whole, change(whole), strict=True)])
        assert check.value == pytest.approx(math.sqrt(rows[:-1].sum()) / np.linalg.norm(whole.astype(float)), rel=1e-6)
        every = np.linalg.norm(change(whole).astype(float) - whole) / np.linalg.norm(whole.astype(float))
        assert f"with every row {every:.2e}" in check.detail


def test_a_segment_is_compared_with_run_as_next_snapshot(runs, pair_of):
    write_stage(RunFolder(runs.a), "transfer", {("transfer", "snapshots/10/fc2_bias"): lambda b: b + 1,
                                                ("transfer", "segments/2/fc2_bias"): lambda b: b + 1})  # fmt: skip
    bad = [check for check in compare_stage("transfer", pair_of(runs.a, runs.b)) if not check.agrees]
    assert {(check.quantity, check.item) for check in bad} == {
        ("segment_relative_l2", "segments/10/fc2_bias"), ("relative_l2", "snapshots/10/fc2_bias"),
    }  # fmt: skip


# ---------------------------------------------------------------- histories


def test_a_history_is_measured_by_the_weights_that_it_moves(runs, pair_of):
    name = "snapshots/10/fc1_weight"
    weight = outputs()["transfer"][name].astype(float)
    for share, agrees in ((0.02, True), (0.06, False)):
        by = np.float32(share * np.linalg.norm(weight) / math.sqrt(weight.size))
        write_stage(RunFolder(runs.b), "transfer", {("transfer", f"{name}_history"): lambda h, by=by: h + by})
        check = by_name(compare_stage("transfer", pair_of(runs.a, runs.b)))["history_of_weight", f"{name}_history"]
        assert check.value == pytest.approx(share, rel=1e-5) and check.agrees is agrees


def test_a_history_of_weights_that_are_zero_never_agrees(runs, pair_of):
    for run in (runs.a, runs.b):
        write_stage(RunFolder(run), "transfer", {("transfer", "snapshots/1/fc1_bias"): np.zeros_like})
    check = by_name(compare_stage("transfer", pair_of(runs.a, runs.b)))[
        "history_of_weight", "snapshots/1/fc1_bias_history"
    ]
    assert check.value == math.inf and not check.agrees
