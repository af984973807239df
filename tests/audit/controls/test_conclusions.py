"""The conclusions' rules on figures made by hand, each way."""

import pytest

from audit.controls.conclusions import conclusions, listing, reaches, relation
from audit.controls.rows import CONTROLS

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
    reached = f"The gain is also reached, within 0.5 of Ours, by {title} (+0.05 [-0.20, +0.30])"
    assert f"is +3.00 [+2.00, +4.00]: a gain. {reached}" in text
    assert "cannot be laid to the transfer of HR structure" in text and "No control reaches" not in text


def test_a_gain_that_no_control_reaches_goes_with_the_pseudo_labels():
    text = told(ABOVE)
    assert "No control reaches Ours (Initial weights (-3.00 [-4.00, -2.00]), " in text
    assert "the gain goes with training on HR's pseudo-labels" in text and "cannot be laid" not in text


def test_what_is_undecided_holds_back_the_attribution_of_a_gain():
    text = told(ABOVE, pca=(OPEN, OPEN))
    assert "Undecided is whether the gain is reached by PCA (+0.00 [-3.00, +3.00])." in text
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


def test_only_a_difference_alike_0_leaves_nothing_to_explain():
    text = told(ALIKE, tuned=ALIKE)
    assert "is +0.05 [-0.20, +0.30]: no difference beyond 0.5, so there is nothing to explain." in text
    text = told(judged(-0.1, 3.1), tuned=BELOW)
    assert "is +1.50 [-0.10, +3.10]: undecided whether there is a gain." in text
    assert not any(
        words in text for words in ("nothing to explain", "comes from", "does not come from", "no difference")
    )


@pytest.mark.parametrize("small, word", [(judged(0.1, 0.45), "gain"), (judged(-0.45, -0.1), "loss")])
def test_the_source_of_a_gain_or_loss_smaller_than_the_margin_cannot_be_told(small, word):
    text = told(small, ours=judged(-0.45, -0.1))  # controls equal to Baseline-LR are within the margin of Ours
    assert f"a {word} smaller than the margin of 0.5 at which controls are compared, so its source cannot" in text
    assert not any(words in text for words in ("reache", "laid to", "nothing to explain", "A loss comes"))


@pytest.mark.parametrize("base", [ALIKE, BELOW, OPEN, judged(1, 2, certain=False)])
def test_a_control_without_a_gain_of_its_own_does_not_reach_the_gain(base):
    near = judged(-0.45, -0.05)
    text = told(judged(0.1, 0.6), pca=(base, near))
    assert "is also reached" not in text and "No control reaches" not in text
    assert "Undecided is whether the gain is reached by PCA (-0.25 [-0.45, -0.05])." in text
    assert "also reached, within 0.5 of Ours, by PCA" in told(judged(0.1, 0.6), pca=(judged(0.05, 0.4), near))


@pytest.mark.parametrize(
    "ours, phrase",
    [(BELOW, "training adds to"), (ABOVE, "training takes away"), (ALIKE, "changes nothing beyond 0.5"),
     (OPEN, "what training does is undecided")],
)  # fmt: skip
def test_what_training_does_is_read_off_the_initial_weights(ours, phrase):
    sentence = next(
        s for s in conclusions(document(ABOVE, initial_weights=(ALIKE, ours))) if "initial weights differs" in s
    )
    assert phrase in sentence


@pytest.mark.parametrize(
    "ours, phrase",
    [(BELOW, "say of the images matters"), (ABOVE, "do better than the pseudo-labels"),
     (ALIKE, "say of the images changes nothing beyond 0.5"), (OPEN, "is undecided")],
)  # fmt: skip
def test_whether_the_labels_matter_is_read_off_permuted_and_random_ones(ours, phrase):
    for name, start in (("permuted_labels", "Trained on permuted"), ("random_labels", "Trained on labels drawn")):
        sentences = {s for s in conclusions(document(BELOW, **{name: (ALIKE, ours)})) if s.startswith(start)}
        assert len(sentences) == 1 and phrase in sentences.pop()


def test_settings_of_the_svm_are_told_by_what_they_do_to_baseline_lr():
    text = told(ABOVE, lr_c_cv=(ABOVE, BELOW), lr_l2=(BELOW, BELOW), lr_l2_c_cv=(OPEN, OPEN))
    assert "Baseline-LR rises by another setting of its SVM: Baseline-LR, C chosen +3.00 [+2.00, +4.00]." in text
    assert "Baseline-LR falls by another setting of its SVM: Baseline-LR, unit rows -3.00 " in text
    assert "Undecided is what another setting of Baseline-LR's SVM does: Baseline-LR, unit rows, C chosen " in text
    assert "changes nothing beyond 0.5: Baseline-LR, C chosen +0.05 " in told(ABOVE)


def signed(sign, low, high):
    return judged(*sorted((sign * low, sign * high)))


@pytest.mark.parametrize("sign, word, other", [(1, "gain", "loss"), (-1, "loss", "gain")])
@pytest.mark.parametrize(
    "main, tuned, says",
    [
        ((5, 7), (4, 6.5), "{word}: the {word} stays, so it does not come from {cause}."),
        ((5, 7), (8, 9), "{word}: the {word} stays, so it does not come from {cause}."),
        ((5, 7), (0.2, 1.6), "{word}: {part} are left, so a part of the {word} comes from {cause}."),
        ((5, 7), (4.2, 5.5), "{word}, so it is undecided whether a part of the {word} comes from {cause}."),
        ((5, 7), (-1, 7), "undecided, so it is undecided whether the {word} comes from {cause}."),
        ((5, 7), (-0.2, 0.3), "no difference beyond 0.5: nothing beyond 0.5 is left of the {word}."),
        ((5, 7), (0.1, 0.4), "no difference beyond 0.5: nothing beyond 0.5 is left of the {word}."),
        ((5, 7), (-4, -2), "{other}: nothing is left of the {word}."),
        ((0.1, 0.6), (0.1, 0.45), "no difference beyond 0.5: the {word} stays, so it does not come from {cause}."),
        ((-0.1, 3.1), (2, 4), "{word}, but undecided without that."),
        ((-0.1, 3.1), (-0.2, 0.3), "no difference beyond 0.5, but undecided without that."),
        ((-0.1, 3.1), (-1, 4), ": undecided."),
        ((-0.2, 0.3), (2, 4), "{word}, but no difference beyond 0.5 without that."),
        ((0.1, 0.4), (-0.1, 0.3), ": no difference beyond 0.5."),
    ],
)
def test_another_setting_of_both_says_of_a_gain_or_loss_what_two_intervals_allow(sign, word, other, main, tuned, says):
    text = told(signed(sign, *main), tuned=signed(sign, *tuned))
    part = "+0.90 of +6.00" if sign > 0 else "-0.90 of -6.00"
    for start, cause in (
        ("With C chosen by cross-validation, at tolerance 0.001, on both sides, ", "C or the tolerance"),
        ("With rows of length 1 on both sides, ", "the rows' lengths"),
    ):
        said = text[text.index(start) :].split("]", 1)[1]
        expected = says.format(word=word, other=other, cause=cause, part=part)
        assert said.startswith(expected if expected.startswith(":") else f": {expected}")


def test_what_is_said_of_c_is_qualified_by_tolerance_and_grid():
    for seeds in (1, 5):
        text = told(ABOVE, seeds=seeds)
        assert (
            "mixes it with the tolerance, which is LIBSVM's default 0.001 wherever C is chosen, and a chosen C" in text
        )


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
