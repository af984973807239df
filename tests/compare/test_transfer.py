"""Initial weights against the filler's distribution, and segments from snapshots."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from fake_pair import SHAPES, change_spec, write_stage
from scipy.stats import kstest

from compare.calibration import Calibrator
from compare.check import Judge
from compare.pair import FinishedRun, Pair
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
        assert {of: found["initial_p", f"initial weights of {of}"].agrees for of in "ab"} == {
            of: of != side for of in "ab"
        }
    change_spec(runs.a, lambda s: s["values"]["transfer"].update(variance_norm="FAN_OUT"))
    found = by_name(compare_stage("transfer", pair_of(runs.a, runs.b)))
    assert {of: found["initial_p", f"initial weights of {of}"].agrees for of in "ab"} == {of: of == side for of in "ab"}


@pytest.mark.parametrize("mode", ["isolated", "chained"])
@pytest.mark.parametrize("side", ["a", "b"])
@pytest.mark.parametrize("layer", ["fc1", "fc2"])
def test_of_both_layers_the_worse_one_counts(runs, pair_of, layer, side, mode):
    """A weight that no filler draws, a bias that is not 0: on one side, in one layer; both quantities tell which."""
    run = RunFolder(getattr(runs, side))
    name = f"{layer}_weight_initial"
    weight = np.full(SHAPES[f"{layer}_weight"], 0.3, np.float32)
    write_stage(run, "transfer", {("transfer", name): lambda _: weight}, drew_itself=True)
    found = by_name(compare_stage("transfer", pair_of(runs.a, runs.b, mode)))
    p = kstest(weight.ravel(), "norm", args=(0, math.sqrt(2 / weight.shape[1]))).pvalue
    mine, other = f"initial weights of {side}", f"initial weights of {'ab'.replace(side, '')}"
    assert found["initial_p", mine].value == p < 1e-6 and not found["initial_p", mine].agrees
    assert all(check.agrees for key, check in found.items() if key[0] != "initial_relative_l2" and key[1] != mine)
    assert found["initial_bias", mine].value == found["initial_bias", other].value == 0.0
    for off in (-0.25, 1e-30, math.nan):
        change = {("transfer", f"{layer}_bias_initial"): lambda b, off=off: np.append(b[1:], b.dtype.type(off))}
        write_stage(run, "transfer", change)
        found = by_name(compare_stage("transfer", pair_of(runs.a, runs.b, mode)))
        check = found["initial_bias", mine]
        assert not check.agrees and check.value == pytest.approx(abs(off), nan_ok=True)
        assert found["initial_bias", other].agrees and found["initial_p", mine].agrees


def test_weights_that_run_b_drew_by_itself_are_only_shown(runs, pair_of):
    other = {("transfer", "fc1_weight_initial"): lambda w: w[::-1]}
    for drew_itself in (False, True):
        write_stage(RunFolder(runs.b), "transfer", other, drew_itself=drew_itself)
        found = by_name(compare_stage("transfer", pair_of(runs.a, runs.b)))
        check = found["initial_relative_l2", "fc1_weight_initial"]
        assert check.value > 0.1 and check.agrees is drew_itself and (check.allowed is None) is drew_itself
        assert found["initial_p", "initial weights of b"].agrees


# ---------------------------------------------------------------- segments


def segments_of(checks):
    return [(check.quantity, check.item) for check in checks if check.item.startswith("segments/")]


def test_a_step_and_a_segment_are_judged_by_bounds_of_their_own_and_only_a_step_has_a_history(runs, pair_of):
    found = segments_of(compare_stage("transfer", pair_of(runs.a, runs.b)))
    step = [(f"step_{kind}{rows}", f"segments/2/{name}{ending}") for name in SHAPES
            for kind, ending in (("relative_l2", ""), ("history", "_history"))
            for rows in ("", "_all_rows")[: 1 + name.startswith("fc1")]]  # fmt: skip
    assert found == step + [("segment_relative_l2", f"segments/10/{name}") for name in SHAPES]
    assert segments_of(compare_stage("transfer", pair_of(runs.a, runs.b, "chained"))) == []


def one_row(share):
    """An error in one row of an array, of that share of the whole array's norm."""

    def change(array):
        array = array.astype(float)
        array[1] += share * np.linalg.norm(array) / math.sqrt(array[1].size)
        return array.astype(np.float32)

    return change


def all_rows(share):
    return lambda array: (array * (1 + share)).astype(np.float32)


STEPS = [(f"segments/2/{name}{ending}", quantity) for name in SHAPES
         for ending, quantity in (("", "step_relative_l2"), ("_history", "step_history"))]  # fmt: skip


@pytest.mark.parametrize(("name", "quantity"), STEPS)
def test_a_step_that_errs_in_one_row_of_fc1_has_a_looser_bound_and_of_fc2_none(
    runs, pair_of, tolerances, name, quantity
):
    looser = f"{quantity}_all_rows"
    aside = "fc1" in name
    for times, agrees in ((0.5, True), (2, False)):
        share = times * tolerances.bounds[f"transfer.{looser if aside else quantity}"].isolated
        write_stage(RunFolder(runs.b), "transfer", {("transfer", name): one_row(share)})
        found = by_name(compare_stage("transfer", pair_of(runs.a, runs.b)))
        whole = found[looser if aside else quantity, name]
        assert whole.value == pytest.approx(share, rel=0.1) and whole.agrees is agrees
        assert [key for key, check in found.items() if not check.agrees] == [(whole.quantity, name)] * (not agrees)
        assert found[quantity, name].value == (0.0 if aside else whole.value)


@pytest.mark.parametrize(("name", "quantity"), STEPS)
def test_a_step_that_errs_in_all_rows_is_held_to_the_strict_bound(runs, pair_of, tolerances, name, quantity):
    bound = tolerances.bounds[f"transfer.{quantity}"].isolated
    for share, agrees in ((bound / 2, True), (4 * bound, False)):
        write_stage(RunFolder(runs.b), "transfer", {("transfer", name): all_rows(share)})
        found = by_name(compare_stage("transfer", pair_of(runs.a, runs.b)))
        assert found[quantity, name].agrees is agrees
        bad = {key for key, check in found.items() if not check.agrees}
        assert bad == (set() if agrees else {(quantity, name)})


@pytest.mark.parametrize("name", SHAPES)
def test_a_longer_segment_of_fc1_may_err_in_one_row_and_of_fc2_in_none(runs, pair_of, name):
    item = f"segments/10/{name}"
    for change, agrees in ((one_row(0.9), "fc1" in name), (all_rows(1e-3), False)):
        write_stage(RunFolder(runs.b), "transfer", {("transfer", item): change})
        bad = [check for check in compare_stage("transfer", pair_of(runs.a, runs.b)) if not check.agrees]
        assert [(check.quantity, check.item) for check in bad] == [("segment_relative_l2", item)] * (not agrees)


@pytest.mark.parametrize(("name", "quantity"), STEPS)
def test_the_error_of_a_step_is_measured_as_its_difference_is(runs, templates, tolerances, name, quantity):
    write_stage(RunFolder(runs.b), "transfer", {("transfer", name): one_row(0.5)})
    a, b, reference = (FinishedRun(path) for path in (runs.a, runs.b, templates["reference"]))
    pair = Pair(a, b, Judge(tolerances, "isolated"), Calibrator(a, b, reference, [], [], 3.0))
    found = by_name(compare_stage("transfer", pair))[quantity, name]
    assert found.calibration.error == found.value == (0.0 if "fc1" in name else pytest.approx(0.5, rel=1e-6))


@pytest.mark.parametrize(
    ("snapshots", "agrees"), [([1, 2, 10], True), ([2, 10], False), ([1, 10], False), ([2], False)]
)
def test_without_two_neighbouring_snapshots_no_step_is_judged_which_never_agrees(runs, pair_of, snapshots, agrees):
    change_spec(runs.a, lambda s: s["values"]["transfer"].update(snapshots=snapshots))
    isolated = [check.item for check in compare_stage("transfer", pair_of(runs.a, runs.b)) if not check.agrees]
    assert isolated == ([] if agrees else ["segments"])
    assert all(check.agrees for check in compare_stage("transfer", pair_of(runs.a, runs.b, "chained")))


def test_a_segment_is_compared_with_run_as_next_snapshot(runs, pair_of):
    write_stage(RunFolder(runs.a), "transfer", {("transfer", "snapshots/10/fc2_bias"): lambda b: b + 1,
                                                ("transfer", "segments/2/fc2_bias"): lambda b: b + 1})  # fmt: skip
    bad = [check for check in compare_stage("transfer", pair_of(runs.a, runs.b)) if not check.agrees]
    assert {(check.quantity, check.item) for check in bad} == {
        ("segment_relative_l2", "segments/10/fc2_bias"), ("relative_l2", "snapshots/10/fc2_bias"),
    }  # fmt: skip


@pytest.mark.parametrize("run", ["a", "b"])
def test_the_history_of_a_snapshot_is_judged_by_the_steps_that_run_b_made_to_it(runs, pair_of, run):
    change = {("transfer", f"snapshots/2/{name}_history"): all_rows(0.5) for name in SHAPES}
    write_stage(RunFolder(getattr(runs, run)), "transfer", change)
    bad = {check.item for check in compare_stage("transfer", pair_of(runs.a, runs.b)) if not check.agrees}
    assert bad == ({f"segments/2/{name}_history" for name in SHAPES} if run == "a" else set())
    assert all(check.agrees for check in compare_stage("transfer", pair_of(runs.a, runs.b, "chained")))
