"""The linear SVM against scikit-learn's, the conditions that its optimum must meet, and a closed form."""

import ctypes

import numpy as np
import pytest
from libsvm import svmutil
from sklearn.svm import SVC

from experiment.artifacts import RunFolder
from tests.conftest import make_stage, user_error
from torch_impl import svm
from torch_impl.svm import Kernel, train

RANDOM = np.random.default_rng(8)
TIGHT = 1e-8  # so that where the solver stops does not matter
LIBSVM = 1e-4  # it holds the kernel matrix in float32: C = 100 times 80 rows times 6e-8 is the most that can add up


def problem(
    n: int, dimensions: int, first: int, overlap: float = 1.0, random: np.random.Generator = RANDOM
) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n, d) of two overlapping clouds, and labels 1 and -1, the first of them `first`."""
    labels = random.choice([1, -1], n)
    labels[0] = first
    rows = random.normal(0, 1, (n, dimensions)) + labels[:, None] / overlap / dimensions**0.5
    return rows, labels


PROBLEMS = {
    "first row positive": (*problem(60, 5, 1), 1.0),
    "first row negative": (*problem(60, 5, -1), 1.0),
    "great c": (*problem(80, 3, 1), 100.0),
    "small c": (*problem(80, 3, -1), 0.01),
    "more dimensions than rows": (*problem(30, 200, 1), 1.0),
    "few positives": (
        RANDOM.normal(0, 1, (73, 4)) + np.repeat([[1], [-1]], [3, 70], 0),
        np.repeat([1, -1], [3, 70]),
        1.0,
    ),
}


def decide(model: svm.LinearSVM, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Decision values of `others`, from the dual form."""
    return others @ rows.T @ model.dual - model.rho


@pytest.mark.parametrize("name", PROBLEMS)
def test_decision_values_are_scikit_learns(name):
    rows, labels, c = PROBLEMS[name]
    others = RANDOM.normal(0, 1, (50, rows.shape[1]))
    model = train(Kernel(rows @ rows.T), labels, c, TIGHT)
    expected = SVC(C=c, kernel="linear", tol=TIGHT).fit(rows, labels)
    np.testing.assert_allclose(
        decide(model, rows, others), expected.decision_function(others), rtol=LIBSVM, atol=LIBSVM
    )
    dual = np.zeros(len(labels))
    dual[expected.support_] = expected.dual_coef_[0]
    np.testing.assert_allclose(rows.T @ model.dual, rows.T @ dual, rtol=1e-5, atol=1e-6)


def test_decision_values_are_libsvms_from_rows():
    """To 1e-6 at a tolerance of 1e-6, one kernel for two classes that leave out other rows each."""
    random = np.random.default_rng(9)
    rows, labels = problem(300, 20, 1, overlap=2.0, random=random)
    others = random.normal(0, 1, (50, 20))
    kernel = Kernel(rows @ rows.T)
    for left_out in (np.arange(0, 300, 7), np.arange(1, 300, 5)):
        y = labels.copy()
        y[left_out] = 0
        used = np.flatnonzero(y)
        model = svmutil.svm_train(y[used].tolist(), rows[used].tolist(), "-s 0 -t 0 -c 1 -e 1e-6 -q")
        values = svmutil.svm_predict([], others.tolist(), model, "-q")[2]
        expected = model.get_labels()[0] * np.array(values)[:, 0]
        np.testing.assert_allclose(decide(train(kernel, y, 1.0, 1e-6), rows, others), expected, rtol=0, atol=1e-6)


def test_a_class_copies_nothing_of_the_kernel():
    rows, labels = problem(50, 4, 1, random=np.random.default_rng(9))
    kernel = Kernel(rows @ rows.T)
    used = np.array([0, 3, 49])
    problem_of_three = kernel.problem(used, labels[used])
    first, end = kernel.nodes.ctypes.data, kernel.nodes.ctypes.data + kernel.nodes.nbytes
    for i, row in enumerate(used):
        nodes = problem_of_three.x[i]
        assert first <= ctypes.addressof(nodes.contents) < end
        assert [nodes[int(problem_of_three.x[j][0].value)].value for j in range(3)] == kernel.gram[row, used].tolist()


@pytest.mark.parametrize("name", PROBLEMS)
def test_solution_meets_the_conditions_of_the_optimum(name):
    """Karush-Kuhn-Tucker: they hold at the one optimum and nowhere else."""
    rows, labels, c = PROBLEMS[name]
    model = train(Kernel(rows @ rows.T), labels, c, TIGHT)
    alpha = labels * model.dual
    assert alpha.min() >= 0 and alpha.max() <= c * (1 + 1e-12)
    assert model.dual.sum() == pytest.approx(0, abs=1e-9 * c)
    margins = labels * decide(model, rows, rows)
    assert (margins[alpha == 0] >= 1 - LIBSVM).all()
    assert (margins[alpha == c] <= 1 + LIBSVM).all()
    free = (alpha > 0) & (alpha < c)
    assert free.any()
    np.testing.assert_allclose(margins[free], 1, atol=LIBSVM)
    weight = rows.T @ model.dual
    assert model.objective == pytest.approx(0.5 * weight @ weight - alpha.sum(), rel=1e-9)
    # No gap: the primal objective, which is 1/2 |w|^2 + C times the hinge losses, is minus the dual's.
    primal = 0.5 * weight @ weight + c * np.maximum(0, 1 - margins).sum()
    assert primal == pytest.approx(-model.objective, rel=1e-4)


@pytest.mark.parametrize("c", [1.0, 0.01])
@pytest.mark.parametrize("labels", [(1, -1), (-1, 1)])
def test_two_points_by_hand(labels, c):
    """At distance d: alpha = min(C, 2 / d^2), and the boundary is half way, whichever comes first in the data."""
    rows = np.array([[1.0, 0], [4.0, 4.0]])  # d = 5
    model = train(Kernel(rows @ rows.T), np.array(labels), c, TIGHT)
    alpha = min(c, 2 / 25)
    np.testing.assert_allclose(model.dual, np.array(labels) * alpha, rtol=1e-9)
    assert decide(model, rows, rows.mean(0, keepdims=True))[0] == pytest.approx(0, abs=1e-9)
    assert decide(model, rows, rows[[labels.index(1)]])[0] == pytest.approx(alpha * 25 / 2)
    assert model.objective == pytest.approx(0.5 * alpha**2 * 25 - 2 * alpha)


@pytest.mark.parametrize("first", [1, -1])
def test_difficult_rows_are_left_out(first):
    rows, labels = problem(50, 4, first)
    difficult = RANDOM.random(50) < 0.3
    difficult[0] = True
    model = train(Kernel(rows @ rows.T), np.where(difficult, 0, labels), 1.0, TIGHT)
    assert not model.dual[difficult].any()
    expected = SVC(C=1.0, kernel="linear", tol=TIGHT).fit(rows[~difficult], labels[~difficult])
    np.testing.assert_allclose(decide(model, rows, rows), expected.decision_function(rows), rtol=LIBSVM, atol=LIBSVM)


@pytest.mark.parametrize(
    ("labels", "says"),
    [((1, 1, 0), "negative"), ((-1, -1, 0), "positive"), ((0, 0, 0), "positive"), ((0, 1, 0), "neg")],
)
def test_class_without_both_labels_is_refused(labels, says):
    with user_error("class cow", says):
        train(Kernel(np.eye(3)), np.array(labels, np.int8), 1.0, 1e-3, "cow")


N, TESTS = 40, 9


def table_of(random):
    """What the stage reads: rows of HR, LR and transferred features, and the labels of two classes."""
    labels = np.where(random.random((N, 2)) < 0.5, 1, -1).astype(np.int8)
    labels[3, 1] = 0
    features = {
        name: random.normal(0, 1, (N if name.endswith("trainval") else TESTS, 6)).astype(np.float32)
        for name in ("hr_trainval", "lr_trainval", "hr_test", "lr_test")
    }
    transferred = {"trainval": features["lr_trainval"][:, :3] * 2, "test": features["lr_test"][:, :3] * 2}
    return {
        "index": {"labels_trainval": labels, "classes": ["cat", "cow"]},
        "features": features,
        "transfer_features": transferred,
    }


@pytest.mark.parametrize("scale", ["none", "mean_norm"])
def test_stage_trains_each_class_on_each_row_of_the_table(tmp_path, scale):
    n, tests = N, TESTS
    earlier = table_of(RANDOM)
    labels, features, transferred = (
        earlier["index"]["labels_trainval"],
        earlier["features"],
        earlier["transfer_features"],
    )
    stage = make_stage(tmp_path, "svm", {"svm": {"scale": scale, "c": 1.0, "tolerance": TIGHT}}, earlier)
    svm.run(stage)
    stage.out.finish({})
    run = RunFolder(tmp_path)
    for row, train_rows, test_rows in (
        ("baseline_hr", features["hr_trainval"], features["hr_test"]),
        ("baseline_lr", features["lr_trainval"], features["lr_test"]),
        ("ours", transferred["trainval"], transferred["test"]),
    ):
        if scale == "mean_norm":
            length = sum(float(np.sqrt((row.astype(float) ** 2).sum())) for row in train_rows) / n
            train_rows, test_rows = train_rows / length, test_rows / length
        decisions, dual = run.array("svm", row), run.array("svm", f"{row}_dual")
        assert decisions.shape == (tests, 2) and dual.shape == (2, n) and decisions.dtype == np.float64
        for i, name in enumerate(("cat", "cow")):
            used = labels[:, i] != 0
            model = SVC(C=1.0, kernel="linear", tol=TIGHT).fit(train_rows[used].astype(float), labels[used, i])
            expected = model.decision_function(test_rows.astype(float))
            np.testing.assert_allclose(decisions[:, i], expected, rtol=1e-4, atol=1e-4)
            summary = run.json("svm", "summary")[row][name]
            assert summary["support_vectors"] == len(model.support_) == np.count_nonzero(dual[i])
            assert summary["rho"] == pytest.approx(-model.intercept_[0], abs=1e-4)


def test_baselines_of_the_same_features_are_trained_once_where_they_are_shared(tmp_path, monkeypatch):
    earlier = table_of(np.random.default_rng(7))
    trained = []
    monkeypatch.setattr(svm, "train", lambda *arguments: trained.append(arguments) or train(*arguments))

    def rows(name, inputs, **settings):
        spec = {"svm": {"scale": "none", "c": 1.0, "tolerance": TIGHT, **settings}}
        stage = make_stage(tmp_path / name, "svm", spec, inputs)
        trained.clear()
        svm.run(stage)
        stage.out.finish({})
        run = RunFolder(tmp_path / name)
        return [run.array("svm", row) for row in ("baseline_hr", "baseline_lr", "ours")]

    first = rows("alone", earlier)
    with svm.sharing_baselines():
        assert all(map(np.array_equal, rows("first", earlier), first)) and len(trained) == 3 * 2
        transferred = {split: values * 3 for split, values in earlier["transfer_features"].items()}
        second = rows("second", earlier | {"transfer_features": transferred})
        assert len(trained) == 2  # of Ours alone
        assert np.array_equal(first[0], second[0]) and np.array_equal(first[1], second[1])
        assert not np.array_equal(first[2], second[2])
        features = earlier["features"] | {"lr_test": earlier["features"]["lr_test"] + 1}
        assert not np.array_equal(rows("other features", earlier | {"features": features})[1], first[1])
        assert len(trained) == 2 * 2
        features = earlier["features"] | {"lr_trainval": earlier["features"]["lr_trainval"] + 1}
        rows("other trainval", earlier | {"features": features})
        assert len(trained) == 2 * 2
        labels = earlier["index"]["labels_trainval"].copy()
        labels[0] *= -1
        for name, inputs, settings in (
            ("labels", earlier | {"index": earlier["index"] | {"labels_trainval": labels}}, {}),
            ("C", earlier, {"c": 2.0}),
            ("scale", earlier, {"scale": "mean_norm"}),
            ("tolerance", earlier, {"tolerance": 2 * TIGHT}),
        ):
            rows(f"other {name}", inputs, **settings)
            assert len(trained) == 3 * 2, name
    rows("alone again", earlier)
    assert len(trained) == 3 * 2
