"""The four verdicts on a claim, and the rule that gives one of a run's figures."""

from dataclasses import dataclass

from audit.claims.readings import Readings
from paper.text import NONE

REPRODUCED, NOT_REPRODUCED = "reproduced", "not reproduced"
NOT_TESTABLE, INCONSISTENT = "not testable here", "inconsistent in the paper"
VERDICTS = (REPRODUCED, NOT_REPRODUCED, NOT_TESTABLE, INCONSISTENT)


@dataclass(frozen=True)
class Finding:
    """What a rule found of a claim: the published figure and both sides' in words, the verdict, and why."""

    published: str
    verdict: str
    why: str
    caffe: str = NONE
    port: str = NONE


def by_run(readings: Readings, holds: bool | None, told: str, part: str) -> tuple[str, str]:
    """Verdict and why of a claim on what comes out of a run.

    holds : whether the figures bear the claim out; None where some are missing, or leave it undecided. told : the
    figures in a sentence, empty where there are none. part : the part of `readings.lacking` that the claim needs.

    The paper's claims are tested by a run of the paper's data, weights and specification alone: of any other run the
    figures are told, but not held against the paper.
    """
    missing = f"{readings.lacking[part]}." if part in readings.lacking else ""
    if readings.caveat or holds is None:
        return NOT_TESTABLE, " ".join(filter(None, (readings.caveat, told, missing)))
    return REPRODUCED if holds else NOT_REPRODUCED, told


def by_paper(holds: bool) -> str:
    """Verdict of a claim that the paper's own statements, or published facts about its data, decide in any run."""
    return REPRODUCED if holds else INCONSISTENT
