"""The front door: what it refuses before anything runs, and what its commands are made of. Only `help` is run."""

import os
import subprocess

import pytest

from bench.precision import EXACT
from tests.conftest import PROJECT
from torch_impl import engines


@pytest.fixture
def make(tmp_path):
    """A function that gives what `make -n` prints in a folder without runs and data; `status` is its exit status."""

    def run(*arguments: str, status: int = 0, options: tuple[str, ...] = ("-n",)) -> str:
        command = ["make", "-f", PROJECT / "Makefile", *options, "-o", tmp_path / ".venv" / ".ready", *arguments]
        # Neither the variables of the `make test` that runs this nor the user's.
        environment = {"PATH": os.environ["PATH"]}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stderr if status else done.stdout

    return run


@pytest.mark.parametrize(
    ("argument", "says"),
    [
        ("THREADS=", "a whole number"),
        ("THREADS=two", "a whole number"),
        ("SEEDS=0", "above 0"),
        ("SEEDS=1 2", "above 0"),
        ("LIMIT=0", "a number of images above 0"),
        ("LIMIT=5.5", "a number of images above 0"),
        ("NAME=voc2012", "voc2007 or caltech101"),
        ("FROM=tensorflow", "keras matconvnet torch"),
        ("FROM=it's", "keras matconvnet torch"),
        ("SCHEDULER=localhost", "tcp://host:8786"),
        ("SCHEDULER=tcp://host", "tcp://host:8786"),
        ("DEVKIT=my data", "has a blank in it"),
        ("ENGINE=cuda:0", "one of auto "),
        ("OF=training", "features or features-and-training"),
        ("N1=256x", "numbers above 0"),
        ("N2=20 0", "numbers above 0"),
    ],
)
def test_a_wrong_value_is_refused_in_a_line_before_anything_runs(make, argument, says):
    told = make("compare", argument, status=2)
    assert told.count("\n") == 1 and f"*** {argument} " in told and says in told


def test_a_file_is_no_runs_folder(make, tmp_path):
    (tmp_path / "notes").touch()
    told = make("compare", "RUN=notes", status=2)
    assert told.count("\n") == 1 and f"RUN={tmp_path}/notes is a file: name a folder" in told


@pytest.mark.parametrize(
    "argument",
    [
        "THREADS=4",
        "SEEDS=010",
        "LIMIT=500",
        "FROM=torch",
        "SCHEDULER=tls://10.0.0.1:8786",
        "RUN=/r",
        "N1=256  512",
        "N2=20",
    ],
)
def test_a_right_value_is_taken(make, argument):
    assert "-m compare" in make("compare-afresh", argument)


@pytest.mark.parametrize("engine", engines.NAMES)
def test_every_engine_is_taken_and_those_without_a_bfloat16_have_no_cost_of_it(make, engine):
    assert f"--engine '{engine}'" in make("torch-reproduce", f"ENGINE={engine}")
    if engine in EXACT:
        told = make("precision", f"ENGINE={engine}")
        assert "-m bench.precision" in told and f"--engine '{engine}' " in told
        assert "--of 'features' --seeds" in make("precision", f"ENGINE={engine}", "OF=features")
    elif engine != engines.AUTO:
        assert "one that has a bfloat16: openvino folded cuda" in make("precision", f"ENGINE={engine}", status=2)


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("report", "run `make compare` first"),
        ("render", "run `make torch-reproduce` first"),
        ("stand-in", "needs IMAGESETS=<"),
        ("train-backbone", "needs PHOTOGRAPHS=<"),
    ],
)
def test_a_command_that_lacks_what_it_works_on_says_so_in_a_line(make, target, says):
    told = make(target, status=2)
    assert told.count("\n") == 1 and says in told


@pytest.mark.parametrize(("target", "says"), [("ledger", "controls sensitivity"), ("results", "make compare")])
def test_without_a_run_what_is_in_docs_is_written_again(make, target, says):
    lines = make(target).splitlines()
    assert says in lines[0] and "docs/results stays as it is" in lines[0] and "--take" not in lines[1]


def test_finished_runs_are_those_that_are_taken(make, tmp_path):
    for run in ("embedded", "embedded-caltech20-voc"):
        for file in ("compare.json", "controls/controls.json", "torch/09-metrics/manifest.json"):
            path = tmp_path / "runs" / run / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    both = ("embedded=runs/embedded", "caltech20-voc=runs/embedded-caltech20-voc")
    assert all(f"'{item}'" in make("render") for item in both)
    assert all(f"--take '{item}'" in make(target) for target in ("ledger", "results") for item in both)
    assert make("report").endswith("-m audit.page.report 'runs/embedded' 'runs/embedded-caltech20-voc'\n")
    assert make("report", "RUN=mine").endswith(f"-m audit.page.report '{tmp_path}/mine'\n")


def test_the_papers_profile_takes_what_the_same_command_downloads(make, tmp_path):
    (line,) = [
        line
        for line in make("data", "weights", "caffe-reproduce", "PROFILE=paper").splitlines()
        if "experiment.resolve" in line
    ]
    assert "--devkit 'data/voc2007/VOCdevkit' --weights 'data/weights/ResNet-101-model.caffemodel'" in line
    assert line.endswith(f"--run '{tmp_path}/runs/paper-VOCdevkit/caffe'")
    named = make("caffe-reproduce", "PROFILE=paper", "DEVKIT=mine", "WEIGHTS=w", "LIMIT=5")
    assert "--devkit 'mine' --weights 'w'" in named and "/runs/paper-mine-limit5/caffe'" in named


@pytest.mark.parametrize(
    ("target", "module"),
    [
        ("controls", "audit.controls.controls"),
        ("sensitivity", "audit.decisions.sensitivity"),
        ("report", "audit.page.report"),
        ("grid", "paper.grid"),
    ],
)
def test_the_papers_run_is_the_one_that_is_audited(make, tmp_path, target, module):
    assert f"-m {module} '{tmp_path}/runs/paper-VOCdevkit'" in make(target, "PROFILE=paper")


def test_help_lists_every_command_and_every_variable(make):
    told = make("help", options=())
    text = (PROJECT / "Makefile").read_text()
    commands = next(line for line in text.splitlines() if line.startswith(".PHONY:")).split()[1:]
    assert [name for name in commands if f"  make {name} " not in told] == []
    assert "(FROM=keras|matconvnet|torch FILE=)" in told
    variables = [line.split(" ?=")[0] for line in text.splitlines() if " ?=" in line]
    assert "RUN" in variables and "REPORT" in variables
    assert [name for name in variables if f" {name}=" not in told.partition("Variables")[2]] == []
