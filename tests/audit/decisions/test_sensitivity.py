"""The sensitivity on a devkit of three dozen images: resumed, shared, complete, and the same as runs made by hand."""

import json
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from dask.distributed import LocalCluster

from audit.decisions import cluster, variants
from audit.decisions import sensitivity as command
from audit.decisions.decisions import Alternative, Decision
from audit.decisions.effects import Bootstrap, effect, effect_text
from audit.decisions.sensitivity import FILE, sensitivity, table
from audit.decisions.variants import ENGINE, FOLDER, Variant
from audit.measured import SCHEMA_VERSION, made_from
from compare.end_to_end import LEAST_SEEDS
from experiment.artifacts import RunFolder, read_json
from experiment.pipeline import locked
from experiment.pipeline import main as run_stages
from experiment.resolve import resolve
from experiment.stage_writer import StageWriter
from experiment.stages import ROWS
from paper.cells import CELL_STAGES
from tests.audit.decisions.conftest import FEW_RESAMPLES
from tests.conftest import user_error
from tests.small_run import ONLY, OVERRIDES
from torch_impl.__main__ import MODULES, set_threads, versions
from torch_impl.metrics import ap_11point

SEEDS = 2
SVM = Alternative("D1", "svm", "another C", set=("svm.c=0.5",))
LONG = Alternative("D1", "long", "a longer training", set=("transfer.max_iter=1500", "transfer.n1=5"))
TOO_MANY = Alternative("D2", "too_many", "more clusters than images", set=("clusters.k=25", "transfer.n2=25"))
LISTLESS = Alternative("D2", "listless", "a list that is not there", set=("index.trainval=nowhere",))
ORDER = Alternative("D2", "order", "another order", devkit="shuffled")
TURNED = Alternative("D2", "turned", "upright", devkit="upright")
NEVER = Alternative("D3", "never", "what cannot be", reason="nobody can")
FOREIGN = Alternative("D3", "foreign", "another profile's", set=("svm.c=3.0",), profile="paper")
LATER = Alternative("D3", "later", "not asked for yet", set=("svm.c=4.0",))
pytestmark = pytest.mark.slow  # workers are processes, which import all that the port needs

GROUPS = {"D1": (SVM, LONG), "D2": (TOO_MANY, LISTLESS, ORDER, TURNED), "D3": (NEVER, FOREIGN, LATER)}
ASKED = ["D1", "D2"]


@pytest.fixture(scope="module", autouse=True)
def decisions():
    """A few decisions in place of the shipped ones; a worker is given an alternative and does not look them up."""
    found = [Decision(number, "s", "paper", "t", "w", "i", alternatives) for number, alternatives in GROUPS.items()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "read_decisions", lambda: found)
        yield


def kill_while_it_trains(workers, variant, killed):
    """Kill the worker process that trains a run, as soon as the training has begun."""
    partial = variant.run.path / ".06-transfer.partial" / "snapshots" / "2"
    deadline = time.monotonic() + 120
    while not partial.is_dir() and time.monotonic() < deadline:
        time.sleep(0.001)
    for pid in [nanny.pid for nanny in workers.values()]:
        os.kill(pid, signal.SIGKILL)
        killed.append(pid)


@pytest.fixture(scope="module")
def measured(root):
    """RUN once measured, on a cluster of the user's whose one worker was killed during a training."""
    killed: list[int] = []
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0", memory_limit=None) as own:
        killer = threading.Thread(target=kill_while_it_trains, args=(own.workers, Variant(root, 1, LONG), killed))
        killer.start()
        found, failed = sensitivity(root, SEEDS, ASKED, own.scheduler_address)
        killer.join()
    assert killed
    return found, failed


def by_hand(root, one):
    """An alternative's run of seed 1 from RUN/torch's features, on one thread as a worker has it, undisturbed."""
    path = root.parent / "by-hand" / "torch"
    devkit = RunFolder(root / "torch").spec["external"]["devkit"]["path"]
    overrides = (*OVERRIDES, FEW_RESAMPLES, "run.seed=1", "transfer.snapshots=[1, 2]", *one.set)
    resolve("embedded", path, Path(devkit), overrides=overrides)
    threads = torch.get_num_threads()
    arguments = [str(path), "--reuse", str(root / "torch"), "--threads", "1", "--engine", ENGINE, *ONLY]
    run_stages("torch", MODULES, versions, arguments, before=set_threads)
    torch.set_num_threads(threads)
    return RunFolder(path)


def test_a_killed_workers_run_is_done_again_and_is_what_an_undisturbed_one_is(root, measured):
    disturbed = Variant(root, 1, LONG).run
    assert disturbed.require_manifest("transfer")["attempts"] > 1  # it was killed in the middle, and went on
    alone = by_hand(root, LONG)
    for name in ("fc1_weight", "fc2_bias", "loss"):
        assert np.array_equal(disturbed.array("transfer", name), alone.array("transfer", name))
    assert disturbed.json("metrics", "metrics") == alone.json("metrics", "metrics")


def test_every_alternative_is_there_with_an_effect_or_a_reason(root, measured):
    found, failed = measured
    entries = {(entry["decision"], entry["alternative"]): entry for entry in found["entries"]}
    assert list(entries) == [
        (one.decision, one.name) for them in GROUPS.values() for one in them if one is not LATER
    ]  # in their order; what was not asked for is not there
    reasons = {name: entry["reason"] for (_, name), entry in entries.items() if "reason" in entry}
    assert set(reasons) == {"too_many", "listless", "turned", "never", "foreign"}
    assert "nowhere.txt is missing" in reasons["listless"] and failed == SEEDS
    assert "clusters.k = 25 is more than the 24 trainval images" in reasons["too_many"]
    assert reasons["turned"] == "no photograph has an EXIF orientation" and reasons["never"] == "nobody can"
    assert "paper" in reasons["foreign"]
    assert found["made_from"] == made_from(RunFolder(root / "torch")) and found["schema_version"] == SCHEMA_VERSION
    assert found["seeds"] == [1, 2] and "A stand-in" in " ".join(found["subject"]["remarks"])
    assert [name for (_, name), entry in entries.items() if entry.get("failed")] == ["listless"]
    assert table(found).count("not measured") == len(reasons) - 1 and "D2 listless: failed: " in table(found)


def test_maps_and_differences_are_those_of_the_runs(root, measured):
    found, _ = measured

    def mean(one, row):
        runs = [Variant(root, seed, one).run for seed in (1, 2)]
        return np.mean([100 * run.json("metrics", "metrics")[row]["map_11point"] for run in runs])

    for entry in found["entries"]:
        if "effect" in entry:
            (one,) = [one for one in GROUPS[entry["decision"]] if one.name == entry["alternative"]]
            for row in ROWS:
                assert found["base"][row] == pytest.approx(mean(None, row))
                assert entry["map"][row] == pytest.approx(mean(one, row))
                assert entry["effect"][row]["difference"] == pytest.approx(mean(one, row) - mean(None, row))
                assert entry["effect"][row]["certain"] == (row != "ours")


def test_a_base_differs_from_the_run_in_seed_and_snapshots_an_alternative_in_itself_too(root, measured):
    plain = RunFolder(root / "torch").spec["values"]
    for one in (None, SVM, LONG, ORDER):
        values = Variant(root, 2, one).run.spec["values"]
        differing = {f"{s}.{k}" for s in plain for k in plain[s] if values[s][k] != plain[s][k]}
        changed = {override.partition("=")[0] for override in one.set} if one else set()
        assert differing == {"run.seed", "transfer.snapshots"} | changed and values["run"]["seed"] == 2


def test_only_what_is_downstream_of_the_change_is_run_again(root, measured):
    def manifest(seed, one, stage):
        return (Variant(root, seed, one).run.stage_path(stage) / "manifest.json").stat().st_ino

    first_changed = {SVM: "svm", LONG: "transfer"}
    for one, first in first_changed.items():
        for seed in (1, 2):
            same = [stage for stage in CELL_STAGES if manifest(seed, one, stage) == manifest(seed, None, stage)]
            assert same == list(CELL_STAGES[: CELL_STAGES.index(first)])
    # The features of other images are made by the first seed, for all.
    assert manifest(1, ORDER, "features") == manifest(2, ORDER, "features") != manifest(1, None, "features")
    # RUN/torch's may be of several threads, so that the base makes its own.
    assert manifest(2, None, "features") != (root / "torch" / "03-features" / "manifest.json").stat().st_ino
    assert manifest(2, None, "images") == (root / "torch" / "02-images" / "manifest.json").stat().st_ino
    assert manifest(1, None, "transfer") != manifest(2, None, "transfer")


def test_finished_runs_are_not_run_again_and_unasked_ones_are_gathered(root, measured, monkeypatch, capsys):
    manifests = {path: path.stat().st_mtime_ns for path in (root / FOLDER).glob("**/manifest.json")}
    before = (root / FOLDER / FILE).read_bytes()
    submitted = []
    monkeypatch.setattr(command, "run_all", lambda tasks, *_: submitted.extend(tasks) or {})
    found, _ = sensitivity(root, SEEDS, ["D1"])
    assert submitted == [] and "6 runs, 6 are up to date" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in manifests} == manifests
    entries = {entry["alternative"]: entry for entry in found["entries"]}
    kept = {entry["alternative"]: entry for entry in json.loads(before)["entries"]}
    assert entries["order"] == kept["order"] and "listless" not in entries  # it is neither asked for nor finished
    assert read_json(root / FOLDER / FILE) == found


def test_what_failed_is_tried_again_on_this_machines_own_cluster(root, measured, capsys):
    _, failed = sensitivity(root, SEEDS, ASKED, workers=1)
    told = capsys.readouterr().err
    assert "10 runs, 8 are up to date" in told and failed == SEEDS
    assert len(re.findall(r"cannot be run: .*nowhere\.txt is missing", told)) == SEEDS


def test_a_cluster_that_is_not_there_is_named(monkeypatch, root):
    monkeypatch.setattr(cluster, "SECONDS_TO_CONNECT", 1)
    with user_error("tcp://127.0.0.1:9", "does not answer"):
        cluster.run_all({Variant(root, 1): []}, "tcp://127.0.0.1:9")


def test_a_worker_that_began_with_another_program_is_refused(root, monkeypatch):
    monkeypatch.setattr(cluster, "PROGRAM", "what a worker does not have")
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0", memory_limit=None) as own,
        user_error(own.scheduler_address, "another version of this program"),
    ):
        cluster.run_all({Variant(root, 1): []}, own.scheduler_address)


def test_nothing_is_run_by_a_process_whose_program_has_changed_on_the_disk(root, measured, monkeypatch):
    monkeypatch.setattr(variants, "program_sha256", lambda: "another")
    assert "was changed since this process began" in variants.bring_up_to_date(Variant(root, 1, SVM))


def test_a_run_that_a_lost_worker_still_holds_is_waited_for(root, measured, monkeypatch):
    monkeypatch.setattr(variants, "PATIENCE", 30.0)
    one = Variant(root, 1, SVM)
    held, let_go = threading.Event(), threading.Event()

    def hold():
        with locked(one.run.path):
            held.set()
            let_go.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(30)
    threading.Timer(0.7, let_go.set).start()
    assert variants.bring_up_to_date(one) == "" and let_go.is_set()
    holder.join()
    monkeypatch.setattr(variants, "PATIENCE", 0.0)
    with locked(one.run.path):
        assert "is in use by another run" in variants.bring_up_to_date(one)


def test_a_process_does_one_run_at_a_time(root, measured):
    """Else the second would be made by what the first has replaced."""
    finished = threading.Event()
    with variants.ONE_AT_A_TIME:
        other = threading.Thread(target=lambda: (variants.bring_up_to_date(Variant(root, 1, SVM)), finished.set()))
        other.start()
        assert not finished.wait(1)
    assert finished.wait(60)
    other.join()


def test_workers_of_several_threads_are_refused(root):
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address="127.0.0.1:0", memory_limit=None) as own,
        user_error(own.scheduler_address, "has several threads: start it with --nthreads 1"),
    ):
        cluster.run_all({Variant(root, 1): []}, own.scheduler_address)


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--only", "D4"], "D1 to D3"),
        (["--scheduler", "localhost"], "tcp://host"),
        (["--seeds", "0"], "--seeds"),
    ],
)
def test_a_wrong_command_line_is_refused(monkeypatch, tmp_path, arguments, says):
    monkeypatch.setattr(sys, "argv", ["sensitivity", str(tmp_path), *arguments])
    with user_error(arguments[0], says):
        command.main()


def test_a_run_that_is_not_there_is_refused(tmp_path):
    with user_error(tmp_path):
        sensitivity(tmp_path)


def test_an_effect_is_paired_by_seed_and_image():
    random = np.random.default_rng(1)
    base = random.normal(50, 9, (3, 401))
    shifted = effect(base + 2, base, 7, 0.5, seeded=True)
    assert shifted["difference"] == pytest.approx(2) and shifted["interval_95"] == pytest.approx([2, 2])
    unlike = effect(base[::-1] + 2, base, 7, 0.5, seeded=True)  # the same values, other seeds beside each other
    assert unlike["interval_95"][1] - unlike["interval_95"][0] > 1


def test_an_effects_interval_is_that_of_normal_theory_where_differences_are_normal():
    seeds, count = 40, 4000
    random = np.random.default_rng(2)
    own = random.normal(1, 3, (seeds, 1))  # each seed's own difference, the images alike
    low, high = effect(np.tile(own, count + 1), np.zeros((seeds, count + 1)), 3, 0.5, seeded=True)["interval_95"]
    assert (high - low) / 2 == pytest.approx(1.96 * own.std(ddof=1) / np.sqrt(seeds), rel=0.1)
    assert (high + low) / 2 == pytest.approx(own.mean(), abs=0.1)


@pytest.mark.parametrize("seeds, seeded, certain", [(1, False, True), (4, True, False), (LEAST_SEEDS, True, True)])
def test_with_few_seeds_nothing_is_certain_where_they_have_a_part(seeds, seeded, certain):
    maps = np.arange(seeds * 11.0).reshape(seeds, 11)
    found = effect(maps, maps, 1, 0.5, seeded)
    assert found == {"difference": 0, "interval_95": [0, 0], "certain": certain}
    assert effect_text(found) == "0"


def test_a_photographs_crops_are_drawn_together(tmp_path):
    ids, photographs = ["a", "b", "c"], {"a_1": "a", "a_2": "a", "b_1": "b", "c_1": "c", "c_2": "c", "c_3": "c"}
    random = np.random.default_rng(3)
    scores, labels = (
        random.normal(size=(6, 2)),
        np.array([[1, -1], [-1, 1], [1, -1], [-1, 1], [0, 1], [-1, -1]], np.int8),
    )
    one = Variant(tmp_path, 1, Alternative("D9", "crops", "w", devkit="crops"))
    one.run.path.mkdir(parents=True)
    one.derived.mkdir(parents=True)
    (one.derived / "devkit.json").write_text(json.dumps({"photographs": photographs}))
    for stage, outputs in {
        "index": {"ids_test": list(photographs), "labels_test": labels},
        "svm": {"ours": scores},
    }.items():
        writer = StageWriter(one.run, stage)
        for name, value in outputs.items():
            (writer.array if isinstance(value, np.ndarray) else writer.json)(name, value)
        writer.finish({"stage": stage})
    bootstrap = Bootstrap(ids, {"resamples": 30, "margin": 0.5}, 5)
    found = bootstrap.maps(one, "ours")
    for drawn, weights in zip(found, [np.ones(3, int), *bootstrap._weights], strict=True):
        # The crops of each drawn photograph, as often as it was drawn, written out.
        rows = [i for i, crop in enumerate(photographs) for _ in range(weights[ids.index(photographs[crop])])]
        with_positives = [c for c in range(2) if (labels[rows, c] == 1).any()]
        aps = [ap_11point(*(torch.from_numpy(x[rows, c].copy()) for x in (scores, labels))) for c in with_positives]
        assert np.isnan(drawn) if not aps else drawn == pytest.approx(100 * np.mean(aps))
