"""The grid on a devkit of three dozen images: resumed, shared, complete, and the same as runs made by hand."""

import csv
import json
import shutil
from collections import Counter

import numpy as np
import pytest

from experiment.artifacts import RunFolder
from experiment.errors import UserError
from experiment.pipeline import main as run_stages
from experiment.resolve import resolve
from paper import grid as command
from paper.cells import BLOBS, CELL_STAGES, carried, cell
from paper.grid_page import Entry, Grid, choices, csv_of, markdown, write
from paper.published import read_published
from paper.standing import Standing
from tests.conftest import user_error
from tests.small_devkit import TRAINVAL
from tests.small_run import ONLY, OVERRIDES
from torch_impl import svm
from torch_impl.__main__ import MODULES, versions

N1S, N2S, TOO_MANY = [3, 5], [2, 3], TRAINVAL + 1
CELLS = [(n1, n2) for n1 in N1S for n2 in N2S]


def run_of(base, n1, n2, blob="fc2"):
    return cell(base, n1, n2).run(blob)


def manifests(base):
    """Every stage's manifest of every combination that is there, with the time of its writing."""
    return {path: path.stat().st_mtime_ns for path in base.glob("grid/**/manifest.json")}


@pytest.fixture(scope="module")
def classified():
    """The rows that classifiers were trained for, while the grid was made."""
    return []


@pytest.fixture(scope="module")
def gridded(finished, classified, tmp_path_factory):
    """RUN with its grid, made in two goes: stopped before the third combination, then run again."""
    base = tmp_path_factory.mktemp("grid") / "small"
    shutil.copytree(finished, base)
    with pytest.MonkeyPatch.context() as patch:
        trained, original, classify = [], command.bring_up_to_date, svm.classify

        def stopped(one, *rest):
            if len(trained) == 2:
                raise KeyboardInterrupt
            original(one, *rest)
            trained.append((one.n1, one.n2))

        def counted(*rest):
            *_, name, _ = rest
            classified.append(name)
            return classify(*rest)

        patch.setattr(svm, "classify", counted)
        patch.setattr(command, "bring_up_to_date", stopped)
        with pytest.raises(KeyboardInterrupt):
            command.grid(base, N1S, [*N2S, TOO_MANY])
        before = manifests(base)
        assert trained == CELLS[:2] and len(before) == 2 * 2 * len(CELL_STAGES)
        patch.setattr(command, "bring_up_to_date", original)
        found = command.grid(base, N1S, [*N2S, TOO_MANY])
    after = manifests(base)
    assert {path: after[path] for path in before} == before  # what was finished is not made again
    return base, found


def test_every_combination_is_there_and_what_cannot_be_says_why(gridded):
    _, found = gridded
    assert set(found.entries) == {(blob, n1, n2) for blob in BLOBS for n1 in N1S for n2 in [*N2S, TOO_MANY]}
    for (_, _, n2), entry in found.entries.items():
        assert (entry.map is None) == (n2 == TOO_MANY) == bool(entry.reason)
        assert entry.left_out == ([] if entry.reason else ["rare"])
    page = markdown(found, "small")
    assert f"-: k-means cannot make 25 clusters of {TRAINVAL} trainval images (N1 x N2: 3 x 25, 5 x 25)." in page
    assert "leaves out 1 of 3 classes" in page and "A stand-in" in page and found.failed == 0


def test_a_combination_differs_from_the_run_in_n1_n2_k_blob_and_snapshots_alone(gridded):
    base, _ = gridded
    plain = RunFolder(base / "torch").spec["values"]
    for n1, n2 in CELLS:
        for blob in BLOBS:
            values = run_of(base, n1, n2, blob).spec["values"]
            differing = {f"{s}.{k}" for s in plain for k in plain[s] if values[s][k] != plain[s][k]}
            assert differing <= {
                "transfer.n1", "transfer.n2", "clusters.k", "transfer.snapshots", "transfer_features.blob"
            }  # fmt: skip
            assert (values["transfer"]["n1"], values["transfer"]["n2"], values["clusters"]["k"]) == (n1, n2, n2)
            assert values["transfer_features"]["blob"] == blob and values["svm"]["c"] == 2.5


def test_what_combinations_share_is_computed_once(gridded, classified):
    base, _ = gridded

    def file(n1, n2, stage, name, blob="fc2"):
        return run_of(base, n1, n2, blob).output_path(stage, name).stat().st_ino

    for stage, name in (("features", "lr_trainval"), ("images", "hr_test")):
        assert len({file(n1, n2, stage, name, blob) for n1, n2 in CELLS for blob in BLOBS}) == 1
    for n2 in N2S:
        for stage, name in (("clusters", "centroids"), ("pseudo_labels", "labels")):
            assert len({file(n1, n2, stage, name, blob) for n1 in N1S for blob in BLOBS}) == 1
    assert file(3, 2, "transfer", "fc1_weight") == file(3, 2, "transfer", "fc1_weight", "fc1")
    once_a_go = {"baseline_hr": 2, "baseline_lr": 2}
    assert Counter(classified) == {**once_a_go, "ours": len(BLOBS) * len(CELLS)}
    shapes = [run_of(base, 5, 2, blob).array("transfer_features", "test").shape[1] for blob in BLOBS]
    assert shapes == [2, 5]


@pytest.mark.parametrize("blob", BLOBS)
def test_a_combination_is_what_the_port_makes_by_itself(gridded, devkit, tmp_path, blob):
    base, found = gridded
    settings = ("clusters.k=3", "transfer.n1=5", "transfer.n2=3", f"transfer_features.blob={blob}")
    resolve("embedded", tmp_path / "torch", devkit, overrides=(*OVERRIDES, *settings))
    run_stages("torch", MODULES, versions, [str(tmp_path / "torch"), "--reuse", str(base / "torch"), *ONLY])
    by_hand = RunFolder(tmp_path / "torch")
    metrics = by_hand.json("metrics", "metrics")
    assert found.entries[blob, 5, 3].map == pytest.approx(100 * metrics["ours"]["map_11point"], abs=1e-12)
    assert found.baselines["baseline_lr"] == pytest.approx(100 * metrics["baseline_lr"]["map_11point"], abs=1e-12)
    weights = run_of(base, 5, 3, blob).array("transfer", "fc1_weight")
    assert np.array_equal(weights, by_hand.array("transfer", "fc1_weight"))


def test_once_up_to_date_nothing_is_run_and_the_tables_stay(gridded, monkeypatch, tmp_path, capsys):
    base, found = gridded
    write(found, tmp_path / "first", "small")
    monkeypatch.setattr(command, "bring_up_to_date", lambda *_: pytest.fail("a finished combination was run again"))
    before = manifests(base)
    write(command.grid(base, N1S, [*N2S, TOO_MANY]), tmp_path / "second", "small")
    assert manifests(base) == before
    for name in ("table2.md", "table2.csv", "table2.json"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    assert capsys.readouterr().err == "grid: 4 combinations, 4 are up to date\n"


def test_the_choices_are_the_greatest_by_brute_force(gridded):
    _, found = gridded
    for blob in BLOBS:
        own = {(n1, n2): found.entries[blob, n1, n2] for n1, n2 in CELLS}
        for by, score in (("test", lambda e: e.map), ("split", lambda e: e.split)):
            chosen = choices(found, blob)[by]
            equals = [key for key, entry in own.items() if score(entry) == max(map(score, own.values()))]
            assert chosen == min(equals)


def test_a_damaged_artifact_of_a_combination_stops_the_table(gridded, tmp_path):
    base = tmp_path / "small"
    shutil.copytree(gridded[0], base)
    path = run_of(base, 3, 2).output_path("svm", "ours")
    np.save(path, np.zeros_like(np.load(path)))
    with user_error(path, "delete"):
        command.grid(base, [3], [2])


def test_one_that_cannot_be_trained_stops_no_other(gridded, tmp_path, monkeypatch, capsys):
    base = tmp_path / "small"
    shutil.copytree(gridded[0], base)
    for n1 in (3, 5):
        shutil.rmtree(run_of(base, n1, 2).stage_path("transfer"))
    original = command.bring_up_to_date

    def refused(one, *rest):
        if one.n1 == 3:
            raise UserError(f"{base}/grid: the loss is nan")
        original(one, *rest)

    monkeypatch.setattr(command, "bring_up_to_date", refused)
    monkeypatch.setattr("sys.argv", ["grid", str(base), "--n1", "3", "5", "--n2", "2"])
    assert command.main() == 1
    out = capsys.readouterr().out
    assert "-: small/grid: the loss is nan (N1 x N2: 3 x 2)." in out and str(base) not in out
    lines = list(csv.DictReader((base / "paper/table2.csv").open()))
    assert [(line["n1"], bool(line["map_11point"])) for line in lines] == [("3", False), ("5", True)] * 2


def test_a_run_of_another_version_or_none_is_refused(gridded, tmp_path):
    spec = RunFolder(gridded[0] / "torch").spec
    profile, overrides = carried(spec)
    assert profile == "embedded" and set(overrides) >= {"images.hr_size=32", "svm.c=2.5", "run.seed=5"}
    assert carried({**spec, "profile": "embedded, LIMIT=9"})[0] == "embedded"
    del spec["values"]["svm"]["c"]
    with pytest.raises(UserError, match="torch-reproduce"):
        carried(spec)
    with user_error(tmp_path / "torch", "there is no run"):
        command.grid(tmp_path, N1S, N2S)
    with pytest.raises(UserError, match="--n1"):
        command.grid(gridded[0], [0], N2S)


def test_the_time_left_follows_the_number_of_weights():
    assert command.time_left([10, 30], [2 + 3 * 10, 2 + 3 * 30], [20, 100]) == pytest.approx(2 + 60 + 2 + 300)
    assert command.time_left([10], [5.0], []) == 0


def test_on_voc_the_difference_from_the_paper_stands_below():
    """Entries made up: the paper's own numbers and half a percent, the greatest where N1 is 512 and N2 100."""
    published = read_published()
    entries = {
        (blob, n1, n2): Entry(map=published.grid[n1, n2] + 0.5, area=1.0, split=-float(n1 * n2), flat=20 * (n1 == 256))
        for blob in BLOBS
        for n1 in (256, 512)
        for n2 in (20, 100)
    }
    stands = Standing([], [], [], True, [])
    baselines = {"baseline_hr": 90.0, "baseline_lr": 75.0}
    found = Grid([256, 512], [20, 100], entries, baselines, 20, 1, stands, 0)
    page = markdown(found, "voc")
    assert "| 20  |   70.90* |    74.60 |      70.4 |      74.1 |" in page
    assert "Difference from the paper" in page and "| 100 |    +0.50 |    +0.50 |" in page
    assert choices(found, "fc2") == {"test": (512, 100), "split": (256, 20)}
    chosen = [line for line in page.splitlines() if "the split of trainval" in line and line.startswith("| fc2")]
    assert [cell.strip() for cell in chosen[0].split("|")[3:-1]] == ["256", "20", "-5120.00", "70.90", "-4.10"]
    lines = csv_of(found, published).splitlines()
    assert lines[1].startswith("fc2,256,20,70.9,1.0,70.4,0.5,") and len(lines) == 9


def test_the_json_holds_every_entry(gridded, tmp_path):
    write(gridded[1], tmp_path, "small")
    found = json.loads((tmp_path / "table2.json").read_text())
    assert len(found["entries"]) == 12 and set(found["choices"]) == set(BLOBS)
