"""The bench's own machinery, with a clock that the subjects move: nothing is timed here."""

import json
import sys
from dataclasses import replace

import pytest
import torch

from bench import __main__ as bench_main
from bench import resnet101, svms
from bench.measure import Bench, Subject, Work, row_of, table
from experiment.errors import UserError
from torch_impl import engines
from torch_impl.caffe_net import CaffeNet

ROW_KEYS = ["work", "subject", "dtype", "unit", "median", "min", "max", "rounds", "error_to_float64"]


class FakeTime:
    """A clock, and subjects that take the seconds they are told."""

    def __init__(self):
        self.now = 0.0
        self.calls = []

    def subject(self, name, seconds, dtype="float32"):
        left = iter(seconds)

        def run():
            self.calls.append(name)
            self.now += next(left)
            return name

        return Subject(name, dtype, run)


@pytest.fixture
def measured():
    """A bench of three rounds with two subjects whose first run, the warm-up, is slow."""
    fake = FakeTime()
    bench = Bench(rounds=3, versions={"torch": "1"}, clock=lambda: fake.now)
    subjects = [fake.subject("port", [100, 1, 3, 2]), fake.subject("peer", [100, 4, 4, 16])]
    bench.measure(Work("net", "ms an image", subjects, per_second=1000 / 8, error={"port": 1e-7, "peer": 2e-7}.get))
    return bench, fake


def test_all_are_warmed_up_and_then_run_in_turn(measured):
    assert measured[1].calls == ["port", "peer", "port", "peer", "peer", "port", "peer", "port"]


def test_figures_leave_out_the_warm_up_and_are_in_the_works_unit(measured):
    port, peer = measured[0].rows
    assert (port.min, port.median, port.max, port.rounds) == (125, 250, 375, 3)
    assert (peer.min, peer.median, peer.max) == (500, 500, 2000)


def test_a_work_can_take_fewer_rounds_and_a_run_be_a_part_of_it():
    fake = FakeTime()
    bench = Bench(rounds=3, clock=lambda: fake.now)
    whole, part = fake.subject("port", [100, 1, 3]), fake.subject("peer", [100, 2, 2])
    bench.measure(Work("SVMs", "s", [whole, replace(part, parts=20)], rounds=2))
    assert [(row.median, row.rounds) for row in bench.rows] == [(2, 2), (40, 2)]
    assert fake.calls == ["port", "peer", "port", "peer", "peer", "port"]


def test_errors_are_of_the_results(measured):
    assert [row.error_to_float64 for row in measured[0].rows] == [1e-7, 2e-7]


def test_the_file_has_machine_versions_and_rows(measured, tmp_path):
    measured[0].write(tmp_path / "results.json")
    found = json.loads((tmp_path / "results.json").read_text())
    assert list(found) == ["machine", "versions", "rows"]
    assert found["machine"]["cores"] and found["versions"] == {"torch": "1"}
    assert [list(row) for row in found["rows"]] == [ROW_KEYS] * 2
    assert (tmp_path / "results.md").read_text() == table(measured[0].rows)


def test_the_table_tells_ratios_to_the_port_of_the_same_type_and_what_is_left_out(measured):
    bench, fake = measured
    bench.measure(Work("net", "ms an image", [fake.subject("peer", [1] * 4, "bfloat16")]))
    bench.leave_out("net", "pycaffe", "no container works here")
    lines = table(bench.rows, bench.left_out).splitlines()
    ratios = [[cell.strip() for cell in line.split("|")][7] for line in lines[2:5]]
    assert ratios == ["1.00", "2.00", ""]
    assert lines[-1] == "net: pycaffe is left out: no container works here"


def test_the_engine_that_would_be_taken_is_the_port(monkeypatch):
    net = CaffeNet(resnet101.PROTOTXT)
    monkeypatch.setattr(engines, "build", lambda name, net, blob: name)
    monkeypatch.setattr(engines, "is_installed", lambda package: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert [one.name for one in resnet101.ports(net, torch.empty(0), "float32")] == ["port, folded", "port"]
    monkeypatch.setattr(engines, "is_installed", lambda package: False)
    for dtype in ("float32", "bfloat16"):
        assert [one.name for one in resnet101.ports(net, torch.empty(0), dtype)] == ["port"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [one.name for one in resnet101.ports(net, torch.empty(0), "bfloat16")] == ["port", "port, cuda"]


@pytest.mark.parametrize(
    ("options", "said"), [(["--rounds", "0"], "--rounds"), (["--json", "missing/results.json"], "no folder missing")]
)
def test_what_cannot_be_measured_or_written_is_said_before_anything_is(options, said, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["bench", *options])
    monkeypatch.setattr(bench_main, "WORKS", {})
    with pytest.raises(UserError, match=said):
        bench_main.main()


def test_a_part_of_the_works_leaves_the_results_alone(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench", "--only", "svms"])
    monkeypatch.setattr(svms, "run", lambda bench: bench.rows.append(row_of("SVMs", "port", "float64", "s", [1.0])))
    monkeypatch.setattr(Bench, "write", lambda *_: pytest.fail("written"))
    assert bench_main.main() == 0 and "SVMs" in capsys.readouterr().out
