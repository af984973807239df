import ast
import subprocess
import sys

import pytest

from experiment.errors import UserError
from experiment.stages import STAGES
from tests.selftest.__main__ import verdict
from tests.selftest.catalogue import CATALOGUE, HARMLESS, MISTAKES, ROOT, Entry
from tests.selftest.touched import touched_stages

CHANGED = [entry for entry in CATALOGUE if entry.old]


def by_name(entry: Entry) -> str:
    return entry.name


def test_there_are_enough_mistakes_and_harmless_changes_under_names_of_their_own():
    assert len(MISTAKES) >= 24 and all(entry.harmful for entry in MISTAKES)
    assert len(HARMLESS) >= 8 and not any(entry.harmful for entry in HARMLESS)
    names = [entry.name for entry in CATALOGUE]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("entry", CHANGED, ids=by_name)
def test_a_change_is_one_line_and_leaves_a_module_that_parses(entry):
    assert entry.module.startswith("torch_impl.")
    assert "\n" not in entry.old + entry.new
    source = entry.path.read_text(encoding="utf-8")
    patched = entry.patched(source)  # raises where the text does not stand there exactly once
    ast.parse(patched)
    lines, changed = source.splitlines(), patched.splitlines()
    assert sum(x != y for x, y in zip(lines, changed, strict=True)) == 1


@pytest.mark.parametrize("entry", [entry for entry in CATALOGUE if not entry.old], ids=by_name)
def test_an_entry_that_changes_no_line_is_harmless_and_run_otherwise(entry):
    assert not entry.harmful and not entry.new
    assert entry.options or not entry.draws


@pytest.mark.parametrize("entry", MISTAKES, ids=by_name)
def test_a_mistake_is_expected_in_a_stage_that_it_can_touch(entry):
    stage, _, item = entry.expected.partition(" ")
    assert stage in touched_stages(entry.module) and item


def test_a_text_that_does_not_stand_there_exactly_once_is_refused():
    entry = Entry("twice", "torch_impl.svm", "sign", "sine")
    for source in ("", "sign = sign"):
        with pytest.raises(UserError, match="must occur once"):
            entry.patched(source)


def test_the_stages_that_a_module_can_touch():
    assert touched_stages("torch_impl.svm") == ["svm"]
    assert touched_stages("torch_impl.jpeg") == ["images", "resnet101"]
    assert touched_stages("torch_impl.net_io") == ["features", "resnet101"]
    assert touched_stages("torch_impl.caffe_net") == ["features", "transfer", "transfer_features", "resnet101"]
    # Through caffe_net, which reads the nets by it.
    assert touched_stages("torch_impl.caffe_proto") == touched_stages("torch_impl.caffe_net")
    assert touched_stages("") == list(STAGES)


@pytest.mark.parametrize(
    ("expected", "found", "told"),
    [
        ("svm ours", "svm ours", "caught"),
        ("svm ours", "metrics ours area", "LOCATED WRONGLY"),
        ("svm ours", "", "MISSED"),
        ("", "", "passed"),
        ("", "svm ours", "FLAGGED"),
    ],
)
def test_a_verdict_tells_what_was_caught_from_what_was_caught_in_the_right_place(expected, found, told):
    assert verdict({"harmful": bool(expected), "caught": bool(found), "expected": expected, "found": found}) == told


SHOW = """
import sys
sys.dont_write_bytecode = True
from tests.selftest.catalogue import CATALOGUE
from tests.selftest.patched_port import patch
patch(next(entry for entry in CATALOGUE if entry.name == sys.argv[1]))
from torch_impl import index, metrics
print(index.LABELS["0"], metrics.ROWS[0])
"""


def test_the_changed_module_is_what_the_port_gets_and_no_file_changes():
    entry = next(entry for entry in MISTAKES if entry.name == "difficult as positives")
    before = sorted((path, path.stat().st_mtime_ns) for path in entry.path.parent.rglob("*"))
    found = subprocess.run([sys.executable, "-c", SHOW, entry.name], cwd=ROOT, capture_output=True, text=True)
    assert found.stdout.split() == ["1", "baseline_hr"], found.stderr
    assert sorted((path, path.stat().st_mtime_ns) for path in entry.path.parent.rglob("*")) == before


def test_the_ports_own_command_line_is_what_runs():
    command = [sys.executable, "-m", "tests.selftest.patched_port"]
    for arguments, says in ((["floor pooling", "--help"], "python -m torch_impl"), (["no such entry"], "is no entry")):
        done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True)
        assert says in done.stdout + done.stderr
