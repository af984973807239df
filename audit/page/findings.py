"""What the runs say of the paper, as parts of the report: claims, decisions and controls."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from audit.claims.claims import Claim, claims, read_claims
from audit.claims.optional import finite
from audit.decisions import elsewhere
from audit.decisions.decisions import OWNERS, Alternative, Decision
from audit.decisions.effects import chance_text, told_instead, told_rows
from audit.page import charts
from audit.page.paper_parts import own_table2
from audit.page.subject import Subject
from audit.page.tables import INTERVAL_HEAD, Cell, Chart, Part, Table, decimal, interval, whole, words
from compare.report import ROW_NAMES
from experiment.errors import UserError
from experiment.stages import ROWS

VERDICTS = {  # a claim's verdict to its look
    "reproduced": "good",
    "not reproduced": "bad",
    "not testable here": "quiet",
    "inconsistent in the paper": "open",
}
# Parts of which the page has one for all runs.
SHARED = ("#arithmetic", "#decisions", "#controls")
PAPER_ALONE = "#arithmetic"  # the evidence of the claims that no run can change
HOLLOW = "hollow: too few seeds to be certain"
Effects = dict[Alternative, list[list[Cell]]]


@dataclass(frozen=True)
class Checked:
    """A run and what it says of the claims; `problem` : why nothing, "" otherwise."""

    subject: Subject
    claims: list[Claim]
    problem: str = ""


def check(subject: Subject) -> Checked:
    """Check the claims on a run. A file of it that cannot be read costs the claims, not the page."""
    try:
        return Checked(subject, claims(subject.path))
    except UserError as error:
        return Checked(subject, [], subject.local(str(error)))


def counted(claims: Sequence[Claim]) -> str:
    """How many claims have which verdict, in words; those on the paper's own figures apart from those on a run."""
    decided = {
        "on the paper's own figures": [claim for claim in claims if claim.evidence == PAPER_ALONE],
        "on this run": [claim for claim in claims if claim.evidence != PAPER_ALONE],
    }
    told = [f"{len(group)} {by} ({tally(group)})" for by, group in decided.items() if group]
    return f"{len(claims)} claims of the paper: {'; '.join(told)}."


def claims_text(claims: Sequence[Claim]) -> str:
    """What became of the claims: of the main one, the gain of Ours, and how many have which verdict."""
    if not claims:
        return "No claim was checked."
    one = claims[[entry["rule"] for entry in read_claims()].index("gain")]  # both are in the file's order
    return (
        f"The gain over Baseline-LR, by the paper {one.published}: {one.verdict}; here Ours minus Baseline-LR is "
        f"{one.caffe} by Caffe and {one.port} by the port. {counted(claims)}"
    )


def tally(claims: Sequence[Claim]) -> str:
    """The verdicts that occur, each with its number."""
    counts = {verdict: sum(claim.verdict == verdict for claim in claims) for verdict in VERDICTS}
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)


def verdict(claim: Claim) -> Cell:
    """A claim's verdict with its look."""
    return words(claim.verdict, VERDICTS.get(claim.verdict, "open"))


def claims_part(found: Sequence[Checked]) -> Part:
    """Every claim with what each run says of it, and a link to the evidence."""
    ids = list(dict.fromkeys(claim.id for one in found for claim in one.claims))
    rows = []
    for name in ids:
        by_finding: dict[tuple[Cell, ...], list[tuple[str, Cell]]] = {}
        for subject, claim in [(one.subject, c) for one in found for c in one.claims if c.id == name]:
            about = [words(text) for text in (claim.id, claim.claim, claim.source, claim.published)]
            finding = (*about, words(claim.caffe), words(claim.port), verdict(claim), words(claim.why))
            href = claim.evidence if claim.evidence in SHARED else claim.evidence + subject.suffix
            evidence = words(claim.evidence.removeprefix("#"), href=href)
            by_finding.setdefault(finding, []).append((subject.name, evidence))
        for finding, named in by_finding.items():
            run = words(of_runs([name for name, _ in named], found))
            rows.append([*finding[:4], run, *finding[4:], named[0][1]])
    head = ["no.", "claim", "source", "published", "run", "by Caffe", "by the port", "verdict", "why", "evidence"]
    ledger = Table("claim-ledger", "Claims of the paper", head, rows, 4)
    missing = " ".join(f"{one.subject.name}: {one.problem}" for one in found if one.problem)
    return Part("claims", "The claims", body=[[ledger]], missing=missing)


def of_runs(names: Sequence[str], found: Sequence[Any]) -> str:
    """Of which runs a row is."""
    return ", ".join(names) if len(names) < len(found) or len(found) == 1 else "every run"


def effects(decisions: Sequence[Decision], found: Mapping[str, Any] | None) -> Effects:
    """What a run's sensitivity.json says of every alternative that no other command measures.

    Of each, five cells a row of Table 1 that moves: its name and the effect on it; or one line of no name and a reason.
    """
    rows: Effects = {}
    for one in (one for decision in decisions for one in decision.alternatives if not one.elsewhere):
        entry = entry_of(found, one)
        instead, effect = one.reason or told_instead(entry), entry.get("effect")
        if effect and not instead:
            rows[one] = [[words(ROW_NAMES[row]), *interval(effect[row])] for row in told_rows(effect)]
        else:
            rows[one] = [no_effect(instead)]
    return rows


def no_effect(why: str) -> list[Cell]:
    """The cells of an alternative without an effect: no row of Table 1, and the reason across the other four."""
    return [words(""), replace(words(why or "not measured", "quiet"), across=len(INTERVAL_HEAD)), *[words("")] * 3]


def decision_rows(
    decisions: Sequence[Decision],
    results: Mapping[str, Effects],
    files: Mapping[str, Mapping[str, Any]],
    local: Mapping[str, Callable[[str], str]],
) -> list[list[Cell]]:
    """A row an alternative, run and row of Table 1 that moves.

    Where no run has an effect, and all for one reason, one row is of every run. results : of a run or more, each to its
    `effects`. files : run to what `audit.decisions.elsewhere` asks. local : run to what makes a text's commands the
    run's own.
    """
    rows = []
    for decision, one in ((each, one) for each in decisions for one in each.alternatives):
        about = [words(text) for text in (decision.number, decision.subject, decision.taken, decision.why, one.told)]
        if one.elsewhere:
            command = elsewhere.ELSEWHERE[one.elsewhere][1]
            for name, found in files.items():
                missing = local[name](f"not measured yet: `{command}` does it")
                phrase = elsewhere.told(one.elsewhere, found) or missing
                rows.append([*about, words(name), *no_effect(phrase)])
            continue
        told = {name: found[one] for name, found in results.items()}
        first = next(iter(told.values()))
        if first[0][0].value is None and all(other == first for other in told.values()):
            told = {of_runs(list(results), list(results)): first}
        rows += [[*about, words(name), *cells] for name, lines in told.items() for cells in lines]
    return rows


def decisions_part(decisions: Sequence[Decision], subjects: Sequence[Subject]) -> Part:
    """Every decision with its alternatives, and what each does to mAP on each run."""
    files = {one.name: files_of(one) for one in subjects}
    local = {one.name: one.local for one in subjects}

    def read(found: dict[str, Any], where: str, name: str) -> tuple[Effects, dict[str, charts.Span], str]:
        note = f"{measured_note(name, found, where)} {chance_text(found['entries'])}"
        return effects(decisions, found), forest_lines(found), note

    told = {one.name: one.measured("sensitivity", partial(read, name=one.name)) for one in subjects}
    measured = {name: made for name, (made, _) in told.items() if made is not None}
    lacking = {name: why for name, (made, why) in told.items() if made is None}
    results = {name: measured[name][0] if name in measured else effects(decisions, None) for name in told}
    rows = decision_rows(decisions, results, files, local)
    head = ["no.", "subject", "taken", "why", "alternative", "run", "row", *INTERVAL_HEAD]
    counts = {owner: sum(decision.of == owner for decision in decisions) for owner in OWNERS}
    notes = [f"{len(decisions)} decisions: " + ", ".join(f"{n} {OWNERS[o]}" for o, n in counts.items() if n) + "."]
    notes += [note for _, _, note in measured.values()]
    missing = " ".join(f"{name}: {why}." for name, why in lacking.items())
    ledger = Table("decision-ledger", "Decisions, alternatives and their effect on mAP (percent)", head, rows, 5)
    body: list[list[Chart | Table]] = [[ledger]]
    if panels := {name: by_value(lines) for name, (_, lines, _) in measured.items() if lines}:
        far = "; ".join(f"{name}, {far_text(lines)}" for name, lines in panels.items())
        alt = f"What each alternative changes the mAP of Ours by, in percent, with 95 % intervals; {HOLLOW}. {far}."
        body.insert(0, [Chart(alt, charts.forest("decisions", panels))])
    return Part("decisions", "The decisions", notes, body, missing)


def files_of(subject: Subject) -> dict[str, Any]:
    """What `audit.decisions.elsewhere` asks of a run; what is missing, malformed or of another run is left out, and its
    own part of the page says so."""
    measured = {file: subject.measured(file, lambda found, where: found)[0] for file in ("controls", "sensitivity")}
    try:
        table2 = own_table2(subject, dict)
    except UserError:
        table2 = None
    return {**measured, "table2": table2, "compare": subject.comparison}


def entry_of(found: Mapping[str, Any] | None, one: Alternative) -> Mapping[str, Any]:
    """What sensitivity.json says of an alternative; nothing where it meant another change by that name."""
    for entry in found["entries"] if found else ():
        if (entry["decision"], entry["alternative"], entry["what"]) == (one.decision, one.name, one.told):
            return entry
    return {}


def forest_lines(found: Mapping[str, Any] | None) -> dict[str, charts.Span]:
    """The effects on Ours, a line an alternative that was measured and in which something differs."""
    entries = [entry for entry in (found["entries"] if found else ()) if "effect" in entry and not told_instead(entry)]
    return {f"{e['decision']} {e['alternative']}": span(e["effect"]["ours"]) for e in entries}


def by_value(lines: Mapping[str, charts.Span]) -> dict[str, charts.Span]:
    """The lines from the greatest value to the least."""
    return dict(sorted(lines.items(), key=lambda line: -line[1].value))


def span(found: Mapping[str, Any]) -> charts.Span:
    """A difference for a chart."""
    value, low, high = map(finite, (found["difference"], *found["interval_95"]))
    return charts.Span(value, low, high, found["certain"])


def far_text(lines: Mapping[str, charts.Span]) -> str:
    """The line that lies farthest from 0, in words."""
    label, farthest = max(lines.items(), key=lambda line: abs(line[1].value))
    return f"{len(lines)} alternatives, the greatest effect {farthest.value:+.2f} of {label}"


def measured_note(name: str, found: Mapping[str, Any], where: str) -> str:
    """What a run's figures are of, in a sentence."""
    base = ", ".join(f"{ROW_NAMES[row]} {found['base'][row]:.2f}" for row in ROWS if row in found.get("base", {}))
    seeds = len(found["seeds"])
    return (
        f"{name}, from {where}: {seeds} seed{'s' * (seeds > 1)}{f'; taken as they are, {base}' if base else ''}. "
        f"{' '.join(found['subject']['remarks'])}"
    )


def controls_part(subjects: Sequence[Subject]) -> Part:
    """Every run's controls, and what they allow one to conclude."""
    told = {one.name: one.measured("controls", partial(controls_of, one)) for one in subjects}
    parts = [made for made, _ in told.values() if made is not None]
    missing = " ".join(f"{name}: {why}." for name, (made, why) in told.items() if made is None)
    return Part(
        "controls",
        "The controls",
        notes=[note for part in parts for note in part.notes],
        body=[row for part in parts for row in part.body],
        missing=missing,
        points=[point for part in parts for point in part.points],
    )


def controls_of(subject: Subject, found: Mapping[str, Any], where: str) -> Part:
    """One run's controls; `where` : the file that they are of."""
    head = ["control", "what", "seeds", "mAP", "±", *(f"{of}: {name}" for of in ("minus Baseline-LR", "minus Ours")
                                                      for name in INTERVAL_HEAD)]  # fmt: skip
    notes = [
        measured_note(subject.name, found, where),
        f"{subject.name}: Baseline-LR {found['baseline_lr']:.2f}, Ours {found['ours']['mean']:.2f}.",
    ]
    rows = []
    panels: dict[str, dict[str, charts.Span]] = {"minus Baseline-LR": {}, "minus Ours": {}}
    for row in found["rows"]:
        measures = [whole(len(row["map"]["seeds"])), decimal(row["map"]["mean"]), decimal(row["map"]["spread"])]
        both = row["minus_baseline_lr"], row["minus_ours"]
        rows.append([words(row["title"]), words(row["what"]), *measures, *(c for d in both for c in interval(d))])
        for panel, one in zip(panels.values(), both, strict=True):
            panel[row["title"]] = span(one)
    told = "; ".join(
        f"{row['title']} {row['map']['mean']:.1f}, {row['minus_baseline_lr']['difference']:+.1f} to Baseline-LR, "
        f"{row['minus_ours']['difference']:+.1f} to Ours"
        for row in found["rows"]
    )
    name = f"controls{subject.suffix or '-first'}"
    alt = f"mAP of the controls on {subject.name}, percent: {told}."
    caption = f"Controls on {subject.name}: differences of mAP with 95 % intervals; {HOLLOW}."
    chart = Chart(alt, charts.forest(name, panels), caption=caption)
    table = Table(f"{name}-table", f"Controls, {subject.name}", head, rows)
    points = [f"{subject.name}: {sentence}" for sentence in found["conclusions"]]
    return Part(name, caption, notes, [[chart], [table]], points=points)
