"""The data file of the paper's figures, against what the paper says of them elsewhere."""

import numpy as np
import pytest

from paper.published import PUBLISHED, read_published
from tests.conftest import user_error

# The mean of each printed row, added up by hand: the paper rounds it to one decimal.
MEANS = {"baseline_hr": 89.095, "baseline_lr": 78.05, "ours": 79.99}


@pytest.fixture(scope="module")
def published():
    return read_published()


def test_the_printed_map_is_the_mean_of_its_row(published):
    for row, mean in MEANS.items():
        assert np.mean(published.ap[row]) == pytest.approx(mean, abs=1e-9)
        assert abs(published.map[row] - mean) <= 0.05 + 1e-9  # 78.05 was rounded up to 78.1


def test_ours_beats_baseline_lr_but_for_bottle_and_sheep(published):
    """Paper 4.4; a slip in copying a row would show."""
    names = list(published.names.values())
    pairs = zip(names, published.ap["ours"], published.ap["baseline_lr"], strict=True)
    assert [name for name, ours, baseline in pairs if ours < baseline] == ["bottle", "sheep"]


def test_classes_are_voc2007_s_twenty_in_order(published):
    names = list(published.names)
    assert len(names) == 20 and names == sorted(names) and names[-1] == "tvmonitor"
    assert list(published.names.values())[:2] == ["aero", "bike"]
    for voc, printed in published.names.items():  # shortened, never another word: its letters stand in VOC's in order
        letters = iter(voc if printed != "bike" else "bike")  # the one exception: VOC's is bicycle
        assert all(letter in letters for letter in printed), (voc, printed)


def test_table_2_has_its_best_where_the_paper_chose(published):
    assert len(published.grid) == 30 and len(published.n1) == 5 and len(published.n2) == 6
    assert published.grid[published.chosen] == max(published.grid.values()) == published.map["ours"]
    assert published.grid[512, 100] == 75.2 and published.grid[256, 2048] == 71.8
    for n2 in published.n2:  # 4.3: "the mAP increases as the neurons of N1 increases"
        column = [published.grid[n1, n2] for n1 in published.n1]
        assert column == sorted(column)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("map = 89.1", "map = 891.0", "891.0"),
        ("map = 89.1", 'map = "89.1"', "89.1"),
        ("map = 89.1", "", "lacks 'map'"),
        ("ap = [87.5, 84.8,", "ap = [87.5,", "one AP for each class"),
        ("[0.717, 0.743, 0.766, 0.784, 0.795],", "", "a line for each n2"),
        ("[table1.ours]", "[table1.mine]", "lacks 'ours'"),
        ("test = 4952", "test = 0", "whole number"),
        ("[voc2007]", "[voc2007", "put back"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path, old, new, says):
    text = PUBLISHED.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "published.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with user_error(path, says):
        read_published(path)
    with user_error(tmp_path / "none.toml", "missing"):
        read_published(tmp_path / "none.toml")
