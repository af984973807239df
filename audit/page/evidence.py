"""The comparison of a run, stage by stage: the quantities in noise floors, and the nets' blobs in forward order."""

import math

from audit.page import charts
from audit.page.subject import Subject
from audit.page.tables import Cell, Chart, Part, Table, decimal, small, whole, words
from compare.backbone import writers
from compare.calibration import Calibration
from compare.check import Check
from compare.report import allowed_text, badness_of, group_of, ratio_of, shown, value_text, worst_ratios

NETS = {"features": "backbone.prototxt", "resnet101": "resnet101.prototxt"}


def checks_of(subject: Subject, mode: str) -> list[Check]:
    """compare.json's checks of a mode, as `compare` made them; words that stand for no number are numbers again."""
    found = []
    for entry in subject.comparison["checks"]:
        if entry["mode"] == mode:
            calibration = entry["calibration"]
            if calibration is not None:
                values = {key: calibration[key] for key in ("k", "judged")}
                values |= {key: float(calibration[key]) for key in ("error", "error_a", "floor", "ratio")}
                floors = {name: float(value) for name, value in calibration["floors"].items()}
                calibration = Calibration(**values, floors=floors)
            found.append(Check(**{**entry, "value": float(entry["value"]), "calibration": calibration}))
    return found


def verdict(agrees: bool, judged: bool = True) -> Cell:
    """Whether a check agrees."""
    if not judged:
        return words("shown")
    return words("agrees", "good") if agrees else words("DIFFERS", "bad")


def stages(subject: Subject) -> Part:
    """The greatest error in noise floors of each quantity; below, every quantity of the comparison."""
    checks, k = checks_of(subject, "isolated"), subject.comparison["k"]
    groups: dict[tuple[str, str], list[Check]] = {}
    for check in checks:
        if check.calibration is not None:
            groups.setdefault((check.stage, check.quantity), []).append(check)
    worst = [max(members, key=ratio_of) for members in groups.values()]
    anchor, title = subject.anchor("stages"), "Stage by stage: errors in noise floors"
    if not worst:
        told = f"No noise floor was measured: `{subject.command('compare')}` measures them."
        return Part(anchor, title, body=[[quantities(subject)]], missing=told)
    rows = []
    for check, members in zip(worst, groups.values(), strict=True):
        found = check.calibration
        assert found is not None
        greatest = max(members, key=badness_of)
        errors = [small(found.error), small(found.floor), decimal(ratio_of(check), 2)]
        bound = [small(greatest.value), small(greatest.allowed)]
        agrees = verdict(all(member.agrees for member in members), found.judged or greatest.judged)
        judged = words(f"<= {k:g}" if found.judged else "shown")
        names = [words(check.stage), words(check.quantity), whole(len(members)), words(check.item)]
        rows.append([*names, *errors, judged, *bound, agrees])
    head = ["stage", "quantity", "checks", "most floors at", "error", "floor", "error / floor", "allowed"]
    head += ["greatest difference", "allowed, difference", "verdict"]
    judged_flags = [check.calibration is not None and check.calibration.judged for check in worst]
    chart = Chart(
        floors_alt(worst, judged_flags, k),
        charts.bars(anchor, [f"{c.stage}: {c.quantity}" for c in worst], [ratio_of(c) for c in worst], judged_flags, k),
    )
    note = (
        "Isolated: each stage of the port was fed by the Caffe side. An error is the port's distance to itself in "
        "float64; a noise floor is what Caffe errs by, and what both sides differ from themselves by when threads, "
        "batch size, memory layout or last bits change. "
        f"At most {k:g} floors are allowed; hatched bars are shown, not judged."
    )
    table = Table(subject.anchor("floors"), "Greatest error of each quantity", head, rows)
    return Part(anchor, title, [note], [[chart, table], [quantities(subject)]])


def floors_alt(worst: list[Check], judged: list[bool], k: float) -> str:
    """The bars in words."""
    most = max(zip(worst, judged, strict=True), key=lambda pair: (pair[1], ratio_of(pair[0])))[0]
    beyond = sum(counts and not ratio_of(check) <= k for check, counts in zip(worst, judged, strict=True))
    return (
        f"Bars of the port's error in noise floors for {len(worst)} quantities. The greatest that is judged is "
        f"{ratio_of(most):.2g}, of {most.stage}, {most.quantity}. {beyond or 'None'} of those judged "
        f"{'are' if beyond > 1 else 'is'} beyond k = {k:g}."
    )


def quantities(subject: Subject) -> Table:
    """A row for each quantity and array, both modes, as the comparison prints them."""
    isolated, chained = checks_of(subject, "isolated"), checks_of(subject, "chained")
    columns = [{(c.stage, c.quantity, group_of(c)): c for c in shown(checks)} for checks in (isolated, chained)]
    ratios = worst_ratios(isolated)
    keys = list(dict.fromkeys([*columns[0], *columns[1]]))
    order = list(dict.fromkeys(check.stage for check in [*isolated, *chained]))
    rows = []
    for key in sorted(keys, key=lambda key: order.index(key[0])):
        there = [check for check in (columns[0].get(key), columns[1].get(key)) if check is not None]
        told = next((check for check in there if not check.agrees), max(there, key=badness_of))
        cells = []
        for check in (columns[0].get(key), columns[1].get(key)):
            value = check.value if check is not None and math.isfinite(check.value) else None
            cells += [Cell(value, value_text(check)), words(allowed_text(check))]
        ratio = decimal(ratio_of(ratios[key]) if key in ratios else None)
        agrees = verdict(all(check.agrees for check in there), any(check.judged for check in there))
        detail = words(subject.local(told.detail))
        rows.append([words(key[0]), words(key[1]), words(told.item), *cells, ratio, agrees, detail])
    head = ["stage", "quantity", "of", "isolated", "allowed, isolated", "chained", "allowed, chained", "floors"]
    title = "Every quantity, both modes; of many alike the worst"
    return Table(subject.anchor("quantities"), title, [*head, "verdict", "detail"], rows, filtered="stage or quantity",
                 folded=True)  # fmt: skip


def layers(subject: Subject, stage: str) -> Part:
    """A net's blobs in forward order, the first that departs marked."""
    own = f"the {subject.spec['values']['backbone'].get('name', '')} backbone"
    net = own if stage == "features" else "ResNet-101 with seeded weights"
    anchor, title = subject.anchor(f"layers-{stage}"), f"Error by layer: {net}"
    checks = [c for c in checks_of(subject, "isolated") if c.stage == stage and c.item.startswith("blob ")]
    chained = {c.item: c for c in checks_of(subject, "chained") if c.stage == stage}
    if not checks:
        return Part(anchor, title, missing=f"No blob was compared: `{subject.command('compare')}` compares them.")
    by = writers(subject.sides["caffe"].prototxt(NETS[stage]))
    rows = []
    for i, check in enumerate(checks):
        found, other = check.calibration, chained.get(check.item)
        blob = check.item.removeprefix("blob ")
        measures = [None, None, None] if found is None else [found.error, found.floor, ratio_of(check)]
        rows.append(
            [
                whole(i), words(blob), words(", ".join(by.get(blob, []))), small(check.value),
                small(other.value if other else None), small(check.allowed), *map(small, measures),
                verdict(check.agrees, check.judged),
            ]
        )  # fmt: skip
    head = ["#", "blob", "written by", "isolated", "chained", "allowed", "error", "floor", "error / floor", "verdict"]
    departs = next(((i, c.item.removeprefix("blob ")) for i, c in enumerate(checks) if not c.agrees), None)
    ratios = [None if c.calibration is None else ratio_of(c) for c in checks]
    values = [check.value for check in checks]
    worst = max(checks, key=badness_of)
    first = f"The first departure is blob {departs[1]}, number {departs[0]}." if departs else "No blob departs."
    alt = (
        f"{len(checks)} blobs of {net} in forward order. The greatest relative L2 is {worst.value:.3g}, of "
        f"{worst.item}, where {allowed_text(worst)} is allowed. {first}"
    )
    picture = charts.layers(anchor, values, [c.allowed for c in checks], ratios, subject.comparison["k"], departs)
    table = Table(subject.anchor(f"blobs-{stage}"), f"Blobs of {net}", head, rows, filtered="blob or layer")
    return Part(anchor, title, [first], [[Chart(alt, picture), table]])
