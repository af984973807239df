"""Labels that an SVM or an average precision could not be made of are refused where they are read."""

import numpy as np
import pytest

from experiment.errors import UserError
from experiment.labels import check_labels

GOOD = [[1, -1], [-1, 1]]


@pytest.mark.parametrize(
    ("trainval", "test", "said"),
    [
        ([[1, -1], [-1, 0]], GOOD, "class dog has no positive trainval image: add one"),
        ([[1, 1], [1, -1]], GOOD, "class cat has no negative trainval image: add one"),
        (GOOD, [[1, 0], [1, -1]], "class dog has no positive test image: add one"),
    ],
)
def test_the_class_and_what_it_lacks_are_named(trainval, test, said):
    labels = {"trainval": np.array(trainval), "test": np.array(test)}
    with pytest.raises(UserError, match=said):
        check_labels(labels, ["cat", "dog"], 0)
    with pytest.raises(UserError, match=r"among the first 2 of \w+: give a greater LIMIT="):
        check_labels(labels, ["cat", "dog"], 2)


def test_a_test_split_needs_no_negative():
    check_labels({"trainval": np.array(GOOD), "test": np.array([[1, 1]])}, ["cat", "dog"], 0)
