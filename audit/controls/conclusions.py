"""What the controls allow one to conclude about where a gain, or a loss, of Ours comes from, by rules on the figures.

A difference is "above" or "below" 0 where its 95 % interval leaves out 0, "alike" where the interval lies within the
margin of the specification (compare.margin), "undecided" otherwise, and wherever fewer than five seeds stand behind it.
A control reaches Ours where the interval of its difference to Ours does not go below minus the margin, and the gain of
Ours where it also has a gain of its own: a difference to Baseline-LR whose interval is above 0.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from audit.controls.svms import CHOSEN_TOLERANCE
from compare.end_to_end import LEAST_SEEDS

# What could stand behind a gain that is not the transfer of HR structure, in the order in which it is told.
RIVALS = (
    "initial_weights", "permuted_labels", "random_labels", "random_relu", "pca", "lr_c_cv", "lr_l2", "lr_l2_c_cv",
)  # fmt: skip
UNTRAINED = ("initial_weights", "random_relu", "pca")  # of as many dimensions as Ours, without its training
SETTINGS = (
    ("c_cv", f"C chosen by cross-validation, at tolerance {CHOSEN_TOLERANCE:g},", "C or the tolerance"),
    ("l2", "rows of length 1", "the rows' lengths"),
)
MIXED = (
    f"What is said of C mixes it with the tolerance, which is LIBSVM's default {CHOSEN_TOLERANCE:g} wherever C is "
    "chosen, and a chosen C may be an end of its grid."
)


def relation(judged: Mapping[str, Any], margin: float) -> str:
    """How a difference stands to 0: "alike", "above", "below" or "undecided"."""
    low, high = judged["interval_95"]
    if not judged["certain"]:
        return "undecided"
    if -margin < low and high < margin:
        return "alike"
    return "above" if low > 0 else "below" if high < 0 else "undecided"


def reaches(judged: Mapping[str, Any], margin: float) -> bool:
    """Whether a control with that difference to Ours does as well as Ours, or not worse by more than the margin."""
    return bool(judged["certain"] and judged["interval_95"][0] > -margin)


def gains(judged: Mapping[str, Any]) -> bool:
    """Whether a control with that difference to Baseline-LR has a gain of its own, however small."""
    return bool(judged["certain"] and judged["interval_95"][0] > 0)


def conclusions(found: Mapping[str, Any]) -> list[str]:
    """The sentences, from what controls.json holds besides them."""
    seeds = len(found["seeds"])
    if seeds < LEAST_SEEDS:
        few = f"{seeds} seed{'' if seeds == 1 else 's'}: fewer than {LEAST_SEEDS} decide nothing of what is drawn."
        return [few, *classifier(found), hr_to_lr(found)]
    return [
        *explained(found),
        training(found),
        *labels(found),
        *classifier(found),
        *alike_settings(found),
        hr_to_lr(found),
    ]


def explained(found: Mapping[str, Any]) -> list[str]:
    """Whether there is a gain or a loss, and where it comes from."""
    margin, gain = found["margin"], found["ours"]["minus_baseline_lr"]
    low, high = gain["interval_95"]
    start = f"Ours minus Baseline-LR is {figures(gain)}:"
    which = relation(gain, margin)
    if which == "above":
        return [f"{start} a gain.", *gain_from(found)]
    if which == "below":
        return [f"{start} a loss, so there is no gain to explain.", *loss_with(found)]
    if which == "undecided":
        return [f"{start} undecided whether there is a gain."]
    if low > 0 or high < 0:
        word = "gain" if low > 0 else "loss"
        small = f"a {word} smaller than the margin of {margin:g} at which controls are compared"
        return [f"{start} {small}, so its source cannot be told."]
    return [f"{start} {outcome(gain, margin)}, so there is nothing to explain."]


def gain_from(found: Mapping[str, Any]) -> list[str]:
    """Whether a gain can be laid to the transfer of HR structure."""
    margin = found["margin"]
    differences = {name: row_of(found, name)["minus_ours"] for name in RIVALS}
    reached = [
        name
        for name, judged in differences.items()
        if reaches(judged, margin) and gains(row_of(found, name)["minus_baseline_lr"])
    ]
    below = [name for name in RIVALS if name not in reached and relation(differences[name], margin) == "below"]
    open_ones = [name for name in RIVALS if name not in reached and name not in below]

    def listed(names: Sequence[str]) -> str:
        return listing([f"{row_of(found, name)['title']} ({figures(differences[name])})" for name in names])

    told = []
    if reached:
        told.append(
            f"The gain is also reached, within {margin:g} of Ours, by {listed(reached)}, so it cannot be laid to the "
            "transfer of HR structure."
        )
    if open_ones:
        told.append(f"Undecided is whether the gain is reached by {listed(open_ones)}.")
    if below and not reached and not open_ones:
        told.append(f"No control reaches Ours ({listed(below)}): the gain goes with training on HR's pseudo-labels.")
    return told


def loss_with(found: Mapping[str, Any]) -> list[str]:
    """Whether what does not train loses against Baseline-LR as well."""
    said: dict[str, list[str]] = {"lost": [], "kept": [], "undecided": []}
    for name in UNTRAINED:
        judged = row_of(found, name)["minus_baseline_lr"]
        way = {"below": "lost", "undecided": "undecided"}.get(relation(judged, found["margin"]), "kept")
        said[way].append(f"{row_of(found, name)['title']} ({figures(judged)} to Baseline-LR)")
    heads = {
        "lost": "A loss comes without any training of that network as well, by",
        "kept": "As many dimensions as Ours has are no loss by",
        "undecided": "Undecided is whether there is a loss by",
    }
    return [f"{heads[way]} {listing(them)}." for way, them in said.items() if them]


def training(found: Mapping[str, Any]) -> str:
    """What training does to the transfer network."""
    judged = row_of(found, "initial_weights")["minus_ours"]
    meaning = {
        "below": "training adds to the features",
        "above": "training takes away from the features",
        "alike": f"training changes nothing beyond {found['margin']:g}",
        "undecided": "what training does is undecided",
    }
    return (
        f"The network at its initial weights differs from Ours by {figures(judged)}: {phrase(judged, meaning, found)}."
    )


def labels(found: Mapping[str, Any]) -> list[str]:
    """Whether it matters what the pseudo-labels say."""
    meaning = {
        "below": "what the pseudo-labels say of the images matters",
        "above": "labels that say nothing of the images do better than the pseudo-labels",
        "alike": f"what the pseudo-labels say of the images changes nothing beyond {found['margin']:g}",
        "undecided": "whether it matters what the pseudo-labels say is undecided",
    }
    told = []
    for name, what in (("permuted_labels", "permuted pseudo-labels"), ("random_labels", "labels drawn uniformly")):
        judged = row_of(found, name)["minus_ours"]
        told.append(f"Trained on {what}, it differs from Ours by {figures(judged)}: {phrase(judged, meaning, found)}.")
    return told


def classifier(found: Mapping[str, Any]) -> list[str]:
    """What another setting of the SVM does to Baseline-LR without any transfer."""
    names = ("lr_c_cv", "lr_l2", "lr_l2_c_cv")
    differences = {name: row_of(found, name)["minus_baseline_lr"] for name in names}
    heads = {
        "above": "Without any transfer, Baseline-LR rises by another setting of its SVM: ",
        "alike": f"Another setting of Baseline-LR's SVM changes nothing beyond {found['margin']:g}: ",
        "below": "Baseline-LR falls by another setting of its SVM: ",
        "undecided": "Undecided is what another setting of Baseline-LR's SVM does: ",
    }
    told = []
    for way, head in heads.items():
        them = [name for name in names if relation(differences[name], found["margin"]) == way]
        if them:
            with_figures = [f"{row_of(found, name)['title']} {figures(differences[name])}" for name in them]
            told.append(f"{head}{listing(with_figures)}.")
    return [*told, MIXED]


def alike_settings(found: Mapping[str, Any]) -> list[str]:
    """Ours minus Baseline-LR where both have the same other setting, and what that says of the gain or loss."""
    main, margin = found["ours"]["minus_baseline_lr"], found["margin"]
    told = []
    for name, what, cause in SETTINGS:
        judged = found["ours_minus_baseline_lr_alike"][name]
        says = f"{outcome(judged, margin)}{left(main, judged, cause, margin)}"
        told.append(f"With {what} on both sides, Ours minus Baseline-LR is {figures(judged)}: {says}.")
    return told


def left(main: Mapping[str, Any], judged: Mapping[str, Any], cause: str, margin: float) -> str:
    """What another setting of both leaves of a gain or loss, as far as two intervals that are not paired tell."""
    was, now = relation(main, margin), relation(judged, margin)
    if was not in ("above", "below"):
        return "" if now == was else f", but {outcome(main, margin)} without that"
    word = outcome(main, margin)
    if now == "undecided":
        return f", so it is undecided whether the {word} comes from {cause}"
    # As for a gain: of a loss, the greater is the lower one.
    sign = 1 if was == "above" else -1
    size, least_of_main = sign * main["difference"], min(sign * end for end in main["interval_95"])
    least, greatest = sorted(sign * end for end in judged["interval_95"])
    if least > 0 and greatest >= size:
        return f": the {word} stays, so it does not come from {cause}"
    if now == "alike":
        return f": nothing beyond {margin:g} is left of the {word}"
    if now != was:
        return f": nothing is left of the {word}"
    if greatest < least_of_main:
        shares = f"{judged['difference']:+.2f} of {main['difference']:+.2f} are left"
        return f": {shares}, so a part of the {word} comes from {cause}"
    return f", so it is undecided whether a part of the {word} comes from {cause}"


def outcome(judged: Mapping[str, Any], margin: float) -> str:
    """A difference in a word: "gain", "loss", "no difference beyond the margin" or "undecided"."""
    words = {"above": "gain", "below": "loss", "alike": f"no difference beyond {margin:g}", "undecided": "undecided"}
    return words[relation(judged, margin)]


def hr_to_lr(found: Mapping[str, Any]) -> str:
    """Whether LR features lie where the HR features of the same classes do, as far as an SVM can tell."""
    judged = row_of(found, "hr_to_lr")["minus_baseline_lr"]
    meaning = {
        "below": "LR features do not lie where those of HR do, and an SVM must be trained on LR",
        "above": "HR features teach an SVM more about LR images than LR features do",
        "alike": f"for an SVM, HR features are as good to learn LR from, within {found['margin']:g}",
        "undecided": "which of them is better to learn LR from is undecided",
    }
    return (
        f"An SVM trained on HR differs from one trained on LR by {figures(judged)}: {phrase(judged, meaning, found)}."
    )


def phrase(judged: Mapping[str, Any], meaning: Mapping[str, str], found: Mapping[str, Any]) -> str:
    """What a difference means."""
    return meaning[relation(judged, found["margin"])]


def row_of(found: Mapping[str, Any], control: str) -> Mapping[str, Any]:
    """A control's row."""
    return next(row for row in found["rows"] if row["control"] == control)


def figures(judged: Mapping[str, Any]) -> str:
    """A difference and its interval: `+1.20 [+0.30, +2.10]`."""
    low, high = judged["interval_95"]
    return f"{judged['difference']:+.2f} [{low:+.2f}, {high:+.2f}]"


def listing(items: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *first, last = items
    return f"{', '.join(first)} and {last}" if first else last
