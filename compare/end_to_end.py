"""The whole pipeline's answer: mAP of the three rows over seeds and test images, and what may be said of it.

Each seed gives a run a side, which draws its own k-means start and initial weights. Without such runs the chained
pair stands for one seed, and the spread over seeds is not known.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import adjusted_rand_score

from compare.bootstrap import equivalence, paired_differences, resampled_map, resamples
from compare.check import Check, Judge
from compare.clusters import inertia_change, matching, renumbered
from compare.comparable import require_comparable, require_fed_by, require_same_program
from compare.pair import FinishedRun, own_draws
from compare.transfer import drawn_weights
from experiment.artifacts import RunFolder
from experiment.errors import UserError
from experiment.stages import ROWS, STAGES

SEED_STAGES = tuple(stage for stage in STAGES if stage != "resnet101")  # of a seed's runs: the probe is not seeded anew
PERCENT = 100.0
# A difference must exceed the margin by so many standard errors to fail, and these must be of so many seeds a side. Of
# 5 + 5 seeds the error has 8 degrees of freedom, or more: Student's t exceeds 4 by chance in 0.2 % of comparisons
# (scipy.stats.t.sf(4, 8)); of 2 + 2 in 3 %.
STANDARD_ERRORS = 4
LEAST_SEEDS = 5


def seed_pairs(seeds: Sequence[Path], a: RunFolder, b: RunFolder) -> list[tuple[RunFolder, RunFolder]]:
    """The runs of every seed: <seed>/<name of run a's folder> and <seed>/<name of run b's>, in the order given.

    Which seeds are taken is for the caller to say beforehand: adding some after a look at the verdict would be optional
    stopping. Raises `UserError` where a run is missing, is unfinished, was fed by another, was made by another program
    than a or b, or differs from run a in more than the seed.
    """
    for path in seeds:
        if not path.name.isdecimal() or str(int(path.name)) != path.name:
            raise UserError(f"--seeds {path} is not named by its seed: name a folder such as runs/embedded/seeds/1")
    if len({path.resolve() for path in seeds}) < len(seeds) or len({path.name for path in seeds}) < len(seeds):
        raise UserError(f"--seeds names a seed twice among {', '.join(path.name for path in seeds)}: name each once")
    if a.path.name == b.path.name:
        raise UserError(f"--seeds tells a seed's runs by the folders' names, and both runs are called {a.path.name}")
    pairs: list[tuple[RunFolder, RunFolder]] = []
    for path in seeds:
        pair = FinishedRun(path / a.path.name), FinishedRun(path / b.path.name)
        try:
            for run, like in zip(pair, (a, b), strict=True):
                require_comparable(a, run, SEED_STAGES, but=("spec.run.seed",))
                require_fed_by(run, run, SEED_STAGES, option="a seed's run")
                require_same_program(run, like, SEED_STAGES)
                require_own_draws(run, int(path.name))
            require_comparable(*pair, SEED_STAGES)
        except UserError as error:
            told = f"`make seeds` makes 1 to SEEDS=; or delete {path}"
            raise UserError(f"the seeds' runs: {error} ({told})") from None
        pairs.append(pair)
    return pairs


def require_own_draws(run: RunFolder, seed: int) -> None:
    """Stop where a run has another seed, or took over another's draws: it would be no seed of its own."""
    draws = [run.require_manifest(stage)["key_parts"]["draws"] for stage in ("clusters", "transfer")]
    if run.spec["values"]["run"]["seed"] != seed or any(set(drawn.values()) != {None} for drawn in draws):
        raise UserError(f"{run.path} did not draw by itself from seed {seed}")


def end_to_end(a: RunFolder, pairs: Sequence[tuple[RunFolder, RunFolder]]) -> dict[str, Any]:
    """mAP by row, side and seed, the differences of the sides, and Ours minus Baseline-LR on each: for compare.json.

    Everything in percent. Every interval is over test images drawn with replacement, the same for both sides and all
    seeds; "overall" draws the seeds too, where there are several.
    """
    settings = a.spec["values"]["compare"]
    labels = a.array("index", "labels_test")
    weights = resamples(len(labels), settings["resamples"], a.spec["values"]["run"]["seed"])
    seed, margin = a.spec["values"]["run"]["seed"], settings["margin"]
    plain = np.ones((1, len(labels)), np.uint8)
    observed: dict[str, dict[str, np.ndarray]] = {}  # side, row: (seeds,)
    drawn: dict[str, dict[str, np.ndarray]] = {}  # side, row: (seeds, resamples)
    for side, runs in zip("ab", zip(*pairs, strict=True), strict=True):
        scores = {row: [decision_values(run, row, labels.shape) for run in runs] for row in ROWS}
        observed[side], drawn[side] = (
            {row: PERCENT * np.stack([resampled_map(s, labels, how) for s in scores[row]]) for row in ROWS}
            for how in (plain, weights)
        )

    # Between rows that no seed touches, or sides that share their draws, a single pair of runs tells all there is.
    alike = not any(own_draws(*pair, stage) for pair in pairs for stage in ("clusters", "transfer"))

    def judged(one: tuple[str, str], other: tuple[str, str]) -> dict[str, Any]:
        """The difference of two (side, row)."""
        difference = float(observed[one[0]][one[1]].mean() - observed[other[0]][other[1]].mean())
        resampled = [paired_differences(drawn[one[0]][one[1]], drawn[other[0]][other[1]], s) for s in (None, seed)]
        seeded = "ours" in (one[1], other[1]) and not (alike and one[1] == other[1])
        certain = not seeded or len(pairs) >= LEAST_SEEDS
        images, overall = (equivalence(difference, differences, margin, certain) for differences in resampled)
        return {"difference": difference, "images": images.as_json(), "overall": overall.as_json(), "certain": certain}

    return {
        "seeds": len(pairs),
        "resamples": settings["resamples"],
        "margin": margin,
        "map": {side: {row: over_seeds(m[:, 0]) for row, m in rows.items()} for side, rows in observed.items()},
        "a_minus_b": {row: judged(("a", row), ("b", row)) for row in ROWS},
        "ours_minus_baseline_lr": {side: judged((side, "ours"), (side, "baseline_lr")) for side in "ab"},
    }


def decision_values(run: RunFolder, row: str, shape: tuple[int, ...]) -> np.ndarray:
    """A run's decision values on test. Raises `UserError` where they are not of that shape, or not finite."""
    scores = np.asarray(run.array("svm", row))
    if scores.shape != shape or not np.isfinite(scores).all():
        raise UserError(f"{run.path}: the decision values {row} do not fit the test labels, or are not finite")
    return scores


def over_seeds(values: np.ndarray) -> dict[str, Any]:
    """The values, their mean, and their standard deviation (n - 1), None for a single one."""
    spread = float(values.std(ddof=1)) if len(values) > 1 else None
    return {"seeds": values.tolist(), "mean": float(values.mean()), "spread": spread}


def checks(
    summary: dict[str, Any], pairs: Sequence[tuple[RunFolder, RunFolder]], judge: Judge, seeded: bool
) -> Iterator[Check]:
    """Whether the sides' mAP differ beyond the margin; and, where the pairs are `seeded`, the draws and clusterings."""
    for row, found in summary["a_minus_b"].items():
        verdict = found["overall"]
        low, high = verdict["interval_95"]
        detail = (
            f"{found['difference']:+.2f}, 95 % [{low:+.2f}, {high:+.2f}], {verdict['verdict']} at {summary['margin']:g}"
        )
        least = max(0.0, abs(found["difference"]) - STANDARD_ERRORS * verdict["standard_error"])
        allowed = summary["margin"] if found["certain"] else None
        yield judge.check("end_to_end", "least_map_difference", row, least, detail, allowed=allowed, **found)
    for row in ROWS:
        yield farthest_seed(summary, row, judge)
    for side, runs in zip("ab", zip(*pairs, strict=True), strict=True):
        for row in ROWS:
            told = [PERCENT * run.json("metrics", "metrics")[row]["map_11point"] for run in runs]
            apart = float(np.abs(np.array(summary["map"][side][row]["seeds"]) - told).max())
            yield judge.check("end_to_end", "third_route", f"{row} of {side}", apart, "mAP, the worst of the seeds")
    if not seeded:
        return
    inertias, rands = [], []
    for number, (one, two) in enumerate(pairs, start=1):
        inertias.append([run.json("clusters", "summary")["inertia"] for run in (one, two)])
        labels = renumbered(two.array("clusters", "assignments"), matching(one, two))
        rands.append(float(adjusted_rand_score(one.array("clusters", "assignments"), labels)))
        variance_norm = one.spec["values"]["transfer"]["variance_norm"]
        for side, run in (("a", one), ("b", two)):
            yield from drawn_weights(judge, "end_to_end", run, f"seed {number} of {side}", variance_norm)
    means = np.mean(inertias, axis=0).tolist()
    detail = f"mean inertia {means[0]:.6g} and {means[1]:.6g}"
    change = inertia_change(pairs[0][0], *means)
    yield judge.check("end_to_end", "inertia", "clusters", change, detail, seeds=inertias)
    detail = f"least of {len(rands)} seeds; each side from its own start"
    yield judge.check("end_to_end", "adjusted_rand", "clusters", min(rands), detail, seeds=rands)


def farthest_seed(summary: dict[str, Any], row: str, judge: Judge) -> Check:
    """The greatest distance of a seed's mAP from the other side's mean: a fault in some seeds may hide in a mean."""
    distances = []
    for one, other in (("a", "b"), ("b", "a")):
        mean = summary["map"][other][row]["mean"]
        distances += [(abs(value - mean), one, n) for n, value in enumerate(summary["map"][one][row]["seeds"], start=1)]
    worst, side, number = max(distances)
    return judge.check("end_to_end", "farthest_seed", row, worst, f"number {number} of side {side}")


def claim(side: dict[str, Any]) -> str:
    """What may be said of Ours minus Baseline-LR: "gain" or "loss" where the 95 % interval leaves out 0."""
    low, high = side["overall"]["interval_95"]
    return "undecided" if not side["certain"] else "gain" if low > 0 else "loss" if high < 0 else "undecided"
