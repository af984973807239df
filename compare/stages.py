"""The checks of each stage. Every function yields checks of run `b` against run `a`, in forward order."""

from collections.abc import Callable, Iterator

from compare.backbone import features, resnet101
from compare.check import Check
from compare.clusters import clusters, pseudo_labels
from compare.images import images, index
from compare.pair import Pair
from compare.svm import metrics, svm
from compare.transfer import transfer, transfer_features
from experiment.artifacts import RunFolder
from experiment.errors import UserError
from experiment.stages import STAGES

# Outputs that no check reads but that must be there and whole.
UNREAD = {"resnet101": ["weights"]}

STAGE_CHECKS: dict[str, Callable[[Pair], Iterator[Check]]] = {
    "index": index,
    "images": images,
    "features": features,
    "clusters": clusters,
    "pseudo_labels": pseudo_labels,
    "transfer": transfer,
    "transfer_features": transfer_features,
    "svm": svm,
    "metrics": metrics,
    "resnet101": resnet101,
}
assert list(STAGE_CHECKS) == list(STAGES)


# What reading outputs of another form than a stage's raises.
MALFORMED = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)


def compare_stage(stage: str, pair: Pair) -> list[Check]:
    """All checks of a stage. A missing, damaged or senseless artifact is a check that fails, never one left out."""
    checks: list[Check] = []
    try:
        checks.extend(STAGE_CHECKS[stage](pair))
        for name in UNREAD.get(stage, ()):
            require_whole(pair.a, stage, name)
            require_whole(pair.b, stage, name)
    except UserError as error:
        checks.append(pair.judge.failure(stage, "artifact", str(error)))
    except MALFORMED as error:  # outputs that lack a class, a row, a file's columns
        told = f"not a {stage} stage's outputs ({type(error).__name__}: {error})".replace("\n", " ")
        checks.append(pair.judge.failure(stage, "artifact", told))
    return checks


def require_whole(run: RunFolder, stage: str, name: str) -> None:
    """Raise `UserError` where an output is missing or is not what the manifest records."""
    kind = run.require_manifest(stage)["outputs"].get(name, {}).get("kind")
    (run.array if kind == "array" else run.file)(stage, name)
