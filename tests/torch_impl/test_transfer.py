"""The transfer network's training against Caffe's own solver, its HDF5Data and its MSRA filler."""

import io
import itertools
import platform
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.stats
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from compare.check import TOLERANCES, Judge, read_tolerances
from compare.pair import Pair
from compare.stages import STAGE_CHECKS
from experiment.artifacts import RunFolder
from prototxt import generate
from tests.conftest import CaffeResult, caffe_case, make_stage, relative_l2, user_error, write_files
from torch_impl import transfer
from torch_impl.caffe_net import CaffeNet
from torch_impl.caffe_proto import read_prototxt
from torch_impl.transfer import SGDSolver, draw_parameters, hdf5_batches

RANDOM = np.random.default_rng(4)
ROOT = Path(__file__).resolve().parents[2]
DIM = 5
SETTINGS = {
    "n1": 7,
    "n2": 4,
    "batch_size": 3,
    "variance_norm": "FAN_IN",
    "bias_lr_mult": 2.0,
    "bias_decay_mult": 0.5,
    "base_lr": 0.1,
    "gamma": 0.1,
    "stepsize": 20,
    "momentum": 0.9,
    "weight_decay": 0.05,
    "max_iter": 60,
}
ROWS = RANDOM.standard_normal((7, DIM)).astype(np.float32)  # 7 rows in batches of 3: batches wrap at every place
LABELS = np.array([0, 3, 1, 2, 2, 0, 3], np.int32)
INITIAL = {
    "fc1": [RANDOM.standard_normal((7, DIM)).astype(np.float32), np.zeros(7, np.float32)],
    "fc2": [RANDOM.standard_normal((4, 7)).astype(np.float32), np.zeros(4, np.float32)],
}
EXTREME = {layer: [weight * 40, bias] for layer, (weight, bias) in INITIAL.items()}
KEPT = [1, 2, 19, 20, 21, 22, 39, 40, 41, 60]  # around both drops of the rate
BLOBS = ["fc1.0", "fc1.1", "fc2.0", "fc2.1"]

# A gradient is a few float32 sums of some ten products: about 1e-7. Training carries each iteration's rounding (6e-8
# of every weight) on: over 60 iterations that gives a few 1e-7, and a wrong rule shows in the first digits. A loss is
# -log of a probability that is itself rounded to 6e-8, so where it is small only its absolute error is.
GRADIENT = 1e-6
TRAINED = 2e-6
LOSS = 2e-7


def hdf5(path: Path) -> None:
    """What HDF5Data reads: data (n, D) and label (n,), float32."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["data"], file["label"] = ROWS, LABELS.astype(np.float32)
    path.write_bytes(content.getvalue())


DATA = {generate.HDF5_LIST: "rows.h5\n", "rows.h5": hdf5}
TRAIN_NET = generate.transfer_train(SETTINGS)
caffe_case("gradient", TRAIN_NET, parameters=INITIAL, files=DATA, outputs=["blobs", "gradients"])
caffe_case("gradient-extreme", TRAIN_NET, parameters=EXTREME, files=DATA, outputs=["blobs", "gradients"])


def solver_text(**changes: float) -> str:
    """solver.prototxt as generated, for the names that the oracle uses."""
    text = generate.solver(SETTINGS | changes)
    return text.replace('"transfer_train.prototxt"', '"net.prototxt"').replace(': "transfer"', ': "snapshot"')


SOLVERS = {
    "two drops of the rate": {},
    "no momentum": {"momentum": 0.0},
    "no decay": {"weight_decay": 0.0},
    "rate that rises": {"gamma": 1.5, "base_lr": 0.02},
}
for name, changes in SOLVERS.items():
    caffe_case(
        name,
        TRAIN_NET,
        parameters=INITIAL,
        kind="solver",
        files={**DATA, "solver.prototxt": solver_text(**changes)},
        steps=60,
        keep=KEPT,
    )
WIDE = {"n1": 400, "n2": 90}
NORMS = ("FAN_IN", "FAN_OUT", "AVERAGE")
for norm in NORMS:
    text = generate.transfer_deploy(SETTINGS | WIDE | {"variance_norm": norm}, 300)
    caffe_case(f"msra-{norm}", text, outputs=["parameters"], seed=5)


def make_net(folder: Path, parameters: dict[str, list[np.ndarray]]) -> CaffeNet:
    """The port's training net."""
    write_files(folder, {"net.prototxt": TRAIN_NET})
    net = CaffeNet(folder / "net.prototxt", {"data": (3, DIM), "label": (3,)})
    net.set_parameters(parameters)
    return net


def make_solver(folder: Path, **changes: float) -> SGDSolver:
    """The port's solver for the training net."""
    write_files(folder, {"solver.prototxt": solver_text(**changes)})
    settings = read_prototxt(folder / "solver.prototxt", "SolverParameter")
    return SGDSolver(make_net(folder, INITIAL), settings, [*INITIAL["fc1"], *INITIAL["fc2"]])


@pytest.mark.parametrize(("case", "parameters"), [("gradient", INITIAL), ("gradient-extreme", EXTREME)])
def test_loss_and_gradient_are_caffes(case, parameters, caffe, tmp_path):
    """Also where the loss is clamped at FLT_MIN: Caffe's gradient is that of the loss without the clamp."""
    net = make_net(tmp_path, parameters)
    tensors = [tensor.requires_grad_() for blobs in net.parameters.values() for tensor in blobs]
    inputs = {"data": torch.from_numpy(ROWS[:3]), "label": torch.from_numpy(LABELS[:3])}
    loss = net.forward(inputs, ["loss"])["loss"]
    assert relative_l2(loss.detach().numpy(), caffe(case).array("blobs/loss")) <= GRADIENT
    gradients = torch.autograd.grad(loss, tensors)
    assert caffe(case).names("gradients") == BLOBS
    for blob, gradient in zip(BLOBS, gradients, strict=True):
        assert relative_l2(gradient.numpy(), caffe(case).array(f"gradients/{blob}")) <= GRADIENT, blob


def test_extreme_case_reaches_the_clamp(caffe):
    """Guards the test above: some row's probability is below FLT_MIN."""
    scores = caffe("gradient-extreme").array("blobs/fc2").astype(np.float64)
    log_probability = scipy.special.log_softmax(scores, axis=1)[range(3), LABELS[:3]]
    assert log_probability.min() < np.log(np.finfo(np.float32).tiny) - 10


@pytest.mark.parametrize("name", SOLVERS)
def test_training_follows_caffes_solver(name, caffe, tmp_path):
    solver = make_solver(tmp_path, **SOLVERS[name])
    rows = hdf5_batches(len(ROWS), 3)
    expected_loss = caffe(name).array("per_iteration/loss")
    expected_rate = caffe(name).array("per_iteration/rate")
    for i in range(60):
        assert solver.rate() == expected_rate[i]
        batch = next(rows)
        np.testing.assert_array_equal(ROWS[batch], caffe(name).array("per_iteration/data")[i])
        loss = solver.step(torch.from_numpy(ROWS)[batch], torch.from_numpy(LABELS)[batch])
        assert loss == pytest.approx(float(expected_loss[i]), rel=TRAINED, abs=LOSS)
        assert solver.iteration == i + 1
        if solver.iteration in KEPT:
            for blob, parameter, history in zip(BLOBS, solver.parameters, solver.history, strict=True):
                for kind, tensor in (("parameters", parameter), ("history", history)):
                    expected = caffe(name).array(f"{solver.iteration}/{kind}/{blob}")
                    found = tensor.detach().numpy()
                    assert relative_l2(found, expected) <= TRAINED, (solver.iteration, kind, blob)


def test_rate_drops_at_multiples_of_the_stepsize(tmp_path):
    """The paper's schedule: base_lr 0.01, times 0.1 every 15,000 iterations, counted from 0."""
    solver = make_solver(tmp_path, base_lr=0.01, stepsize=15000)
    for iteration, rate in ((0, 1e-2), (14999, 1e-2), (15000, 1e-3), (29999, 1e-3), (30000, 1e-4), (31560, 1e-4)):
        solver.iteration = iteration
        assert solver.rate() == pytest.approx(rate, rel=1e-6)


@pytest.mark.parametrize(("n", "size"), [(7, 3), (5, 5), (3, 7), (6, 2), (5011, 1000)])
def test_batches_are_the_rows_in_order_again_and_again(n, size):
    batches = list(itertools.islice(hdf5_batches(n, size), 12))
    assert torch.cat(batches).tolist() == list(itertools.islice(itertools.cycle(range(n)), 12 * size))


@pytest.mark.parametrize("norm", NORMS)
def test_drawn_weights_are_normal_with_msras_variance_as_caffes_are(norm, caffe, tmp_path):
    write_files(tmp_path, {"net.prototxt": generate.transfer_deploy(SETTINGS | WIDE, 300)})
    net = CaffeNet(tmp_path / "net.prototxt")
    fc1, bias1, fc2, bias2 = draw_parameters(net, norm, seed=9)
    for layer, fan_in, fan_out, ours, bias in (("fc1", 300, 400, fc1, bias1), ("fc2", 400, 90, fc2, bias2)):
        n = {"FAN_IN": fan_in, "FAN_OUT": fan_out, "AVERAGE": (fan_in + fan_out) / 2}[norm]
        caffes = caffe(f"msra-{norm}").array(f"parameters_out/{layer}.0")
        for weights in (ours, caffes):
            assert weights.shape == (fan_out, fan_in)
            scaled = weights.ravel().astype(np.float64) / np.sqrt(2 / n)
            # 36,000 or more draws: the deviation's own standard error is 1/sqrt(2 x 36,000) = 0.4 %.
            assert scaled.std() == pytest.approx(1, abs=0.02)
            assert scipy.stats.kstest(scaled, "norm").pvalue > 1e-4
        assert bias.shape == (fan_out,) and not bias.any()
        assert not caffe(f"msra-{norm}").array(f"parameters_out/{layer}.1").any()


def trained(folder: Path, caffe: CaffeResult, isolated: bool, variation: str = "", engine: str = "") -> RunFolder:
    """The stage run beside what Caffe's solver left: from INITIAL, with snapshots after 20, 21 and 41 iterations."""
    spec = {"transfer": SETTINGS | {"snapshots": [20, 21, 41]}}
    earlier = {"features": {"lr_trainval": ROWS}, "pseudo_labels": {"labels": LABELS}}
    texts = {"transfer_train.prototxt": TRAIN_NET, "solver.prototxt": solver_text()}
    stage = make_stage(folder / "run", "transfer", spec, earlier, prototxts=texts)
    draws = make_stage(folder / "caffe", "transfer", spec)
    for output, blob in zip(transfer.PARAMETERS, BLOBS, strict=True):
        draws.out.array(f"{output}_initial", INITIAL[blob[:3]][int(blob[4:])])
        for iteration in (20, 21, 41):
            for name, kind in ((output, "parameters"), (f"{output}_history", "history")):
                draws.out.array(
                    f"snapshots/{iteration}/{name}", caffe.array(f"{iteration}/{kind}/{blob}").astype(np.float32)
                )
        draws.out.array(output, caffe.array(f"60/parameters/{blob}"))
    draws.out.array("loss", caffe.array("per_iteration/loss").astype(np.float32))
    draws.out.finish({})
    stage._draws = RunFolder(folder / "caffe")
    stage.variation, stage.engine = variation, engine
    if isolated:
        stage.inputs = RunFolder(folder / "run")  # another object than the run itself
    transfer.run(stage)
    drawn = {
        name: draws.out.outputs[name]["sha256"] for name in (f"{output}_initial" for output in transfer.PARAMETERS)
    }
    stage.out.finish({"key_parts": {"draws": drawn}})
    return RunFolder(folder / "run")


ENGINES = ["", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]


@pytest.mark.parametrize("engine", ENGINES)
def test_stage_keeps_losses_snapshots_and_both_ends(engine, tmp_path, caffe):
    """The stage from Caffe's initial weights: what it leaves is what Caffe's solver had."""
    expected = caffe("two drops of the rate")
    run = trained(tmp_path, expected, isolated=False, engine=engine)
    np.testing.assert_allclose(
        run.array("transfer", "loss"), expected.array("per_iteration/loss"), rtol=TRAINED, atol=LOSS
    )
    for output, blob in zip(("fc1_weight", "fc1_bias", "fc2_weight", "fc2_bias"), BLOBS, strict=True):
        np.testing.assert_array_equal(run.array("transfer", f"{output}_initial"), INITIAL[blob[:3]][int(blob[4:])])
        for iteration, name in ((20, f"snapshots/20/{output}"), (41, f"snapshots/41/{output}"), (60, output)):
            found = run.array("transfer", name)
            assert relative_l2(found, expected.array(f"{iteration}/parameters/{blob}")) <= TRAINED
        found = run.array("transfer", f"snapshots/41/{output}_history")
        assert relative_l2(found, expected.array(f"41/history/{blob}")) <= TRAINED


@pytest.mark.parametrize("engine", ENGINES)
def test_isolated_the_stage_goes_on_from_caffes_snapshots(engine, tmp_path, caffe):
    """After the segment from 20 to 21, and from 21 to 41, it has what Caffe had, the rate's drop at 20 included."""
    expected = caffe("two drops of the rate")
    run = trained(tmp_path, expected, isolated=True, engine=engine)
    for output, blob in zip(transfer.PARAMETERS, BLOBS, strict=True):
        for end in (21, 41):
            for name, kind in ((output, "parameters"), (f"{output}_history", "history")):
                found = run.array("transfer", f"segments/{end}/{name}")
                assert relative_l2(found, expected.array(f"{end}/{kind}/{blob}")) <= TRAINED
    # It starts there, and not from its own trajectory: the two differ in their last digits.
    own = [run.array("transfer", f"snapshots/41/{name}") for name in transfer.PARAMETERS]
    forced = [run.array("transfer", f"segments/41/{name}") for name in transfer.PARAMETERS]
    assert any((x != y).any() for x, y in zip(own, forced, strict=True))


class PyTorchsMomentum(SGDSolver):
    """The rate outside the history, as torch.optim.SGD has it."""

    def step(self, features, labels):
        before = self.settings.base_lr * self.settings.gamma ** (max(self.iteration - 1, 0) // self.settings.stepsize)
        for history in self.history:
            history.mul_(self.rate() / before)
        return super().step(features, labels)


class NoDecayOnBiases(SGDSolver):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.decay_mult = [1, 0, 1, 0]


class LateDrop(SGDSolver):
    """The rate of the iteration before."""

    def rate(self):
        self.iteration -= 1
        rate = super().rate() if self.iteration >= 0 else self.settings.base_lr
        self.iteration += 1
        return rate


@pytest.mark.parametrize("solver", [SGDSolver, PyTorchsMomentum, NoDecayOnBiases, LateDrop])
def test_the_comparison_tells_a_wrong_update_from_a_right_one(solver, tmp_path, caffe, monkeypatch):
    monkeypatch.setattr(transfer, "SGDSolver", solver)
    b = trained(tmp_path, caffe("two drops of the rate"), isolated=True)
    judge = Judge(read_tolerances(TOLERANCES), "isolated")
    checks = list(STAGE_CHECKS["transfer"](Pair(RunFolder(tmp_path / "caffe"), b, judge)))
    # INITIAL is drawn otherwise than by Caffe's fillers.
    checks = [check for check in checks if check.quantity not in ("initial_p", "initial_bias")]
    if solver is SGDSolver:
        assert [(check.item, check.value, check.detail) for check in checks if not check.agrees] == []
    else:
        # Found after one step from Caffe's state, ten times over the bound, whatever the trajectory does.
        step = max(check.value / check.allowed for check in checks if check.quantity == "step_history")
        assert step > 10
        assert not all(check.agrees for check in checks)


def test_the_reference_trains_in_float64(tmp_path, caffe):
    expected = caffe("two drops of the rate")
    plain = trained(tmp_path / "plain", expected, isolated=True)
    reference = trained(tmp_path / "reference", expected, isolated=True, variation="reference")
    names = [*transfer.PARAMETERS, "segments/21/fc1_weight", "segments/41/fc2_bias_history", "loss"]
    for name in names:
        found = reference.array("transfer", name)
        assert found.dtype == np.float64 and (found != found.astype(np.float32)).any()
        assert 0 < relative_l2(plain.array("transfer", name), found) <= TRAINED


@pytest.mark.parametrize("isolated", [False, True])
def test_in_bfloat16_products_are_rounded_and_all_else_is_float32(isolated, tmp_path, caffe):
    """An operand of a product is off by 2^-8 at most, of itself, and the update goes by weights of float32: rounded
    themselves, or of before an update, they would be off by more."""
    expected = caffe("two drops of the rate")
    run = trained(tmp_path, expected, isolated, engine="folded-bfloat16")
    folder = "segments/41" if isolated else "snapshots/41"
    for output, blob in zip(transfer.PARAMETERS, BLOBS, strict=True):
        found = run.array("transfer", f"{folder}/{output}")
        assert found.dtype == np.float32
        assert 10 * TRAINED < relative_l2(found, expected.array(f"41/parameters/{blob}")) < 0.02
    for name in (output, "loss"):
        found = run.array("transfer", name)
        assert found.dtype == np.float32 and (found != torch.tensor(found).bfloat16().float().numpy()).any()


def test_a_net_of_bfloat16_computes_with_rounded_copies_of_what_is_trained(tmp_path, monkeypatch):
    write_files(tmp_path, {"solver.prototxt": solver_text(), "net.prototxt": TRAIN_NET})
    settings = read_prototxt(tmp_path / "solver.prototxt", "SolverParameter")
    first_steps = []
    for rows_at_once in (1000, 2):  # the parameters have 7 and 4 rows
        monkeypatch.setattr(transfer, "ROWS_AT_ONCE", rows_at_once)
        shapes = {"data": (3, DIM), "label": (3,)}
        net = CaffeNet(tmp_path / "net.prototxt", shapes, transfer.arithmetic_by("folded-bfloat16"))
        solver = SGDSolver(net, settings, [*INITIAL["fc1"], *INITIAL["fc2"]])
        of_the_net = [*net.parameters["fc1"], *net.parameters["fc2"]]
        assert all(one is other for one, other in zip(of_the_net, solver.operands, strict=True))
        for rows in itertools.islice(hdf5_batches(len(ROWS), 3), 5):
            solver.step(torch.from_numpy(ROWS)[rows], torch.from_numpy(LABELS)[rows])
            for operand, parameter in zip(solver.operands, solver.parameters, strict=True):
                assert torch.equal(operand, parameter.bfloat16()) and not torch.equal(operand.float(), parameter)
            if solver.iteration == 1:  # later ones go by operands in which a last bit makes 2^-8
                first_steps.append({name: array.copy() for name, array in transfer.state_of(solver).items()})
    for name, array in first_steps[0].items():
        assert relative_l2(first_steps[1][name], array) <= GRADIENT, name


# By a process of its own: what was freed by others leaves room, which is taken first and is not given back then. The
# last array is greater, since small ones that lie behind the first may keep its room as well.
MEMORY = """
import resource
from pathlib import Path
import torch
from torch_impl import transfer

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

size = 2**26
before = resident()
with transfer.memory_kept():
    torch.ones(size // 4)
    kept = resident() - before
behind = resident() - before
torch.ones(2 * size // 4)
print(kept > 0.8 * size, behind < 0.2 * size, resident() - before < 0.2 * size)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library is told to keep memory")
def test_memory_is_kept_within_and_given_back_behind():
    found = subprocess.run([sys.executable, "-c", MEMORY], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["True", "True", "True"]


@pytest.mark.parametrize("engine", ["cuda", "cuda-bfloat16"])
def test_on_a_gpu_all_of_the_training_net_is_there(engine, tmp_path):
    """Without a GPU: fake tensors refuse to be computed with those of another device."""
    write_files(tmp_path, {"solver.prototxt": solver_text()})
    texts = {"transfer_train.prototxt": TRAIN_NET}
    stage = make_stage(tmp_path / "run", "transfer", {"transfer": SETTINGS}, prototxts=texts)
    stage.engine = engine
    with FakeTensorMode(allow_non_fake_inputs=True):
        net, _ = transfer.training_net(stage, DIM)
        settings = read_prototxt(tmp_path / "solver.prototxt", "SolverParameter")
        initial = [*INITIAL["fc1"], *INITIAL["fc2"]]
        for solver in (SGDSolver(net, settings, initial), SGDSolver(net, settings, initial * 2, 1)):
            for tensors, dtype in (
                (solver.parameters, torch.float32),
                (solver.history, torch.float32),
                (solver.operands, torch.bfloat16 if engine == "cuda-bfloat16" else torch.float32),
            ):
                assert {(tensor.device.type, tensor.dtype) for tensor in tensors} == {("cuda", dtype)}
        with torch.no_grad():  # PyTorch without CUDA cannot build a graph of its tensors
            found = net.forward({"data": torch.from_numpy(ROWS[:3]), "label": torch.from_numpy(LABELS[:3])}, ["loss"])
        assert found["loss"].device.type == "cuda"


@pytest.mark.parametrize("state", [[INITIAL["fc1"][0]], [np.zeros((7, DIM)), np.zeros(1), *INITIAL["fc2"]]])
def test_a_state_that_does_not_fit_the_net_is_refused(state, tmp_path):
    solver = make_solver(tmp_path)
    with pytest.raises((ValueError, RuntimeError)):
        SGDSolver(solver.net, solver.settings, state)


def test_an_engine_changes_the_training_only_where_it_rounds_or_is_a_gpus(monkeypatch):
    assert transfer.engine("folded-bfloat16", "") == {"engine": "folded-bfloat16"}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "some GPU")
    assert transfer.engine("cuda", "") == {"engine": "cuda", "gpu": "some GPU", "cuda": str(torch.version.cuda)}
    assert transfer.engine("cuda", "reference") == {}
    assert transfer.engine("auto", "") == transfer.engine("eager", "") == {}
    assert transfer.engine("folded-bfloat16", "reference") == {}  # the float64 that others are judged by


def test_chained_the_stage_has_no_segments(tmp_path, caffe):
    run = trained(tmp_path, caffe("two drops of the rate"), isolated=False)
    assert not any(name.startswith("segments/") for name in run.require_manifest("transfer")["outputs"])


def test_shuffling_is_refused(tmp_path):
    """std::random_shuffle cannot be followed."""
    text = TRAIN_NET.replace("batch_size: 3", "batch_size: 3 shuffle: true")
    earlier = {"features": {"lr_trainval": ROWS}, "pseudo_labels": {"labels": LABELS}}
    texts = {"transfer_train.prototxt": text, "solver.prototxt": solver_text()}
    stage = make_stage(tmp_path, "transfer", {"transfer": SETTINGS | {"snapshots": []}}, earlier, prototxts=texts)
    with user_error(tmp_path / "prototxt" / "transfer_train.prototxt", "shuffle"):
        transfer.run(stage)
