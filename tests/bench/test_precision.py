"""What bfloat16 costs: the verdicts against SciPy's tests, and the runs of a small data set."""

import sys

import numpy as np
import pytest
import scipy.stats

from bench import precision
from bench.precision import MARGIN, cost
from experiment.artifacts import RunFolder, read_json
from experiment.stages import ROWS
from tests.conftest import user_error
from tests.small_devkit import small_devkit
from tests.small_run import small_run


@pytest.mark.parametrize("mean", [-0.5, -0.15, 0.0, 0.12, 0.6])
@pytest.mark.parametrize("n", [5, 12, 80])
def test_within_is_what_two_one_sided_t_tests_say_and_beyond_what_one_says(mean, n):
    random = np.random.default_rng(n)
    exact = random.normal(70, 1, n)
    rounded = exact + random.normal(mean, 0.4, n)
    found = cost("ours", exact.tolist(), rounded.tolist())
    above, below = (
        scipy.stats.ttest_rel(rounded, exact + end, alternative=side).pvalue
        for end, side in ((-MARGIN, "greater"), (MARGIN, "less"))
    )
    too_low, too_high = (
        scipy.stats.ttest_rel(rounded, exact + end, alternative=side).pvalue
        for end, side in ((-MARGIN, "less"), (MARGIN, "greater"))
    )
    within, beyond = max(above, below) < 0.05, min(too_low, too_high) < 0.05
    assert found.verdict == ("within" if within else "beyond" if beyond else "undecided")
    interval = scipy.stats.ttest_rel(rounded, exact).confidence_interval(0.9)
    assert found.interval_90 == pytest.approx((interval.low, interval.high))
    assert found.difference == pytest.approx((rounded - exact).mean())


def test_few_seeds_decide_nothing_of_ours_and_the_baselines_need_none():
    assert cost("ours", [50.0] * 4, [50.0] * 4).verdict == "undecided"
    alone = cost("ours", [50.0], [50.0])
    assert (alone.verdict, alone.deviation, alone.interval_90) == ("undecided", None, None)
    assert precision.table([alone], "folded", 1).count(" - |") == 2
    for off, verdict in ((0.1, "within"), (-0.1, "within"), (0.3, "beyond"), (-0.3, "beyond")):
        found = cost("baseline_lr", [50.0], [50.0 + off])
        assert (found.verdict, found.deviation) == (verdict, 0)
        assert found.interval_90 == pytest.approx((off, off))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """RUN with a finished torch/."""
    folder = tmp_path_factory.mktemp("precision")
    small_run(folder / "small" / "torch", small_devkit(folder))
    return folder / "small"


@pytest.mark.parametrize("of", precision.OF)
def test_both_types_run_from_the_same_draws_and_are_not_made_again(of, root, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["precision", str(root), "--seeds", "2", "--of", of])
    assert precision.main() == 0
    printed = capsys.readouterr()
    content = read_json(root / "precision" / f"{of}.json")
    exact, rounded = "folded", "folded-bfloat16-features" if of == precision.FEATURES else "folded-bfloat16"
    engines_of = {  # of the features and of the training, by folder
        exact: ("folded", None),
        rounded: ("folded-bfloat16", None if of == precision.FEATURES else "folded-bfloat16"),
    }
    for folder, expected in engines_of.items():
        for seed in (1, 2):
            run = RunFolder(root / "precision" / folder / str(seed) / "torch")
            made = (run.require_manifest(stage)["versions"].get("engine") for stage in ("features", "transfer"))
            assert tuple(made) == expected
            assert run.spec["values"]["run"]["seed"] == seed
            for row in ROWS:
                assert (
                    content["maps"][expected[0]][row][seed - 1]
                    == 100 * run.json("metrics", "metrics")[row]["map_11point"]
                )
    one, other = (RunFolder(root / "precision" / name / "2" / "torch") for name in (exact, rounded))
    np.testing.assert_array_equal(*(run.array("transfer", "fc1_weight_initial") for run in (one, other)))
    chosen = []
    for run in (one, other):  # which photographs k-means starts from
        apart = run.array("features", "hr_trainval")[None] - run.array("clusters", "initial_centroids")[:, None]
        distances = np.abs(apart).sum(2)
        assert not distances.min(1).any()
        chosen.append(distances.argmin(1))
    np.testing.assert_array_equal(*chosen)
    assert (one.array("features", "hr_trainval") != other.array("features", "hr_trainval")).any()
    assert [one["row"] for one in content["costs"]] == list(ROWS)
    assert precision.main() == 0
    again = capsys.readouterr()
    assert again.out == printed.out and f"{of.replace('-', ' ')} in bfloat16" in printed.out
    assert read_json(root / "precision" / f"{of}.json") == content
    assert "up to date" in again.err and " transfer ..." in printed.err and " transfer ..." not in again.err


def test_a_run_that_is_not_finished_is_refused(tmp_path):
    (tmp_path / "torch").mkdir()
    with user_error(str(tmp_path / "torch")):
        precision.precision(tmp_path, "folded", 1)


def test_an_engine_without_a_bfloat16_is_refused(root):
    with user_error("engine eager has no bfloat16"):
        precision.precision(root, "eager", 1)


def test_no_seed_is_refused(root, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["precision", str(root), "--seeds", "0"])
    with user_error("--seeds"):
        precision.main()
