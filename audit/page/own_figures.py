"""The paper's own figures as a part of the report: what it prints, held against itself and against published counts."""

from collections.abc import Sequence

from audit.claims.arithmetic import candidates, likeness, moved, ranks, row_means
from audit.claims.facts import Facts, read_facts
from audit.claims.paper_rules import likeness_text
from audit.page import charts
from audit.page.findings import Checked, verdict
from audit.page.tables import Chart, Part, Table, decimal, whole, words
from compare.report import ROW_NAMES
from paper.published import Published, read_published

ANCHOR = "arithmetic"


def arithmetic_part(found: Sequence[Checked]) -> Part:
    """What no run is needed for. found : the claims on every run, of which those are shown that point here."""
    facts, published = read_facts(), read_published()
    claims = {claim.id: claim for one in found for claim in one.claims if claim.evidence == f"#{ANCHOR}"}
    rows = [[*map(words, (c.id, c.claim, c.published)), verdict(c), words(c.why)] for c in claims.values()]
    told = Table("arithmetic-claims", "Claims on the paper's own figures",
                 ["no.", "claim", "published", "verdict", "found"], rows)  # fmt: skip
    pattern: list[Chart | Table] = [pattern_chart(facts, published), pattern_table(facts, published)]
    note = "Computed from what the paper prints and from what others published; no run is needed for it."
    body: list[list[Chart | Table]] = [[told], [mean_table(published)], [sample_table(facts)], pattern]
    return Part(ANCHOR, "The paper's own arithmetic", [note], body)


def mean_table(published: Published) -> Table:
    """The mean of each row of Table 1, beside the printed mAP."""
    means = row_means(published)
    rows = [[words(ROW_NAMES[row]), decimal(means[row], 3), decimal(published.map[row], 1)] for row in means]
    return Table("row-means", "Means of Table 1's rows, percent", ["row", "mean of the APs", "printed mAP"], rows)


def sample_table(facts: Facts) -> Table:
    """Every training set that the printed iterations may be of."""
    schedule = facts.schedule
    rows = [
        [
            words(one.what), whole(one.samples), whole(one.iterations), decimal(one.epochs, 1), whole(one.drops),
            whole(one.left), words("yes", "good") if one.fits else words("no"), words(one.source),
        ]
        for one in candidates(facts)
    ]  # fmt: skip
    title = f"What {schedule.iterations:,} iterations at batch {schedule.batch:,} may be {schedule.epochs:,} epochs of"
    head = ["training set", "samples", "iterations needed", "epochs that the printed ones are", "falls of the rate"]
    return Table("schedule", title, [*head, "iterations after the last", "fits", "source"], rows)


def series(facts: Facts, published: Published) -> dict[str, list[float]]:
    """AP per class of the paper's Baseline-HR and of the published image-level results, by name."""
    return {"the paper's Baseline-HR": published.ap["baseline_hr"]} | {
        level.title: level.ap for level in facts.image_level.values()
    }


def pattern_chart(facts: Facts, published: Published) -> Chart:
    """The APs of all of them."""
    like = likeness(published.ap["baseline_hr"], facts.image_level)
    far = "; ".join(
        f"{one.name} {one.ap:.1f} against {', '.join(f'{ap:.1f}' for ap, _ in one.others)}"
        for one in moved(published, facts.image_level)
    )
    alt = (
        "AP per class in percent of the paper's Baseline-HR and of published results of whole images. "
        f"{likeness_text(like)} Ranked far higher by the paper: {far or 'no class'}."
    )
    return Chart(alt, charts.dots(ANCHOR, list(published.names.values()), {"": series(facts, published)}))


def pattern_table(facts: Facts, published: Published) -> Table:
    """The APs and their places."""
    named = series(facts, published)
    places = {name: ranks(ap) for name, ap in named.items()}
    rows = [
        [words(shown), *(cell for name in named for cell in (decimal(named[name][i], 1), whole(places[name][i])))]
        for i, shown in enumerate(published.names.values())
    ]
    head = ["class", *(column for name in named for column in (name, "place"))]
    return Table("image-level", "Baseline-HR against published image-level results, percent", head, rows)
