"""SET=section.key=value is checked like the profiles, and so is how the values fit together."""

import copy

import pytest

from experiment.errors import UserError
from experiment.spec import apply_override, check_together, read_profile


@pytest.fixture
def paper():
    """The paper's values and sources, to be changed at will."""
    return copy.deepcopy(read_profile("paper"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("transfer.n1=256", 256),
        ("svm.c=2", 2.0),
        ("svm.c=0.5", 0.5),
        ("images.antialias=true", True),
        ("clusters.init=random", "random"),
        ('clusters.init="random"', "random"),
        ("transfer.snapshots=[1,2]", [1, 2]),
        ("features.mean_bgr=[104,117.5,123]", [104.0, 117.5, 123.0]),
        ("backbone.weights_file=a/b=c.caffemodel", "a/b=c.caffemodel"),
    ],
)
def test_an_override_sets_one_value_and_says_so(paper, text, value):
    values, sources = paper
    before = copy.deepcopy(values)
    apply_override(values, sources, text)
    name = text.partition("=")[0]
    section, key = name.split(".")
    assert values[section][key] == value and type(values[section][key]) is type(value)
    assert sources[name] == "SET"
    before[section][key] = value
    assert values == before


@pytest.mark.parametrize(
    "text",
    [
        "", "transfer", "transfer.n1", "transfer.n1=", "=3", "n1=3", "transfer.n1.x=3", "Transfer.n1=3",
        "transfer.n1 = 3", "transfer.n1=x", "transfer.n1=1.5", "transfer.n1=true", "transfer.n1=0", "transfer.n3=1",
        "extra.n1=1", "svm.c=nan", "svm.c=inf", "svm.c=one", "images.antialias=1", "clusters.init=kmeans",
        "transfer.n1=1\ntransfer.n2=2", "transfer.snapshots=1", "backbone.widths=[[]]",
    ],
)  # fmt: skip
def test_a_bad_override_is_one_line_and_changes_nothing(paper, text):
    values, sources = paper
    before = copy.deepcopy(paper)
    with pytest.raises(UserError) as error:
        apply_override(values, sources, text)
    assert str(error.value).startswith("SET=") and "\n" not in str(error.value)
    assert (values, sources) == before


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        ("transfer", "n2", 99, r"transfer\.n2 = 99 must equal clusters\.k = 100"),
        ("clusters", "k", 50, r"transfer\.n2 = 100 must equal clusters\.k = 50"),
        ("images", "lr_size", 225, r"images\.lr_size"),
        ("backbone", "widths", [64, 128], r"backbone\.widths"),
        ("backbone", "blocks", [3, 4, 23, 3, 3], r"backbone\.blocks"),
        ("features", "mean_bgr", [1.0, 2.0], r"features\.mean_bgr"),
        ("resnet101", "mean_bgr", [1.0, 2.0, 3.0, 4.0], r"resnet101\.mean_bgr"),
        ("resnet101", "crops", [["china.jpg", 0, 0], ["china.jpg", 0, -1]], r"resnet101\.crops"),
        ("transfer", "snapshots", [0], r"transfer\.snapshots has 0"),
        ("transfer", "snapshots", [31562], r"transfer\.snapshots has 31562"),
        ("transfer", "max_iter", 100, r"transfer\.snapshots has 200"),
        ("transfer", "snapshots", [2, 1], r"transfer\.snapshots must ascend"),
        ("transfer", "snapshots", [1, 1, 2], r"transfer\.snapshots must ascend"),
        ("transfer", "snapshots", [1, 3, 5], r"transfer\.snapshots must .* two neighbouring"),
        ("transfer", "snapshots", [], r"transfer\.snapshots must .* two neighbouring"),
    ],
)
def test_values_that_contradict_each_other_stop(paper, section, key, value, said):
    values, _ = paper
    values[section][key] = value
    with pytest.raises(UserError, match=said):
        check_together(values, "here")


def test_no_blocks_at_all_stop(paper):
    values, _ = paper
    values["backbone"].update(widths=[], blocks=[])
    with pytest.raises(UserError, match="backbone"):
        check_together(values, "here")
