"""The controls on a run of three dozen images: what they are, how they are resumed, that nothing stale is taken."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from audit.controls import controls
from audit.controls import runs as control_runs
from audit.controls.controls import FILE, FOLDER
from audit.controls.features import permuted, uniform_labels, unit_rows
from audit.controls.rows import CONTROLS, Sources
from audit.controls.svms import decisions_on
from audit.controls.text import table
from audit.decisions.effects import effect
from audit.measured import SCHEMA_VERSION, foreign, made_from
from compare.bootstrap import resampled_map, resamples
from experiment.artifacts import RunFolder, read_json
from experiment.pipeline import main as run_stages
from experiment.resolve import resolve
from tests.conftest import user_error
from tests.small_devkit import TEST, small_devkit
from tests.small_run import ONLY, OVERRIDES, small_run
from torch_impl.__main__ import MODULES, versions
from torch_impl.caffe_net import CaffeNet
from torch_impl.metrics import ap_11point

RESAMPLES, SEEDS = 40, 2
FEW_RESAMPLES = f"compare.resamples={RESAMPLES}"


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """RUN with a finished RUN/torch and Ours of seed 1 in RUN/seeds."""
    folder = tmp_path_factory.mktemp("controls")
    devkit, root = small_devkit(folder), folder / "small"
    small_run(root / "torch", devkit, FEW_RESAMPLES)
    small_run(root / "seeds" / "1" / "torch", devkit, FEW_RESAMPLES, "run.seed=1", reuse=root / "torch")
    return root


@pytest.fixture(scope="module")
def root(begun):
    """The same with its controls."""
    controls.controls(begun, SEEDS)
    return begun


@pytest.fixture
def copy(root, tmp_path):
    """A copy to be changed."""
    shutil.copytree(root, tmp_path / "small", symlinks=True)
    return tmp_path / "small"


@pytest.fixture
def worked(monkeypatch):
    """How often an SVM's rows, and a training, were computed."""
    counts = {"svm": 0, "transfer": 0}

    def counting(name, function):
        def counted(*arguments, **options):
            counts[name] += 1
            return function(*arguments, **options)

        return counted

    monkeypatch.setattr(controls.control_svm, "decisions_on", counting("svm", decisions_on))
    monkeypatch.setattr(MODULES["transfer"], "run", counting("transfer", MODULES["transfer"].run))
    return counts


def decisions(root, control, seed=1):
    with np.load(root / FOLDER / control / f"{seed}.npz") as kept:
        return kept["decisions"]


def run_of(root, control, seed):
    return RunFolder(root / FOLDER / control / str(seed) / "torch")


def by_hand(root, train, test, **others):
    base = RunFolder(root / "torch")
    settings = {**base.spec["values"]["svm"], **others}
    return decisions_on(train, test, base.array("index", "labels_trainval"), "ab", settings)[0]


def test_what_is_measured_as_ours_is_what_the_stage_svm_measures(root):
    for seed, run in ((1, RunFolder(root / "seeds" / "1" / "torch")), (2, run_of(root, "ours", 2))):
        found = by_hand(root, *(np.array(run.array("transfer_features", split)) for split in ("trainval", "test")))
        assert np.array_equal(found, run.array("svm", "ours")), seed
    base = RunFolder(root / "torch")
    lr = [np.array(base.array("features", f"lr_{split}")) for split in ("trainval", "test")]
    assert np.array_equal(by_hand(root, *lr), base.array("svm", "baseline_lr"))
    hr = np.array(base.array("features", "hr_trainval"))
    assert np.array_equal(decisions(root, "hr_to_lr"), by_hand(root, hr, lr[1]))
    assert not np.array_equal(decisions(root, "hr_to_lr"), base.array("svm", "baseline_hr"))
    assert np.allclose(decisions(root, "lr_l2"), by_hand(root, *map(unit_rows, lr), scale="none"), atol=1e-5)


def test_ours_of_make_seeds_is_taken_and_another_seed_is_run_from_its_own_draws(root):
    assert not run_of(root, "ours", 1).path.exists()
    values, base = run_of(root, "ours", 2).spec["values"], RunFolder(root / "torch").spec["values"]
    assert values == {**base, "run": {"seed": 2}, "transfer": {**base["transfer"], "snapshots": [1, 2]}}
    weights = [
        np.array(run.array("transfer", "fc1_weight_initial"))
        for run in (RunFolder(root / "torch"), RunFolder(root / "seeds" / "1" / "torch"), run_of(root, "ours", 2))
    ]
    assert len({w.tobytes() for w in weights}) == 3


def test_what_is_trained_is_trained_by_the_engine_of_the_run(tmp_path):
    path = tmp_path / "small" / "torch"
    resolve("embedded", path, small_devkit(tmp_path), overrides=OVERRIDES)
    run_stages("torch", MODULES, versions, [str(path), "--engine", "folded-bfloat16", *ONLY])
    true = control_runs.ours(path.parent, 2, 0)
    for run in (true, control_runs.mislabelled(path.parent, true, "permuted_labels", 2, 0)):
        assert run.require_manifest("transfer")["versions"]["engine"] == "folded-bfloat16"


def test_initial_weights_are_the_stages_own_and_give_its_networks_features(root):
    run = RunFolder(root / "seeds" / "1" / "torch")
    fc1, fc2 = (
        [np.array(run.array("transfer", f"{layer}_{blob}_initial"), np.float64) for blob in ("weight", "bias")]
        for layer in ("fc1", "fc2")
    )
    base = RunFolder(root / "torch")
    train, test = (
        np.maximum(np.array(base.array("features", f"lr_{split}"), np.float64) @ fc1[0].T + fc1[1], 0) @ fc2[0].T
        + fc2[1]
        for split in ("trainval", "test")
    )
    found = next(one for one in CONTROLS if one.name == "initial_weights").rows(Sources(root, 0), 1).load()
    assert np.allclose(found[0], train, rtol=1e-4, atol=1e-4) and np.allclose(found[1], test, rtol=1e-4, atol=1e-4)
    assert not np.allclose(found[0], run.array("transfer_features", "trainval"), rtol=1e-2)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_other_labels_train_the_network_of_the_same_start(root, seed):
    ours = RunFolder(root / "seeds/1/torch") if seed == 1 else run_of(root, "ours", seed)
    labels = np.array(ours.array("pseudo_labels", "labels"))
    expected = {"permuted_labels": permuted(labels, seed), "random_labels": uniform_labels(len(labels), 4, seed)}
    for control, others in expected.items():
        run = run_of(root, control, seed)
        assert np.array_equal(run.array("pseudo_labels", "labels"), others) and not np.array_equal(labels, others)
        for name in ("fc1_weight_initial", "fc2_weight_initial"):
            assert np.array_equal(run.array("transfer", name), ours.array("transfer", name))
        assert not np.array_equal(run.array("transfer", "fc2_weight"), ours.array("transfer", "fc2_weight"))
        # The loss of the first iteration is the softmax loss of the start on those labels.
        net = CaffeNet(run.prototxt("transfer_deploy.prototxt"))
        net.set_parameters(
            {f: [ours.array("transfer", f"{f}_{b}_initial") for b in ("weight", "bias")] for f in ("fc1", "fc2")}
        )
        rows = torch.from_numpy(np.array(ours.array("features", "lr_trainval"))[:10])
        scores = net.forward({"data": rows}, ["fc2"])["fc2"].detach().double()
        loss = torch.nn.functional.cross_entropy(scores, torch.from_numpy(others[:10]).long()).item()
        assert run.array("transfer", "loss")[0] == pytest.approx(loss, rel=1e-4)


def test_the_figures_are_those_of_the_kept_decision_values(root):
    found = read_json(root / FOLDER / FILE)
    base = RunFolder(root / "torch")
    labels = np.array(base.array("index", "labels_test"))

    def plain(scores):
        pairs = zip(scores.T, labels.T, strict=True)
        return 100 * np.mean([ap_11point(*(torch.from_numpy(np.array(one)) for one in pair)) for pair in pairs])

    assert found["schema_version"] == SCHEMA_VERSION and found["spec_sha256"] == base.spec["sha256"]
    assert found["made_from"] == made_from(base)
    assert found["baseline_lr"] == pytest.approx(100 * base.json("metrics", "metrics")["baseline_lr"]["map_11point"])
    ours = [np.array(r.array("svm", "ours")) for r in (RunFolder(root / "seeds/1/torch"), run_of(root, "ours", 2))]
    assert found["ours"]["seeds"] == pytest.approx([plain(one) for one in ours])
    weights = resamples(TEST, RESAMPLES, 5)

    def maps(scores):
        return np.append(plain(scores), 100 * resampled_map(scores, labels, weights))

    def same(one, other):
        assert one["certain"] == other["certain"] and one["difference"] == pytest.approx(other["difference"])
        assert one["interval_95"] == pytest.approx(other["interval_95"])

    lr = np.stack([maps(np.array(base.array("svm", "baseline_lr")))] * SEEDS)
    assert [row["control"] for row in found["rows"]] == [one.name for one in CONTROLS]
    for one, row in zip(CONTROLS, found["rows"], strict=True):
        seeds = range(1, SEEDS + 1) if one.drawn else (1,)
        own = np.stack([maps(decisions(root, one.name, seed)) for seed in seeds])
        assert row["map"]["seeds"] == pytest.approx(list(own[:, 0])) and row["drawn"] == one.drawn
        assert (row["map"]["spread"] is None) == (not one.drawn)
        same(row["minus_baseline_lr"], effect(own, lr[: len(own)], 5, 0.5, one.drawn))
        # Ours of the same seed is taken off; fewer than five seeds decide nothing of a difference to it.
        paired = np.broadcast_to(own, (SEEDS, RESAMPLES + 1))
        same(row["minus_ours"], effect(paired, np.stack([maps(one) for one in ours]), 5, 0.5, True))
        assert not row["minus_ours"]["certain"] and row["minus_baseline_lr"]["certain"] == (not one.drawn)
        assert row["what"].startswith(one.what) and row["what"].endswith(".")
    assert found["conclusions"][0] == "2 seeds: fewer than 5 decide nothing of what is drawn."
    text = table(found)
    assert all(row["title"] in text for row in found["rows"]) and all(s in text for s in found["conclusions"])


def test_c_that_is_chosen_and_components_that_are_short_are_told(root):
    rows = {row["control"]: row["what"] for row in read_json(root / FOLDER / FILE)["rows"]}
    assert "C = " in rows["lr_c_cv"] and "C = " in rows["ours_c_cv"] and "C = " not in rows["lr_l2"]
    assert "(4 components)" in rows["pca"]
    assert controls.c_told(128.0) == "C = 128, the greatest of them" and controls.c_told(2.0) == "C = 2"


def test_a_second_call_computes_nothing_and_says_the_same(root, worked):
    before = (root / FOLDER / FILE).read_bytes()
    controls.controls(root, SEEDS)
    assert worked == {"svm": 0, "transfer": 0} and (root / FOLDER / FILE).read_bytes() == before


def test_a_further_seed_adds_only_itself(copy, worked):
    found = controls.controls(copy, SEEDS + 1)
    drawn = sum(one.drawn for one in CONTROLS)
    assert worked == {"svm": drawn, "transfer": 3} and found["seeds"] == [1, 2, 3]


def test_what_was_kept_is_made_again_where_it_is_damaged_or_of_another_key(copy, worked):
    before = read_json(copy / FOLDER / FILE)
    path = copy / FOLDER / "pca" / "1.npz"
    path.write_bytes(path.read_bytes()[:-30])
    other = copy / FOLDER / "random_relu" / "2.npz"
    controls.keep(other, "another key", np.zeros((TEST, 2)), 1.0)
    (copy / FOLDER / "lr_l2" / "1.npz").unlink()
    assert controls.controls(copy, SEEDS) == before and worked == {"svm": 3, "transfer": 0}


def test_a_label_that_changes_after_the_fact_is_written_and_trained_again(copy, worked, monkeypatch):
    before = decisions(copy, "random_labels", 2)
    monkeypatch.setitem(control_runs.LABELS, "random_labels", lambda labels, k, seed: np.full_like(labels, seed % k))
    controls.controls(copy, SEEDS)
    assert worked == {"svm": 2, "transfer": 2} and not np.array_equal(before, decisions(copy, "random_labels", 2))


def test_seeds_of_another_specification_or_with_foreign_draws_are_not_taken(copy):
    base, made = RunFolder(copy / "torch"), RunFolder(copy / "seeds" / "1" / "torch")
    assert control_runs.stands_for(made, base, 1) and not control_runs.stands_for(made, base, 2)
    assert not control_runs.stands_for(RunFolder(copy / "seeds" / "9" / "torch"), base, 9)
    external = {key: Path(entry["path"]) for key, entry in base.spec["external"].items()}
    resolve("embedded", made.path, external["devkit"], overrides=(*OVERRIDES, FEW_RESAMPLES, "run.seed=1", "svm.c=9.0"))
    assert not control_runs.stands_for(made, base, 1)
    drawn = copy / "drawn" / "torch"
    resolve("embedded", drawn, external["devkit"], overrides=(*OVERRIDES, FEW_RESAMPLES, "run.seed=1"))
    shared = ["--draws", str(made.path), "--reuse", str(base.path)]
    run_stages("torch", MODULES, versions, [str(drawn), *shared, *ONLY])
    assert not control_runs.stands_for(RunFolder(drawn), base, 1)


def test_a_run_that_is_unfinished_or_old_is_the_users_to_mend(copy, tmp_path):
    with user_error(tmp_path / "none"):
        controls.controls(tmp_path / "none", 1)
    manifest = copy / "torch" / "03-features" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"key": "', '"key": "0'))
    with user_error(copy / "torch", "make torch-reproduce"):
        controls.controls(copy, SEEDS + 1)


def test_a_run_that_changes_while_its_controls_are_made_has_none(copy, monkeypatch):
    manifest, gathered = copy / "torch" / "04-clusters" / "manifest.json", controls.gathered

    def changing(*arguments):
        text = manifest.read_text()
        manifest.write_text(text.replace('"sha256": "', '"sha256": "0'))
        return gathered(*arguments)

    monkeypatch.setattr(controls, "gathered", changing)
    found = controls.controls(copy, SEEDS)
    assert foreign(found, RunFolder(copy / "torch")) == "other results than torch/ holds now"


def test_rows_that_cannot_be_learned_from_name_the_control(root, copy, monkeypatch):
    (copy / FOLDER / "random_relu" / "1.npz").unlink()
    monkeypatch.setattr("audit.controls.features.random_relu", lambda train, test, width, seed: (0 * train, 0 * test))
    with user_error(copy / FOLDER / "random_relu", "every trainval row"):
        controls.controls(copy, SEEDS)


def test_the_command_prints_the_table_and_refuses_no_seeds(root, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["controls", str(root), "--seeds", str(SEEDS), "--threads", "1"])
    assert controls.main() == 0
    printed = capsys.readouterr()
    assert "HR to LR" in printed.out and "pca: up to date" in printed.err
    monkeypatch.setattr(sys, "argv", ["controls", str(root), "--seeds", "0"])
    with user_error("--seeds must be 1 or more"):
        controls.main()
