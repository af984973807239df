"""The claims ledger of a run: `python -m audit.claims.claims RUN` prints every claim of the paper that can be checked.

Each claim of claims.toml has a rule, which gives the published figure, both sides' and one of four verdicts:

- reproduced: the run is the paper's own, and its figures bear the claim out; or, of a claim that no run decides, the
  paper's own statements and the published facts about the very data it names do.
- not reproduced: the run is the paper's own, and its figures contradict the claim. Only a run's figures do that.
- not testable here: the run's data, weights or specification are not the paper's, or its figures, or those that the
  claim rests on, are missing or leave it undecided.
- inconsistent in the paper: whatever is run, the paper's own statements contradict each other or published facts about
  the very data it names, as its 5,000 trainval images do VOC2007's own list of 5,011.

ResNet-101's dimension alone is judged by every run, since each computes that net.
"""

import argparse
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from audit.claims import grid_rules, paper_rules, table1_rules
from audit.claims.commands import complete
from audit.claims.readings import Readings, read_run
from audit.claims.verdicts import Finding
from experiment.errors import UserError, run_command
from paper.text import markdown_table

CLAIMS = Path(__file__).with_name("claims.toml")
EVIDENCE = (
    "#table1", "#table2", "#figures", "#loss", "#end-to-end", "#arithmetic", "#controls", "#decisions", "#run",
    "#per-class",
)  # fmt: skip
RULES: dict[str, Callable[..., Finding]] = {
    rule.__name__: rule
    for rule in (
        table1_rules.row_map,
        table1_rules.row_classes,
        table1_rules.gap,
        table1_rules.bounds,
        table1_rules.gain,
        table1_rules.transferred,
        table1_rules.lost_classes,
        grid_rules.rise,
        grid_rules.optimum,
        grid_rules.which_layer,
        grid_rules.separated,
        grid_rules.pool5,
        paper_rules.means,
        paper_rules.printed_gain,
        paper_rules.printed_losers,
        paper_rules.printed_rise,
        paper_rules.printed_optimum,
        paper_rules.same_best,
        paper_rules.turning,
        paper_rules.iterations,
        paper_rules.image_count,
        paper_rules.image_level,
    )
}


@dataclass(frozen=True)
class Claim:
    """A claim and what became of it, all in words.

    id : "C1" and so on. claim : the sentence checked. source : where the paper has it. published, caffe, port : the
    figures in percent, "-" where there is none. verdict : one of `verdicts.VERDICTS`. why : made from the figures.
    evidence : the anchor of the report's part that shows them.
    """

    id: str
    claim: str
    source: str
    published: str
    caffe: str
    port: str
    verdict: str
    why: str
    evidence: str


def claims(run: Path) -> list[Claim]:
    """Judge every claim by a run's folder (with caffe/, torch/ and what was made of them).

    Raises `UserError` where neither side has begun, the sides are not of one specification, or an index is damaged.
    """
    readings = read_run(run)
    return [judge(f"C{i}", entry, readings) for i, entry in enumerate(read_claims(), start=1)]


def judge(number: str, entry: dict[str, Any], readings: Readings) -> Claim:
    """One claim of the file, judged by its rule; of the run, files are told from its folder on, and commands whole."""
    finding = RULES[entry["rule"]](readings, **entry.get("of", {}))
    why = complete(finding.why.replace(f"{readings.path}/", ""), readings.path, readings.spec)
    finding = replace(finding, why=why)
    told = {key: entry[key] for key in ("claim", "source", "evidence")}
    return Claim(id=number, **told, **asdict(finding))


def read_claims(path: Path = CLAIMS) -> list[dict[str, Any]]:
    """Read and check the file of claims. Raises `UserError` for a claim without words, rule or evidence."""
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))["claim"]
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): put it back") from None
    except (ValueError, KeyError) as error:
        raise UserError(f"{path}: {error}: mend the TOML") from None
    for i, entry in enumerate(entries, start=1):
        words = {"claim", "source", "rule", "evidence"}
        if not words <= set(entry) <= words | {"of"} or not all(str(entry[word]).strip() for word in words):
            raise UserError(f"{path}: claim {i} must have {', '.join(sorted(words))}, and may have `of`")
        if entry["rule"] not in RULES:
            raise UserError(f"{path}: claim {i}: {entry['rule']} is no rule (audit/claims/claims.py lists them)")
        if entry["evidence"] not in EVIDENCE:
            raise UserError(f"{path}: claim {i}: {entry['evidence']} is no part of the report")
    return entries


def markdown(found: list[Claim]) -> str:
    """The claims as a table."""
    head = ["no.", "claim", "source", "published", "Caffe", "port", "verdict", "why"]
    columns = ("id", "claim", "source", "published", "caffe", "port", "verdict", "why")
    rows = [[getattr(one, column).replace("|", "\\|") for column in columns] for one in found]
    return markdown_table(head, rows, left=len(head))


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m audit.claims.claims", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("run", type=Path, help="a run's folder, with caffe/ and torch/ in it")
    print(markdown(claims(parser.parse_args().run)), end="")
    return 0


if __name__ == "__main__":
    run_command(main)
