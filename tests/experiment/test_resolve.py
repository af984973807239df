"""Resolving: a run's spec.json and prototxts from a profile, or one line that says what is missing."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from experiment import resolve as module
from experiment.artifacts import sha256_json
from experiment.errors import UserError
from experiment.resolve import resolve

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def devkit(tmp_path) -> Path:
    (tmp_path / "VOCdevkit" / "VOC2007" / "JPEGImages").mkdir(parents=True)
    return tmp_path / "VOCdevkit"


@pytest.fixture
def weights(tmp_path) -> Path:
    (tmp_path / "net.caffemodel").write_bytes(b"stand-in weights")
    return tmp_path / "net.caffemodel"


@pytest.fixture
def meant(weights) -> str:
    """The override that says that these weights are meant."""
    return f"backbone.weights_sha256={hashlib.sha256(weights.read_bytes()).hexdigest()}"


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder and what it holds."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("profile", ["embedded", "paper"])
def test_a_run_is_resolved_the_same_to_the_byte_each_time(tmp_path, devkit, weights, meant, profile):
    run = tmp_path / "run"
    spec = resolve(profile, run, devkit, weights, overrides=(meant,))
    first = contents(run)
    assert json.loads(first["spec.json"]) == spec
    assert set(first) >= {"spec.json", *(f"prototxt/{name}" for name in spec["prototxt"])}
    written = (run / "spec.json").stat().st_mtime_ns
    resolve(profile, run, devkit, weights, overrides=(meant,))
    assert (run / "spec.json").stat().st_mtime_ns == written  # left alone
    shutil.rmtree(run)
    resolve(profile, run, devkit, weights, overrides=(meant,))
    assert contents(run) == first


def test_a_sum_in_capitals_is_the_same_and_one_of_digits_alone_is_no_number(tmp_path, devkit, weights, meant):
    name, _, digest = meant.partition("=")
    run = tmp_path / "run"
    assert resolve("paper", run, devkit, weights, overrides=(f"{name}={digest.upper()}",))["external"]["weights"]
    with pytest.raises(UserError, match=f"SET=backbone.weights_sha256={digest}"):
        resolve("paper", run, devkit, weights, overrides=(f"{name}=1234",))


def test_the_spec_records_the_hash_of_all_that_it_names(tmp_path, devkit, weights, meant):
    spec = resolve("paper", tmp_path / "run", devkit, weights, overrides=(meant, "svm.c=2"))
    assert spec["sha256"] == sha256_json(spec["values"])
    assert spec["values"]["svm"]["c"] == 2.0 and spec["sources"]["svm.c"] == "SET"
    assert spec["external"]["weights"]["sha256"] == hashlib.sha256(b"stand-in weights").hexdigest()
    for name, digest in spec["prototxt"].items():
        assert hashlib.sha256((tmp_path / "run" / "prototxt" / name).read_bytes()).hexdigest() == digest
    assert Path(spec["external"]["devkit"]["path"]) == devkit / "VOC2007"


def test_a_folder_that_cannot_be_made_is_named(tmp_path, devkit, weights, meant):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="/file/caffe cannot be made .*: pass another RUN="):
        resolve("embedded", tmp_path / "file" / "caffe", devkit, weights, overrides=(meant,))


def test_another_value_is_another_spec(tmp_path, devkit, weights, meant):
    specs = [
        resolve("paper", tmp_path / "run", devkit, weights, overrides=(meant, *more))
        for more in ((), ("svm.c=2",), ("run.seed=1",), ("transfer.base_lr=0.02",))
    ]
    assert len({spec["sha256"] for spec in specs}) == 4
    assert len({spec["prototxt"]["solver.prototxt"] for spec in specs}) == 2
    on_disk = (tmp_path / "run" / "prototxt" / "solver.prototxt").read_text()
    assert "base_lr: 0.02\n" in on_disk


@pytest.mark.parametrize("depth", ["VOCdevkit/VOC2007", "VOCdevkit", "."])
def test_the_devkit_is_found_from_the_folders_above_it(tmp_path, devkit, weights, meant, depth):
    spec = resolve("paper", tmp_path / "run", tmp_path / depth, weights, overrides=(meant,))
    assert Path(spec["external"]["devkit"]["path"]).resolve() == (devkit / "VOC2007").resolve()


def test_a_missing_devkit_says_how_to_get_it(tmp_path, weights):
    for devkit in (None, tmp_path / "nothing"):
        with pytest.raises(UserError, match="make data.*DEVKIT="):
            resolve("paper", tmp_path / "run", devkit, weights)
    assert not (tmp_path / "run").exists()


def test_missing_weights_say_how_to_get_them(tmp_path, devkit):
    for weights in (None, tmp_path / "nothing"):
        with pytest.raises(UserError, match=r"ResNet-101-model\.caffemodel.*WEIGHTS="):
            resolve("paper", tmp_path / "run", devkit, weights)
    assert not (tmp_path / "run").exists()


def test_other_weights_are_refused_and_the_remedy_works(tmp_path, devkit, weights):
    with pytest.raises(UserError) as error:
        resolve("paper", tmp_path / "run", devkit, weights)
    assert not (tmp_path / "run").exists()
    assert str(weights) in str(error.value)
    remedy = str(error.value).rpartition("SET=")[2]
    assert resolve("paper", tmp_path / "run", devkit, weights, overrides=(remedy,))["external"]["weights"]["path"]


def test_the_embedded_profiles_own_weights_are_those_that_it_names(tmp_path, devkit):
    spec = resolve("embedded", tmp_path / "run", devkit)
    shipped = PROJECT / spec["values"]["backbone"]["weights_file"]
    assert hashlib.sha256(shipped.read_bytes()).hexdigest() == spec["values"]["backbone"]["weights_sha256"]


def test_a_mean_file_is_asked_for_where_the_spec_wants_it(tmp_path, devkit, weights, meant):
    with pytest.raises(UserError, match=r"MEAN=.*ResNet_mean\.binaryproto"):
        resolve("paper", tmp_path / "run", devkit, weights, overrides=(meant, "features.mean=file"))
    mean = tmp_path / "mean.binaryproto"
    mean.write_bytes(b"mean")
    spec = resolve("paper", tmp_path / "run", devkit, weights, mean, (meant, "features.mean=file"))
    assert spec["external"]["mean"] == {"path": str(mean), "sha256": hashlib.sha256(b"mean").hexdigest()}


@pytest.mark.parametrize("name", ["nothing.jpg", "../images/china.jpg", "README.txt/.."])
def test_a_photograph_that_is_not_there_is_named(tmp_path, devkit, weights, meant, name):
    with pytest.raises(UserError, match=r"resnet101\.crops"):
        resolve("paper", tmp_path / "run", devkit, weights, overrides=(meant, f'resnet101.crops=[["{name}",0,0]]'))


def test_a_photograph_whose_copying_was_interrupted_is_copied_again(tmp_path, devkit, weights, meant):
    resolve("paper", tmp_path / "run", devkit, weights, overrides=(meant,))
    photograph = tmp_path / "run" / "photographs" / "china.jpg"
    whole = photograph.read_bytes()
    photograph.write_bytes(whole[:1000])
    resolve("paper", tmp_path / "run", devkit, weights, overrides=(meant,))
    assert photograph.read_bytes() == whole


def test_scikit_learn_is_found_without_importing_it(tmp_path):
    code = "import sys, experiment.resolve; assert not {'sklearn', 'torch', 'scipy', 'cv2'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True)


BAD = {
    "unknown profile": (["--profile", "papers"], "PROFILE=papers"),
    "no devkit": (["--profile", "paper"], "DEVKIT="),
    "a devkit that is not there": (["--profile", "paper", "--devkit", "nowhere"], "DEVKIT=nowhere"),
    "no weights": (["--profile", "paper", "--devkit", "{devkit}"], "WEIGHTS="),
    "weights that are not there": (["--profile", "paper", "--devkit", "{devkit}", "--weights", "gone"], "WEIGHTS=gone"),
    "other weights": (["--profile", "paper", "--devkit", "{devkit}", "--weights", "{weights}"], "sha256"),
    "no form": (["--profile", "embedded", "--set", "seed"], "SET=seed"),
    "two lines": (["--profile", "embedded", "--set", "svm.c=1\nsvm.c=2"], "SET="),
    "unknown key": (["--profile", "embedded", "--set", "svm.gamma=1"], "svm.gamma"),
    "wrong type": (["--profile", "embedded", "--set", "transfer.n1=many"], "transfer.n1"),
    "not a number": (["--profile", "embedded", "--set", "svm.c=nan"], "svm.c"),
    "contradiction": (["--profile", "embedded", "--set", "clusters.k=3"], "transfer.n2"),
    "crops": (["--profile", "embedded", "--set", "resnet101.crops=[1]"], "resnet101.crops"),
    "no limit": (["--profile", "embedded", "--devkit", "{devkit}", "--limit", "0"], "LIMIT=0 must be"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, devkit, weights, monkeypatch, capsys, case):
    arguments, said = BAD[case]
    argv = [argument.format(devkit=devkit, weights=weights) for argument in arguments]
    monkeypatch.setattr(sys, "argv", ["resolve", "--run", str(tmp_path / "run"), *argv])
    with pytest.raises(SystemExit) as end:
        module.run_command(module.main)
    out, err = capsys.readouterr()
    assert end.value.code == 2 and out == ""
    assert err.startswith("error: ") and err.count("\n") == 1 and said in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("case", ["unknown profile", "no weights"])
def test_the_command_line_itself_ends_so(tmp_path, devkit, case):
    arguments, said = BAD[case]
    argv = [argument.format(devkit=devkit) for argument in arguments]
    command = [sys.executable, "-m", "experiment.resolve", "--run", str(tmp_path / "run"), *argv]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, env={**os.environ, "COLUMNS": "40"})
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and said in done.stderr and "Traceback" not in done.stderr


def test_the_devkits_lists_and_annotations_are_hashed_and_not_again_while_they_stay(tmp_path, devkit, weights, meant):
    root = devkit / "VOC2007"
    for folder, name in (("ImageSets/Main", "a.txt"), ("Annotations", "a.xml")):
        (root / folder).mkdir(parents=True)
        (root / folder / name).write_text("one")
        (root / folder / ".DS_Store").write_text("what a desktop leaves behind")

    def entry() -> dict:
        return resolve("paper", tmp_path / "run", devkit, weights, overrides=(meant,))["external"]["devkit"]

    first = entry()
    lists, annotations = (sha256_json({f"a.{kind}": hashlib.sha256(b"one").hexdigest()}) for kind in ("txt", "xml"))
    assert first["content"] == {"ImageSets/Main": lists, "Annotations": annotations}
    (root / "ImageSets/Main" / "a.txt").write_text("two!")
    second = entry()
    assert second["content"]["ImageSets/Main"] != lists and second["content"]["Annotations"] == annotations
    assert second["listing"] != first["listing"]
    (root / "JPEGImages" / "b.jpg").write_bytes(b"photograph")  # the stage index hashes photographs
    assert entry()["content"] == second["content"]


def test_where_weights_come_from_is_recorded(tmp_path, devkit, weights, meant):
    def told() -> str:
        return resolve("paper", tmp_path / "run", devkit, weights, overrides=(meant,))["external"]["weights"]["origin"]

    assert told() == "a stand-in or another file, by SET"
    sidecar = weights.with_suffix(".json")
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    source = {"format": "keras", "file name": "resnet101.h5", "sha256": "ab" * 32}
    sidecar.write_text(json.dumps({"sha256": digest, "converted_from": source}))
    assert told() == f"converted from keras, resnet101.h5, sha256 {'ab' * 32}"
    sidecar.write_text(json.dumps({"sha256": "9" * 64, "converted_from": source}))  # of another caffemodel
    assert told() == "a stand-in or another file, by SET"
    embedded = resolve("embedded", tmp_path / "embedded", devkit)["external"]["weights"]["origin"]
    assert embedded == "shipped, embedded/backbone.caffemodel"


def test_a_limit_is_in_the_profiles_name_and_the_values(tmp_path, devkit, weights, meant):
    lists = devkit / "VOC2007" / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "trainval.txt").write_text("".join(f"{n:06d}\n" for n in range(1000)))
    spec = resolve("paper", tmp_path / "run", devkit, weights, None, (meant, "transfer.n1=7"), 250)
    assert spec["profile"] == "paper, LIMIT=250" and spec["values"]["index"]["limit"] == 250
    assert spec["values"]["transfer"]["max_iter"] == round(31561 / 4) and spec["values"]["transfer"]["n1"] == 7
    assert spec["sources"]["transfer.stepsize"] == "LIMIT=250" and spec["sources"]["transfer.n1"] == "SET"
    with pytest.raises(UserError, match="LIMIT=-1"):
        resolve("paper", tmp_path / "run", devkit, weights, None, (meant,), -1)


def write_split(devkit: Path, split: str, n: int) -> None:
    lists = devkit / "VOC2007" / "ImageSets" / "Main"
    lists.mkdir(parents=True, exist_ok=True)
    (lists / f"{split}.txt").write_text("".join(f"{split}{number}\n" for number in range(n)))


def test_a_limit_that_takes_nothing_away_is_refused(tmp_path, devkit, weights, meant):
    write_split(devkit, "trainval", 120)
    write_split(devkit, "test", 130)
    for limit in (130, 10**9):
        with pytest.raises(UserError, match=rf"^LIMIT={limit} takes nothing .* 120 trainval and 130 test images"):
            resolve("paper", tmp_path / "run", devkit, weights, None, (meant,), limit)
    assert not (tmp_path / "run").exists()
    spec = resolve("paper", tmp_path / "run", devkit, weights, None, (meant,), 129)  # one test image
    assert spec["values"]["index"]["limit"] == 129 and spec["values"]["transfer"]["max_iter"] == 31561


def test_more_clusters_than_trainval_images_are_refused_and_the_remedy_works(tmp_path, devkit, weights, meant):
    write_split(devkit, "trainval", 60)
    with pytest.raises(UserError, match=r"^clusters\.k = 100 is more than the 60 trainval images") as error:
        resolve("paper", tmp_path / "run", devkit, weights, overrides=(meant,))
    assert not (tmp_path / "run").exists()
    remedy = str(error.value).partition('SET="')[2].rstrip('"').split()
    assert (
        resolve("paper", tmp_path / "run", devkit, weights, overrides=(meant, *remedy))["values"]["clusters"]["k"] == 60
    )
    more = ("clusters.k=30", "transfer.n2=30")  # of 60, but not of the 20 that are left
    with pytest.raises(UserError, match=r"^clusters\.k = 30 is more than the 20 trainval images"):
        resolve("paper", tmp_path / "run", devkit, weights, None, (meant, *more), 20)


def test_each_profiles_own_devkit_is_the_remedy(tmp_path, weights):
    with pytest.raises(UserError, match="DEVKIT=.* leave DEVKIT out for the generated one"):
        resolve("embedded", tmp_path / "run", tmp_path / "nothing")
