"""The paper's own arithmetic, against closed forms, brute force, and counts added up by hand."""

from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from audit.claims.arithmetic import (
    Correlation,
    Likeness,
    candidates,
    chance,
    correlation,
    drops,
    gains,
    iterations,
    likeness,
    losers,
    moved,
    networks,
    ranks,
    rounds_to,
    row_means,
)
from audit.claims.facts import COUNTS, FACTS, ImageLevel, Schedule, read_facts
from paper.published import read_published
from tests.conftest import user_error

PUBLISHED, FACTS_READ = read_published(), read_facts()


def test_the_rows_means_are_those_that_were_added_up_by_hand_and_round_to_the_printed_ones():
    assert row_means(PUBLISHED) == {"baseline_hr": 89.095, "baseline_lr": 78.05, "ours": 79.99}
    assert all(rounds_to(value, PUBLISHED.map[row]) for row, value in row_means(PUBLISHED).items())


@pytest.mark.parametrize(("value", "fits"), [(78.05, True), (78.15, True), (78.049, False), (78.16, False)])
def test_a_half_may_be_rounded_either_way_and_nothing_farther(value, fits):
    assert rounds_to(value, 78.1) is fits


def test_gains_are_by_class_and_a_class_without_a_change_loses_nothing():
    rows = {"baseline_lr": [50.1, 60.2, 70.3], "ours": [50.0, 60.2, 71.3], "baseline_hr": [0.0, 0.0, 0.0]}
    three = replace(PUBLISHED, names={"x": "X", "y": "Y", "z": "Z"}, ap=rows)
    assert gains(three) == {"X": -0.1, "Y": 0.0, "Z": 1.0}
    assert losers(gains(three)) == ["X"]
    found = gains(PUBLISHED)
    assert len(found) == 20 and found["chair"] == 4.3 and sum(found.values()) / 20 == pytest.approx(1.94)


@pytest.mark.parametrize(("samples", "epochs", "batch"), [*product((1, 7, 10), (1, 3, 10), (1, 4, 10))])
def test_iterations_are_the_batches_that_it_takes_to_see_every_epoch(samples, epochs, batch):
    seen = needed = 0
    while seen < samples * epochs:
        seen, needed = seen + batch, needed + 1
    assert iterations(samples, Schedule(0, batch, epochs, 1)) == needed


@pytest.mark.parametrize(("count", "step"), [(1, 5), (5, 5), (6, 5), (10, 5), (11, 5), (31561, 15000), (5011, 15000)])
def test_the_rate_drops_as_often_as_caffe_s_step_policy_changes_it(count, step):
    rates = {i // step for i in range(count)}
    assert drops(count, step) == len(rates) - 1


def test_of_all_counts_of_samples_only_voc2012_s_objects_give_the_printed_iterations():
    found = candidates(FACTS_READ)
    counts = {entry.what: entry.samples for entry in found}
    assert sorted(counts.values()) == [entry.samples for entry in found]
    # Totals as the sources give them, not as this project adds them up.
    told = {2501, 4952, 5011, 7306, 9963, 11540, 12608, 15662, 16551, 24640, 27450, 30638, 31561}
    assert set(counts.values()) == told
    assert [entry.what for entry in found if entry.fits] == ["VOC2012 trainval objects, difficult ones included"]
    fits = found[-1]
    assert (fits.iterations, fits.drops, fits.left, fits.epochs) == (31561, 2, 1561, 1000)
    by_count = {entry.samples: entry for entry in found}
    assert (by_count[5011].iterations, by_count[5011].drops, by_count[5011].left) == (5011, 0, 5011)
    assert by_count[5011].epochs == pytest.approx(6298.34, abs=0.01)
    assert (by_count[15662].drops, by_count[15662].left) == (1, 662)


def test_another_schedule_fits_another_count():
    other = replace(FACTS_READ, schedule=replace(FACTS_READ.schedule, iterations=5011))
    assert [entry.samples for entry in candidates(other) if entry.fits] == [5011]


def test_ranks_share_the_better_place_as_scipy_s_do():
    values = [3.0, 1.0, 3.0, 2.0, 5.0]
    assert ranks(values) == rankdata(-np.array(values), method="min").tolist() == [2, 5, 2, 4, 1]


def closed_form(one, two):
    """Spearman's rank correlation of values of which no two are equal."""
    squares = sum((a - b) ** 2 for a, b in zip(ranks(one), ranks(two), strict=True))
    return 1 - 6 * squares / (len(one) * (len(one) ** 2 - 1))


def test_the_rank_correlation_is_the_closed_form_and_its_range_that_of_every_class_left_out():
    random = np.random.default_rng(1)
    one, two = random.permutation(20).tolist(), random.permutation(20).tolist()
    found, value = correlation(one, two), closed_form(one, two)
    left_out = [closed_form(one[:i] + one[i + 1 :], two[:i] + two[i + 1 :]) for i in range(20)]
    assert (found.value, found.low, found.high) == pytest.approx((value, min(left_out), max(left_out)))
    equal = [1.0, 1.0, 2.0, 3.0]
    assert correlation(equal, [2.0, 1.0, 4.0, 3.0]).value == pytest.approx(spearmanr(equal, [2, 1, 4, 3]).statistic)


@pytest.mark.parametrize("networks", [2, 3, 5])
def test_the_chance_of_standing_apart_is_the_share_of_the_rows_that_stand_as_far_apart_in_its_role(networks):
    random, found = np.random.default_rng(networks), set()

    def unlike(one, two):  # the more, the less they correlate: whole numbers, in which equals are equal
        return sum((a - b) ** 2 for a, b in zip(one, two, strict=True))

    for _ in range(300):
        # Of five classes many rows stand equally far apart, but for the last bits.
        rows = [random.permutation(5).tolist() for _ in range(networks + 1)]
        apart = []
        for i, row in enumerate(rows):
            others = rows[:i] + rows[i + 1 :]
            among = max(unlike(one, two) for one, two in combinations(others, 2))
            apart.append(min(unlike(row, other) for other in others) - among)
        exact = sum(value >= apart[0] for value in apart) / (networks + 1)
        assert chance(rows[0], rows[1:]) == pytest.approx(exact)
        found.add(round(exact * (networks + 1)))
    assert found == set(range(1, networks + 2))


def levels_of(rows):
    """Image-level results, each of another network."""
    return {f"{i}": ImageLevel("", f"network {i}", list(row), 0.0, "") for i, row in enumerate(rows)}


@pytest.mark.parametrize(("networks", "apart"), [(2, None), (19, None), (20, True), (30, True)])
def test_a_row_that_is_like_no_network_is_apart_where_there_are_enough_of_them(networks, apart):
    random = np.random.default_rng(1)
    alike = [np.arange(20) + random.normal(0, 0.5, 20) for _ in range(networks + 1)]
    found = likeness(random.permutation(20), levels_of(alike[1:]))
    assert found.chance == pytest.approx(1 / (networks + 1)) and found.apart is apart
    one_of_them = likeness(alike[0], levels_of(alike[1:]))
    assert one_of_them.apart is not True and one_of_them.chance > 1 / (networks + 1) + 1e-9


def test_results_of_one_network_count_once():
    levels = FACTS_READ.image_level
    of = networks(levels)
    assert list(of) == ["OverFeat", "ResNet-50"] and of["ResNet-50"] == levels["resnet50"].ap
    both = zip(levels["cnn_svm"].ap, levels["cnnaug_svm"].ap, strict=True)
    assert of["OverFeat"] == pytest.approx([(a + b) / 2 for a, b in both])
    again = {**levels, "again": replace(levels["resnet50"], title="again")}
    one, two = (likeness(PUBLISHED.ap["baseline_hr"], found) for found in (levels, again))
    assert (one.results, two.results) == (3, 4) and two == replace(one, results=4)


def test_baseline_hr_is_less_like_each_network_than_these_are_like_each_other_whatever_class_is_left_out():
    found = likeness(PUBLISHED.ap["baseline_hr"], FACTS_READ.image_level)
    assert all(0.45 < one.low < 0.52 < one.value < 0.55 < one.high < 0.65 for one in found.with_each.values())
    (among,) = found.among.values()
    assert 0.93 < among.low < among.value < among.high < 0.97
    # Of two networks and the row each is as likely the one that stands farthest apart.
    assert found.chance == pytest.approx(1 / 3) and found.apart is None
    assert likeness(FACTS_READ.image_level["resnet50"].ap, FACTS_READ.image_level).apart is False


def test_what_hangs_on_one_class_or_may_be_chance_is_undecided():
    low, high = Correlation(0.5, 0.4, 0.7), Correlation(0.9, 0.8, 0.95)

    def apart(one, two, chance):
        return Likeness(2, {"a": one}, {("a", "b"): two}, chance).apart

    assert apart(low, high, 0.01) is True and apart(high, low, 0.01) is apart(low, low, 0.01) is False
    assert apart(low, high, 0.2) is None and apart(low, replace(high, low=0.6), 0.01) is None


def test_bottle_plant_and_tv_rank_far_higher_than_in_image_level_results():
    found = moved(PUBLISHED, FACTS_READ.image_level)
    assert [(entry.name, entry.rank) for entry in found] == [("plant", 6), ("bottle", 9), ("tv", 4)]
    bottle = found[1]
    assert bottle.ap == 90.6 and bottle.others == [(42.0, 20), (48.4, 20), (60.1, 20)]
    same = replace(PUBLISHED, ap={"baseline_hr": FACTS_READ.image_level["cnn_svm"].ap})
    assert moved(same, FACTS_READ.image_level) == []


def test_what_the_paper_prints_is_read_with_the_schedule_of_its_profile():
    assert FACTS_READ.schedule == Schedule(iterations=31561, batch=1000, epochs=1000, stepsize=15000)
    assert FACTS_READ.printed_images == {"trainval": 5000, "test": 4952}
    assert FACTS_READ.images == {"trainval": 5011, "test": 4952}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("epochs = 1000", "epochs = 0", "above 0"),
        ("dimension = 2048", "", "lacks 'dimension'"),
        ('"bottle", "sheep"', '"bottle", "goat"', "losers"),
        ("[88.5, ", "[", "one AP for each class"),
        ("[88.5, ", "[8.5, ", "whose mean is its mAP"),
        ('network = "ResNet-50"', 'network = "OverFeat"', "results of two networks"),
        ("parts = [2501]", 'parts = ["2501"]', "whole number"),
        ("[paper]", "[paper", "put back"),
    ],
)
def test_a_damaged_fact_is_one_line_that_names_the_file(tmp_path, old, new, says):
    text = FACTS.read_text()
    assert text.count(old) == 1
    path = tmp_path / "facts.toml"
    path.write_text(text.replace(old, new))
    with user_error(path, says):
        read_facts(path)


def test_missing_facts_are_one_line_that_names_the_file(tmp_path):
    with user_error(tmp_path / "facts.toml", "put it back"):
        read_facts(tmp_path / "facts.toml")
    with user_error(tmp_path / "counts.toml", "put it back"):
        read_facts(FACTS, tmp_path / "counts.toml")
    assert COUNTS.is_file()
