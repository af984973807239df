"""The conclusions' rules on figures made by hand, each way."""

import pytest

from audit.conclusions import conclusions, listing, reaches, relation
from audit.control_rows import CONTROLS

MARGIN = 0.5


def judged(low, high, certain=True):
    return {"difference": (low + high) / 2, "interval_95": [low, high], "certain": certain}


BELOW, ABOVE, ALIKE, OPEN = judged(-4, -2), judged(2, 4), judged(-0.2, 0.3), judged(-3, 3)


def document(gain, base=ALIKE, ours=BELOW, seeds=5, tuned=ALIKE, **others):
    """What controls.json holds: each control's difference to Baseline-LR and to Ours, `others` its own (base, ours)."""
    rows = [
        {
            "control": one.name,
            "title": one.title,
            "minus_baseline_lr": others.get(one.name, (base, ours))[0],
            "minus_ours": others.get(one.name, (base, ours))[1],
        }
        for one in CONTROLS
    ]
    return {
        "seeds": list(range(1, seeds + 1)),
        "margin": MARGIN,
        "ours": {"minus_baseline_lr": gain},
        "ours_minus_baseline_lr_alike": {"c_cv": tuned, "l2": tuned},
        "rows": rows,
    }


def told(*arguments, **others):
    return " ".join(conclusions(document(*arguments, **others)))


@pytest.mark.parametrize(
    "low, high, certain, expected",
    [
        (0.1, 0.9, True, "above"), (0.1, 0.4, True, "alike"), (-0.9, -0.1, True, "below"), (-0.4, -0.1, True, "alike"),
        (-0.5, 0.1, True, "undecided"), (0, 0.9, True, "undecided"), (-9, 0, True, "undecided"),
        (3, 4, False, "undecided"), (0, 0, True, "alike"), (0, 0, False, "undecided"),
    ],
)  # fmt: skip
def test_how_a_difference_stands_to_0(low, high, certain, expected):
    assert relation(judged(low, high, certain), MARGIN) == expected


def test_a_control_reaches_ours_unless_it_may_be_worse_by_the_margin():
    assert reaches(judged(-0.49, 3), MARGIN) and reaches(judged(-0.4, -0.1), MARGIN) and reaches(ABOVE, MARGIN)
    assert not reaches(judged(-0.5, 3), MARGIN) and not reaches(BELOW, MARGIN)
    assert not reaches(judged(1, 2, certain=False), MARGIN)


RIVALS = ["initial_weights", "permuted_labels", "random_labels", "random_relu", "pca", "lr_c_cv", "lr_l2", "lr_l2_c_cv"]


@pytest.mark.parametrize("name", RIVALS)
def test_a_gain_that_a_control_reaches_is_not_laid_to_hr(name):
    text = told(ABOVE, **{name: (ABOVE, ALIKE)})
    title = next(one.title for one in CONTROLS if one.name == name)
    assert (
        f"is +3.00 [+2.00, +4.00]: a gain. Ours is also reached, within 0.5, by {title} (+0.05 [-0.20, +0.30])" in text
    )
    assert "cannot be laid to the transfer of HR structure" in text and "No control reaches" not in text


def test_a_gain_that_no_control_reaches_goes_with_the_pseudo_labels():
    text = told(ABOVE)
    assert "No control reaches Ours (Initial weights (-3.00 [-4.00, -2.00]), " in text
    assert "the gain goes with training on HR's pseudo-labels" in text and "cannot be laid" not in text


def test_what_is_undecided_holds_back_the_attribution_of_a_gain():
    text = told(ABOVE, pca=(OPEN, OPEN))
    assert "Whether Ours is reached is undecided of PCA (+0.00 [-3.00, +3.00])." in text
    assert "No control reaches" not in text and "cannot be laid" not in text
    # HR to LR and Ours under other settings are no rivals of the gain.
    assert "No control reaches" in told(ABOVE, hr_to_lr=(OPEN, ABOVE), ours_c_cv=(ABOVE, ABOVE), ours_l2=(ABOVE, ALIKE))


def test_a_loss_leaves_nothing_to_explain_and_is_sought_without_training():
    text = told(BELOW, initial_weights=(BELOW, ABOVE), pca=(OPEN, OPEN))
    assert "a loss, so there is no gain to explain" in text
    assert "A loss comes without any training of that network as well, by Initial weights (-3.00 " in text
    assert "As many dimensions as Ours has are no loss by Random ReLU layer (+0.05 " in text
    assert "Undecided is whether there is a loss by PCA (+0.00 " in text
    assert "reached" not in text and "training takes away from the features" in text


def test_neither_gain_nor_loss_is_not_explained():
    text = told(OPEN, tuned=BELOW)
    assert "neither gain nor loss, so there is nothing to explain" in text
    assert "comes from" not in text and "does not come from" not in text


@pytest.mark.parametrize(
    "ours, phrase",
    [(BELOW, "training adds to"), (ABOVE, "training takes away"), (ALIKE, "changes nothing beyond 0.5"),
     (OPEN, "what training does is undecided")],
)  # fmt: skip
def test_what_training_does_is_read_off_the_initial_weights(ours, phrase):
    sentence = next(s for s in conclusions(document(ABOVE, initial_weights=(ALIKE, ours))) if "initial weights st" in s)
    assert phrase in sentence


@pytest.mark.parametrize(
    "ours, phrase",
    [(BELOW, "say of the images matters"), (ABOVE, "do better than the pseudo-labels"),
     (ALIKE, "say of the images changes nothing beyond 0.5"), (OPEN, "is undecided")],
)  # fmt: skip
def test_whether_the_labels_matter_is_read_off_permuted_and_random_ones(ours, phrase):
    for name, start in (("permuted_labels", "Training on permuted"), ("random_labels", "Training on labels drawn")):
        sentences = {s for s in conclusions(document(BELOW, **{name: (ALIKE, ours)})) if s.startswith(start)}
        assert len(sentences) == 1 and phrase in sentences.pop()


def test_settings_of_the_svm_are_told_by_what_they_do_to_baseline_lr():
    text = told(ABOVE, lr_c_cv=(ABOVE, BELOW), lr_l2=(BELOW, BELOW), lr_l2_c_cv=(OPEN, OPEN))
    assert "Baseline-LR rises by another setting of its SVM: Baseline-LR, C chosen +3.00 [+2.00, +4.00]." in text
    assert "Baseline-LR falls by another setting of its SVM: Baseline-LR, unit rows -3.00 " in text
    assert "Undecided is what another setting of Baseline-LR's SVM does: Baseline-LR, unit rows, C chosen " in text
    assert "changes nothing beyond 0.5: Baseline-LR, C chosen +0.05 " in told(ABOVE)


@pytest.mark.parametrize("gain, word, other", [(BELOW, "loss", ABOVE), (ABOVE, "gain", BELOW)])
def test_a_gain_or_loss_that_another_setting_of_both_ends_comes_from_that_setting(gain, word, other):
    assert f": {word}, so the {word} does not come from C." in told(gain, tuned=gain)
    for gone in (ALIKE, other):
        text = told(gain, tuned=gone)
        assert f", so the {word} comes from C." in text and f"so the {word} comes from the rows' lengths." in text
    assert f"neither gain nor loss, so it is undecided whether the {word} comes from C." in told(gain, tuned=OPEN)
    small = judged(0.1, 0.4) if word == "gain" else judged(-0.4, -0.1)  # what is left of it is within the margin
    assert f", so the {word} comes from C." in told(gain, tuned=small)
    assert f", so the {word} does not come from C." in told(small, tuned=small)


@pytest.mark.parametrize(
    "base, phrase",
    [(BELOW, "do not lie where those of HR do"), (ABOVE, "teach an SVM more"), (ALIKE, "are as good to learn LR from"),
     (OPEN, "undecided")],
)  # fmt: skip
def test_hr_to_lr_says_whether_lr_features_lie_where_hr_ones_do(base, phrase):
    assert phrase in conclusions(document(OPEN, hr_to_lr=(base, OPEN)))[-1]


def test_fewer_than_five_seeds_decide_nothing_of_what_is_drawn():
    doubtful = judged(2, 4, certain=False)
    sentences = conclusions(document(doubtful, ours=doubtful, base=ABOVE, seeds=4))
    assert sentences[0] == "4 seeds: fewer than 5 decide nothing of what is drawn."
    text = " ".join(sentences)
    assert "Baseline-LR rises" in text and "teach an SVM more" in text  # no seed has a part in these
    assert not any(word in text for word in ("gain", "loss", "Ours", "initial weights", "permuted"))
    assert conclusions(document(doubtful, seeds=1))[0].startswith("1 seed:")


def test_lists_read_as_english():
    assert [listing(list("abc")[:n]) for n in (1, 2, 3)] == ["a", "a and b", "a, b and c"]
