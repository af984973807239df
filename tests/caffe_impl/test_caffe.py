"""The stages that run Caffe, scikit-learn 0.23 and LIBSVM 3.24 in the container, against closed forms in float64."""

import numpy as np
import pytest

from tests.caffe_impl.conftest import SMALL

pytestmark = pytest.mark.caffe

PARAMETERS = ("fc1_weight", "fc1_bias", "fc2_weight", "fc2_bias")


def relative(found, expected):
    """Relative L2 difference."""
    return np.linalg.norm(np.asarray(found, np.float64) - expected) / np.linalg.norm(expected)


# ---------------------------------------------------------------- net


@pytest.mark.parametrize("name", ["good", "legacy", "extra"])
def test_a_caffemodel_that_fits_is_accepted(case, name):
    assert case("weights_that_do_not_fit")["found"][name] == "accepted"


def test_loaded_weights_are_the_saved_ones(case):
    assert case("weights_that_do_not_fit")["loaded_values_are_the_saved"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing", "layer bn3b_branch2b is not in it"),  # Caffe itself says nothing
        ("renamed", "layer conv1 is not in it"),
        ("shape", "layer fc5 has blob 0 of shape (6, 12) in it, not (5, 12)"),  # Caffe itself aborts here and below
        ("values", "layer scale_conv1 has blob 1 with 3 values"),
        ("count", "layer bn_conv1 has 2 blobs in it, not 3"),
        ("nan", "layer fc5 holds values that are not finite"),
        ("cut", "cut.caffemodel is not a whole caffemodel"),
        ("text", "backbone.prototxt is not a whole caffemodel"),
        ("absent", "absent.caffemodel cannot be read"),
    ],
)
def test_a_caffemodel_that_does_not_fit_is_refused_naming_file_and_layer(case, name, said):
    message = case("weights_that_do_not_fit")["found"][name]
    assert said in message and "caffe-cases" in message and "\n" not in message


# ---------------------------------------------------------------- features


def test_the_size_of_batches_changes_no_feature(case):
    results = case("feature_batches")
    alone = results["batch_1"]
    assert alone.shape == (7, 12) and alone.dtype == np.float32 and np.ptp(alone, axis=0).max() > 0
    for size in (2, 3, 7, 20):
        assert relative(results[f"batch_{size}"], alone) < 1e-6


def test_an_unknown_blob_and_images_of_another_size_are_refused(case):
    results = case("feature_batches")
    assert "features.blob = 'pool6'" in results["wrong_blob"]
    assert "(32, 31, 3)" in results["wrong_size"]


def test_the_net_sees_bgr_in_grey_levels_minus_the_mean(case):
    results = case("mean_subtraction")
    images = results["images"].astype(np.float64)
    by_channels = (images - results["channels"]).mean(axis=(1, 2))
    by_image = (images - results["mean_image"].transpose(1, 2, 0)).mean(axis=(1, 2))
    assert np.abs(results["by_channels"] - by_channels).max() < 1e-4
    assert np.abs(results["by_image"] - by_image).max() < 1e-4
    last = images[4:].transpose(0, 3, 1, 2) - results["channels"][:, None, None]
    assert np.abs(results["last_batch"] - last).max() < 1e-4


@pytest.mark.parametrize("name", ["mean_of_another_size", "mean_cut_short", "mean_absent"])
def test_a_mean_image_that_does_not_fit_is_refused(case, name):
    message = case("mean_subtraction")[name]
    assert message != "accepted" and "caffe-cases" in message and "\n" not in message


# ---------------------------------------------------------------- transfer


def train_in_float64(initial, rows, labels, settings):
    """Caffe's SGD written out: yields loss, weights and history after each iteration."""
    weights = {name: initial[name].astype(np.float64) for name in PARAMETERS}
    history = {name: np.zeros_like(weights[name]) for name in PARAMETERS}
    for iteration in range(settings["max_iter"]):
        batch = (iteration * settings["batch_size"] + np.arange(settings["batch_size"])) % len(rows)
        x, y = rows[batch].astype(np.float64), labels[batch]
        hidden = x @ weights["fc1_weight"].T + weights["fc1_bias"]
        active = np.maximum(hidden, 0)
        logits = active @ weights["fc2_weight"].T + weights["fc2_bias"]
        prob = np.exp(logits - logits.max(axis=1, keepdims=True))
        prob /= prob.sum(axis=1, keepdims=True)
        loss = -np.log(prob[np.arange(len(y)), y]).mean()
        d_logits = (prob - np.eye(settings["n2"])[y]) / len(y)
        d_hidden = (d_logits @ weights["fc2_weight"]) * (hidden > 0)
        gradient = {
            "fc1_weight": d_hidden.T @ x,
            "fc1_bias": d_hidden.sum(axis=0),
            "fc2_weight": d_logits.T @ active,
            "fc2_bias": d_logits.sum(axis=0),
        }
        lr = settings["base_lr"] * settings["gamma"] ** (iteration // settings["stepsize"])
        for name in PARAMETERS:
            bias = name.endswith("bias")
            decay = settings["weight_decay"] * (settings["bias_decay_mult"] if bias else 1)
            rate = lr * (settings["bias_lr_mult"] if bias else 1)
            history[name] = settings["momentum"] * history[name] + rate * (gradient[name] + decay * weights[name])
            weights[name] = weights[name] - history[name]
        yield loss, weights.copy(), history.copy()


def test_batches_wrap_and_the_update_follows_caffe_s_rule_over_two_lr_steps(case):
    results = case("five_rows")
    initial = {name: results[f"initial/{name}"] for name in PARAMETERS}
    expected = list(train_in_float64(initial, results["rows"], results["labels"], SMALL["transfer"]))
    assert results["loss"].shape == (10,) and results["loss"].dtype == np.float32
    for iteration, (loss, weights, history) in enumerate(expected, start=1):
        assert results["loss"][iteration - 1] == pytest.approx(loss, rel=1e-5)
        for name in PARAMETERS:
            assert relative(results[f"{iteration}/{name}"], weights[name]) < 1e-5
            assert relative(results[f"{iteration}/{name}_history"], history[name]) < 1e-4


def test_the_last_weights_are_the_last_snapshot_and_the_caffemodel(case):
    results = case("five_rows")
    for name in PARAMETERS:
        assert (results[f"final/{name}"] == results[f"10/{name}"]).all()
        assert results[f"final/{name}"].dtype == np.float32
    assert (results["saved/fc1_weight"] == results["final/fc1_weight"]).all()


def test_weights_that_are_given_are_started_from(case):
    assert (case("five_rows")["given/fc1_weight"] == np.float32(0.01)).all()


def test_training_that_is_stopped_after_every_iteration_goes_on_bit_for_bit(case):
    results = case("five_rows")  # batches of 3 of 5 rows: where HDF5Data stood is no multiple of anything
    for iteration in range(1, 11):
        for name in (*PARAMETERS, *(f"{name}_history" for name in PARAMETERS)):
            assert (results[f"resumed/{iteration}/{name}"] == results[f"{iteration}/{name}"]).all(), (iteration, name)


def test_training_leaves_its_inputs_and_returns_to_its_folder(case):
    results = case("five_rows")
    assert results["working_directory_kept"]
    assert results["left"] == [
        "solver.prototxt",
        "transfer_train.h5",
        "transfer_train.prototxt",
        "transfer_train.txt",
    ]


def test_a_diverging_loss_is_refused(case):
    results = case("divergence")
    assert "lower transfer.base_lr" in results["message"] and "\n" not in results["message"]
    assert results["working_directory_kept"]


@pytest.mark.parametrize("norm", ["FAN_IN", "FAN_OUT", "AVERAGE"])
def test_initial_weights_are_gaussian_of_the_msra_filler_s_spread(case, norm):
    results = case("filler")
    for name, outputs, inputs in (("fc1", 1000, 400), ("fc2", 200, 1000)):
        weight, bias = results[f"{norm}/1/{name}_weight"], results[f"{norm}/1/{name}_bias"]
        n = {"FAN_IN": inputs, "FAN_OUT": outputs, "AVERAGE": (inputs + outputs) / 2}[norm]
        assert weight.shape == (outputs, inputs) and (bias == 0).all()
        assert weight.std() == pytest.approx(np.sqrt(2 / n), rel=0.01)
        assert abs(weight.mean()) < 4 * np.sqrt(2 / n / weight.size)
        assert (np.abs(weight) < weight.std()).mean() == pytest.approx(0.6827, abs=0.005)  # of a Gaussian


def test_initial_weights_depend_on_the_seed_alone(case):
    results = case("filler")
    assert results["repeated"]
    assert (results["FAN_IN/1/fc1_weight"] != results["FAN_IN/2/fc1_weight"]).mean() > 0.99


def test_transferred_features_are_the_blobs_of_the_two_layers(case):
    results = case("transferred")
    rows = results["rows"].astype(np.float64)
    fc1 = np.maximum(rows @ results["fc1_weight"].T + results["fc1_bias"], 0)
    fc2 = fc1 @ results["fc2_weight"].T + results["fc2_bias"]
    prob = np.exp(fc2 - fc2.max(axis=1, keepdims=True))
    prob /= prob.sum(axis=1, keepdims=True)
    assert len(rows) == 1007
    for name, expected in (("fc1", fc1), ("fc2", fc2), ("prob", prob)):
        assert results[name].shape == expected.shape and relative(results[name], expected) < 1e-6


# ---------------------------------------------------------------- clusters


def lloyd(rows, centroids):
    """Assign and average until nothing moves."""
    while True:
        nearest = np.square(rows[:, None] - centroids).sum(axis=2).argmin(axis=1)
        moved = np.stack([rows[nearest == k].mean(axis=0) for k in range(len(centroids))])
        if (moved == centroids).all():
            return centroids, nearest
        centroids = moved


def test_kmeans_is_lloyd_s_algorithm_from_the_given_centroids(case):
    results = case("kmeans")
    rows = results["rows"].astype(np.float64)
    centroids, nearest = lloyd(rows, results["initial"].astype(np.float64))
    assert results["iterations"] > 3
    assert results["assignments"].dtype == np.int32 and (results["assignments"] == nearest).all()
    assert results["centroids"].dtype == np.float32 and relative(results["centroids"], centroids) < 1e-6
    assert results["inertia"] == pytest.approx(np.square(rows - centroids[nearest]).sum(), rel=1e-5)


def test_kmeans_stops_at_its_iteration_limit(case):
    results = case("kmeans")
    rows, initial = results["rows"].astype(np.float64), results["initial"].astype(np.float64)
    nearest = np.square(rows[:, None] - initial).sum(axis=2).argmin(axis=1)
    once = np.stack([rows[nearest == k].mean(axis=0) for k in range(6)])
    assert relative(results["one_iteration"], once) < 1e-6
    assert relative(results["one_iteration"], results["centroids"]) > 1e-3


# ---------------------------------------------------------------- svm

C = 0.5


def test_decision_values_are_the_hyperplane_of_the_dual(case):
    results = case("machines")
    normals = results["dual"] @ results["train"].astype(np.float64)
    expected = normals @ results["test"].T.astype(np.float64) - results["rho"][:, None]
    assert results["decision"].dtype == np.float64
    assert np.abs(results["decision"] - expected).max() < 1e-10


def test_the_dual_is_feasible_signed_by_the_label_and_zero_where_difficult(case):
    results = case("machines")
    dual, labels = results["dual"], results["labels"].T
    assert (dual[labels == 0] == 0).all() and (labels == 0).any(axis=1).all()
    assert (dual * labels >= 0).all() and (np.abs(dual) <= C + 1e-12).all()
    assert np.abs(dual.sum(axis=1)).max() < 1e-10
    assert set(labels[:, 0]) == {1, -1, 0}  # whichever label LIBSVM meets first


def test_the_machine_is_optimal(case):
    # Karush, Kuhn and Tucker: margin over 1 only without, under 1 only with all, of its alpha.
    results = case("machines")
    train = results["train"].astype(np.float64)
    for dual, rho, labels in zip(results["dual"], results["rho"], results["labels"].T, strict=True):
        margin = (train @ (dual @ train) - rho) * labels
        alpha = np.abs(dual)
        assert (alpha[(labels != 0) & (margin > 1 + 1e-5)] == 0).all()
        assert (alpha[(labels != 0) & (margin < 1 - 1e-5)] == C).all()
        assert ((alpha > 0) & (alpha < C)).any()


def test_the_objective_meets_the_primal_s(case):
    results = case("machines")
    train = results["train"].astype(np.float64)
    for dual, rho, labels, objective in zip(
        results["dual"], results["rho"], results["labels"].T, results["objective"], strict=True
    ):
        normal = dual @ train
        hinge = np.maximum(0, 1 - (train @ normal - rho) * labels)[labels != 0].sum()
        assert -objective == pytest.approx(0.5 * normal @ normal + C * hinge, rel=1e-6)


def test_training_in_threads_changes_nothing(case):
    assert case("machines")["threads_change_nothing"]


# ---------------------------------------------------------------- resnet101, images


def test_seeded_weights_keep_every_blob_of_resnet101_finite_and_alive(case):
    results = case("seeded_resnet101")
    assert len(results["spread"]) > 100
    for name, greatest in results["greatest"].items():
        assert np.isfinite(greatest) and greatest < 1e4, name
        assert results["spread"][name] > 0, name
    assert results["prob"].sum() == pytest.approx(1, abs=1e-5)
    assert results["prob"].max() < 0.5


def test_batchnorm_s_third_blob_is_not_one(case):
    assert case("seeded_resnet101")["factors"] == [pytest.approx(999.98)]


def test_seeded_weights_depend_on_the_seed_alone(case):
    results = case("seeded_resnet101")
    assert results["same_seed_same_weights"]
    assert results["other_seed_other_weights"] > 0.95


def test_the_container_s_opencv_takes_a_jpeg_cut_short_for_an_image(case):
    # The reason why images.is_whole_jpeg walks the markers.
    results = case("jpeg_cut_short")
    assert results["cut"].shape == results["whole"].shape
    assert (results["cut"] != results["whole"]).any()
