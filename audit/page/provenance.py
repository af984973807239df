"""What was run, as a part of the report: commands, times, memory, versions, machines and hashes, from the manifests."""

from audit.claims.commands import report_command
from audit.page.subject import SIDES, Subject
from audit.page.tables import Part, Table, decimal, whole, words
from compare.comparable import surroundings
from experiment.stages import STAGES
from paper.table1 import OUT

MIB = 1 << 20


def run_part(subject: Subject) -> Part:
    """All of it, with the lines that do it again."""
    seconds = {side: sum(times(subject, side).values()) for side in SIDES}
    told = ", ".join(f"{name} {seconds[side]:,.0f} s" for side, name in SIDES.items())
    notes = [
        f"Seconds of all stages together: {told}. The paths are those of this run, from the project's folder on where "
        "they are in it; the hashes tell whether another file is the same."
    ]
    tables = [stage_table(subject), surroundings_table(subject), hash_table(subject)]
    return Part(subject.anchor("run"), "What was run", notes, [[table] for table in tables], commands=commands(subject))


def commands(subject: Subject) -> list[str]:
    """What repeats the run, in order; what the page already shows of the optional parts too."""
    found = subject.comparison["end_to_end"]
    seeds = len({entry["path"] for entry in subject.comparison["runs"]["seeds_a"]})
    repeated = bool(found) and seeds > 1
    lines = [subject.command(*["seeds"] * repeated, "compare", *[f"SEEDS={seeds}"] * repeated)]
    for target, path in (
        ("grid", f"{OUT}/table2.json"),
        ("figures", f"{OUT}/figures.json"),
        ("controls", "controls/controls.json"),
        ("sensitivity", "sensitivity/sensitivity.json"),
    ):
        if (subject.path / path).is_file():
            lines.append(subject.command(target))
    return [*lines, report_command(subject.path)]


def times(subject: Subject, side: str) -> dict[str, float]:
    """Seconds of each finished stage."""
    manifests = {stage: subject.sides[side].manifest(stage) for stage in STAGES}
    return {stage: float(manifest.get("seconds", 0)) for stage, manifest in manifests.items() if manifest}


def stage_table(subject: Subject) -> Table:
    """A row a stage and side."""
    rows = []
    for stage in STAGES:
        for side, name in SIDES.items():
            manifest = subject.sides[side].manifest(stage)
            if manifest is None:
                continue
            memory = manifest.get("peak_memory")
            measures = [decimal(manifest.get("seconds"), 1), decimal(None if memory is None else memory / MIB, 0)]
            counts = [whole(manifest.get("threads")), whole(manifest.get("attempts"))]
            rows.append([words(stage), words(name), *measures, *counts, words(manifest["key"])])
    head = ["stage", "side", "seconds", "peak memory, MiB", "threads", "attempts", "key"]
    return Table(subject.anchor("stage-times"), "Stages: time, memory, threads", head, rows)


def surroundings_table(subject: Subject) -> Table:
    """Versions, machine and threads of both sides."""
    one, two = (surroundings(run) for run in subject.sides.values())
    names = [name for name in sorted(one.keys() | two.keys()) if name != "side"]
    rows = [[words(name), words(one.get(name, "")), words(two.get(name, ""))] for name in names]
    return Table(subject.anchor("versions"), "Versions and hardware", ["", *SIDES.values()], rows)


def hash_table(subject: Subject) -> Table:
    """sha256 of what went in, and of what it was judged by."""
    spec, comparison = subject.spec, subject.comparison
    found = {"specification": spec["sha256"], "tolerances": comparison["tolerances_sha256"]}
    for name, entry in spec["external"].items():
        found |= {name: entry["sha256"]} if "sha256" in entry else {}
        found |= {f"{name}, {part}": digest for part, digest in entry.get("content", {}).items()}
    found |= {f"prototxt, {name}": digest for name, digest in spec["prototxt"].items()}
    rows = [[words(name), words(digest)] for name, digest in found.items()]
    return Table(subject.anchor("hashes"), "Hashes (sha256)", ["of", "sha256"], rows)
