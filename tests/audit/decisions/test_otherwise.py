"""Stages that run otherwise, against scikit-learn, PyTorch's own optimizer, OpenCV and sums written out."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score
from sklearn.svm import SVC

from audit.decisions.decisions import read_decisions
from audit.decisions.effects import resampled_area
from audit.decisions.otherwise import features, images, svms, training
from audit.decisions.otherwise.changes import CHANGES
from audit.decisions.otherwise.replacing import first_half, replaced, seen
from audit.decisions.variants import Variant, bring_up_to_date, prepare
from experiment.artifacts import RunFolder
from experiment.stage_writer import StageWriter
from experiment.stages import STAGES
from tests.small_devkit import small_devkit
from tests.small_run import small_run
from torch_impl import caffe_net, clusters, svm, transfer
from torch_impl import features as stage_features
from torch_impl import images as stage_images
from torch_impl.caffe_net import CaffeNet
from torch_impl.caffe_proto import read_prototxt

ALTERNATIVES = {one.otherwise: one for decision in read_decisions() for one in decision.alternatives if one.otherwise}


def image(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def cubic(rows, size):
    """Four taps with a = -0.75 of float64 rows (n, ...) to (size, ...), the first axis alone, edges repeated."""
    n, found = len(rows), []
    for i in range(size):
        x = (i + 0.5) * n / size - 0.5
        whole = int(np.floor(x))
        total = 0.0
        for tap in range(whole - 1, whole + 3):
            d = abs(x - tap)
            weight = 1.25 * d**3 - 2.25 * d**2 + 1 if d <= 1 else -0.75 * (d**3 - 5 * d**2 + 8 * d - 4)
            total = total + weight * rows[min(max(tap, 0), n - 1)]
        found.append(total)
    return np.array(found)


def cubic_2d(pixels, size):
    return cubic(cubic(pixels.astype(np.float64), size).swapaxes(0, 1), size).swapaxes(0, 1)


def pair(change, pixels, hr=24, lr=6):
    with change():
        return stage_images.make_pair(pixels, hr, lr)


def test_every_change_is_an_alternative_and_the_other_way_round():
    assert set(ALTERNATIVES) == set(CHANGES)
    folders = {one.folder: one for decision in read_decisions() for one in decision.alternatives}
    for change in CHANGES.values():
        assert change.stages and set(change.stages) <= set(STAGES)
        assert not change.uses or folders[change.uses].devkit


def test_an_unrounded_kernel_gives_the_rounded_sum_of_the_exact_weights():
    pixels = image(19, 31)
    hr, _ = pair(images.unrounded, pixels)
    exact = cubic_2d(pixels, 24)
    clear = np.abs(exact - np.floor(exact) - 0.5) > 1e-6  # where rounding is not a tie
    assert np.array_equal(hr[clear], np.rint(exact).clip(0, 255).astype(np.uint8)[clear]) and clear.mean() > 0.99
    assert (hr != stage_images.make_pair(pixels, 24, 6)[0]).any()


def test_real_grey_levels_are_rounded_once_and_hr_stays():
    pixels = image(48, 48, 1)
    hr, lr = pair(images.real_grey_levels, pixels)
    plain_hr, plain_lr = stage_images.make_pair(pixels, 24, 6)
    assert np.array_equal(hr, plain_hr) and (lr != plain_lr).any()
    # The stage's weights are rounded to 1/2048: a grey level of 255 moves by at most 8 half units of it.
    assert np.abs(lr - cubic_2d(cubic_2d(pixels, 6), 24).clip(0, 255)).max() < 0.5 + 0.6


@pytest.mark.parametrize("change", [images.bilinear_up, images.area_down, images.real_grey_levels])
def test_lr_is_made_from_what_the_specification_says(change):
    """D17, D1: from the HR image, and with the kernel that widens, where a run has them."""
    pixels = image(40, 48, 4)
    hr = stage_images.bicubic_antialiased(torch.from_numpy(pixels), 24).numpy()
    with change():
        found_hr, from_hr = stage_images.make_pair(pixels, 24, 6, "hr", True)
        _, of_hr = stage_images.make_pair(hr, 24, 6, "original", True)
        _, plain = stage_images.make_pair(pixels, 24, 6, "original", True)
        _, four_taps = stage_images.make_pair(pixels, 24, 6)
    assert np.array_equal(found_hr, hr) and np.array_equal(from_hr, of_hr)
    assert (from_hr != plain).any() and (plain != four_taps).any()
    # What stays of the stage's own: rounding in between or one of both kernels moves LR by a few grey levels alone.
    assert np.abs(plain - stage_images.make_pair(pixels, 24, 6, "original", True)[1].astype(int)).mean() < 12


def test_nearest_up_repeats_pixels_of_the_small_image():
    pixels = image(48, 48, 3)
    hr, lr = pair(images.nearest_up, pixels)
    small = stage_images.bicubic_four_taps(torch.from_numpy(pixels), 6).numpy()
    assert np.array_equal(lr, np.repeat(np.repeat(small, 4, 0), 4, 1))
    assert np.array_equal(hr, stage_images.make_pair(pixels, 24, 6)[0])


def test_area_down_is_the_mean_of_blocks_and_bilinear_up_that_of_neighbours():
    blocks = np.repeat(np.repeat(image(6, 6, 2), 8, 0), 8, 1)  # 48 x 48, constant in blocks of 8
    with images.area_down():
        _, lr = stage_images.make_pair(blocks, 24, 6)
    assert np.array_equal(lr, images.own(False)(blocks[::8, ::8], 24))
    pixels = image(48, 48, 3)
    _, lr = pair(images.bilinear_up, pixels)
    small = torch.from_numpy(images.own(False)(pixels, 6)).permute(2, 0, 1)[None].double()
    expected = F.interpolate(small, (24, 24), mode="bilinear", align_corners=False)[0].permute(1, 2, 0).numpy()
    assert np.abs(lr - expected).max() <= 1  # OpenCV's bilinear rounds its weights to 1/2048


def test_the_mirror_image_counts_as_much_as_the_image(root):
    run = RunFolder(root / "torch")
    net = CaffeNet(run.prototxt("backbone.prototxt")).load(Path(run.spec["external"]["weights"]["path"]))
    pixels = np.array(run.array("images", "hr_trainval")[:5])
    mean = np.array([103, 116, 123], np.float32)

    def extracted(batch):
        found = np.empty((len(batch), *stage_features.feature_shape(net, "pool5")), np.float32)
        stage_features.extract(net, batch, mean, "pool5", found, [slice(0, 3), slice(3, len(batch))])
        return found

    with features.mirrored_too():
        found = extracted(pixels)
    assert np.allclose(found, (extracted(pixels) + extracted(pixels[:, :, ::-1])) / 2, rtol=1e-5, atol=1e-6)
    assert not np.allclose(found, extracted(pixels), rtol=1e-3)


def test_pooled_sizes_are_rounded_down(root):
    prototxt = RunFolder(root / "torch").prototxt("backbone.prototxt")
    ceil = CaffeNet(prototxt).blob_shapes["pool1"]
    with features.pooling_rounded_down():
        floor = CaffeNet(prototxt).blob_shapes["pool1"]
    conv1 = CaffeNet(prototxt).blob_shapes["conv1"]
    assert ceil[2] == -(-(conv1[2] - 3) // 2) + 1 and floor[2] == (conv1[2] - 3) // 2 + 1
    assert CaffeNet(prototxt).blob_shapes["pool1"] == ceil  # it is over


def test_a_batch_norm_whose_blob_2_is_ignored_takes_the_sums(root):
    prototxt = RunFolder(root / "torch").prototxt("backbone.prototxt")
    layer = next(one for one in read_prototxt(prototxt).layer if one.type == "BatchNorm")
    x, mean, variance = torch.randn(2, 3, 4, 4), torch.tensor([1.0, 2, 3]), torch.tensor([4.0, 5, 6])
    with features.blob_2_ignored():
        found = caffe_net.LAYERS["BatchNorm"](layer, [x], [mean, variance, torch.tensor([2.0])])
    expected = (x - mean.view(3, 1, 1)) / (variance.view(3, 1, 1) + 1e-5).sqrt()
    assert torch.allclose(found, expected, atol=1e-5)
    assert caffe_net.LAYERS["BatchNorm"] is caffe_net.batch_norm


def run_of(root, alternative, seed=1):
    """An alternative's finished run beside RUN/torch, and the base's of the same seed."""
    base, one = Variant(root, seed), Variant(root, seed, alternative)
    for variant in (base, one):
        assert prepare(variant) == "" and bring_up_to_date(variant) == "" and variant.is_finished()
    return one, base.run, one.run


def rows_of(run, *names):
    return [np.array(run.array("features", name), np.float64) for name in names]


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_clusters_of_unit_rows_are_told_apart_by_unit_rows(root):
    _, base, run = run_of(root, ALTERNATIVES["clusters_of_unit_rows"])
    hr, lr = map(unit, rows_of(run, "hr_trainval", "lr_trainval"))
    centroids, assigned = np.array(run.array("clusters", "centroids")), run.array("clusters", "assignments")
    for k, centroid in enumerate(centroids):
        assert np.allclose(centroid, hr[assigned == k].mean(axis=0), atol=1e-6)
    nearest = ((lr[:, None] - centroids[None]) ** 2).sum(2).argmin(1)
    assert np.array_equal(run.array("pseudo_labels", "labels"), nearest)
    assert run.json("clusters", "summary") != base.json("clusters", "summary")


@pytest.mark.parametrize("init", ["random", "k-means++"])
def test_of_ten_starts_the_best_is_taken_drawn_as_the_run_draws(init):
    rows = torch.randn(60, 5, generator=torch.Generator().manual_seed(3))

    def inertia(start):
        return clusters.kmeans(rows, start, 300, 0.0)[2]

    each = [inertia(clusters.draw_centroids(rows, 6, init, seed)) for seed in (7, *range(21, 30))]
    with training.ten_starts(2, {"max_iter": 300, "tolerance": 0.0}):
        best = clusters.draw_centroids(rows, 6, init, 7)
    assert inertia(best) == min(each) < each[0] and best.dtype == rows.dtype


@pytest.mark.parametrize("name", ["input_of_unit_rows", "standardised_input"])
def test_the_networks_input_is_scaled_and_the_svms_is_not(root, name):
    _, base, run = run_of(root, ALTERNATIVES[name])
    train, test = rows_of(run, "lr_trainval", "lr_test")
    if name == "standardised_input":
        spread = train.std(axis=0)
        train, test = ((rows - train.mean(axis=0)) / np.where(spread > 0, spread, 1) for rows in (train, test))
    else:
        train, test = unit(train), unit(test)
    w1, b1, w2, b2 = (np.array(run.array("transfer", p), np.float64) for p in transfer.PARAMETERS)
    for split, rows in (("trainval", train), ("test", test)):
        expected = np.maximum(rows @ w1.T + b1, 0) @ w2.T + b2
        assert np.allclose(run.array("transfer_features", split), expected, rtol=1e-3, atol=1e-3)
    assert_first_loss_of(run, train)
    assert np.array_equal(run.array("svm", "baseline_lr"), base.array("svm", "baseline_lr"))


def test_without_relu_the_network_is_affine(root):
    _, _, run = run_of(root, ALTERNATIVES["no_relu"])
    (lr,) = rows_of(run, "lr_test")
    w1, b1, w2, b2 = (np.array(run.array("transfer", p), np.float64) for p in transfer.PARAMETERS)
    expected = (lr @ w1.T + b1) @ w2.T + b2
    assert np.allclose(run.array("transfer_features", "test"), expected, rtol=1e-3, atol=1e-3)


def solver(run, batch=10):
    """The stage's solver as it stands in the module now, on a run's network, with its rows and labels."""
    shapes = {"data": (batch, run.array("features", "lr_trainval").shape[1]), "label": (batch,)}
    net = CaffeNet(run.prototxt("transfer_train.prototxt"), shapes)
    initial = [run.array("transfer", f"{name}_initial") for name in transfer.PARAMETERS]
    settings = read_prototxt(run.prototxt("solver.prototxt"), "SolverParameter")
    rows, labels = run.array("features", "lr_trainval"), run.array("pseudo_labels", "labels")
    return (
        transfer.SGDSolver(net, settings, initial),
        torch.from_numpy(np.array(rows)),
        torch.from_numpy(np.array(labels)),
    )


def test_with_the_rate_outside_it_is_pytorchs_sgd(root):
    run = RunFolder(root / "torch")
    with training.rate_outside():
        ours, rows, labels = solver(run)
        parameters = [
            torch.from_numpy(np.array(run.array("transfer", f"{name}_initial"))).requires_grad_()
            for name in transfer.PARAMETERS
        ]
        theirs = torch.optim.SGD(
            parameters, lr=ours.settings.base_lr, momentum=ours.settings.momentum, weight_decay=5e-4
        )
        drops = torch.optim.lr_scheduler.StepLR(theirs, ours.settings.stepsize, ours.settings.gamma)
        assert ours.settings.weight_decay == pytest.approx(5e-4) and ours.settings.max_iter > ours.settings.stepsize
        for batch, _ in zip(transfer.hdf5_batches(len(rows), 10), range(ours.settings.max_iter), strict=False):
            ours.step(rows[batch], labels[batch])
            w1, b1, w2, b2 = parameters
            theirs.zero_grad()
            F.cross_entropy(
                F.linear(torch.relu(F.linear(rows[batch], w1, b1)), w2, b2), labels[batch].long()
            ).backward()
            theirs.step()
            drops.step()
    for one, other in zip(ours.parameters, parameters, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


def test_dropout_drops_half_and_goes_on_as_if_it_never_stopped(root):
    run = RunFolder(root / "torch")
    with training.dropout(4):
        whole, rows, labels = solver(run)
        losses = [whole.step(rows[:10], labels[:10]) for _ in range(6)]
        first, *_ = solver(run)
        for _ in range(3):
            first.step(rows[:10], labels[:10])
        torch.rand(7)  # others draw in between
        rest = type(first)(first.net, first.settings, list(transfer.state_of(first).values()), 3)
        assert [rest.step(rows[:10], labels[:10]) for _ in range(3)] == losses[3:]
        layer = next(one for one in whole.net.layers if one.type == "ReLU")
        ones = caffe_net.LAYERS["ReLU"](layer, [torch.ones(200, 200)], [])
    assert set(ones.unique().tolist()) == {0.0, 2.0} and abs((ones == 0).float().mean() - 0.5) < 0.01


def test_the_loss_without_a_clamp_is_pytorchs(root):
    layer = next(
        one for one in read_prototxt(RunFolder(root / "torch").prototxt("transfer_train.prototxt")).layer
        if one.type == "SoftmaxWithLoss"
    )  # fmt: skip
    scores, labels = torch.tensor([[0.0, 200.0]]), torch.tensor([0.0])
    assert caffe_net.LAYERS["SoftmaxWithLoss"](layer, [scores, labels], []).item() == pytest.approx(87.3365, abs=1e-3)
    with training.loss_unclamped():
        assert caffe_net.LAYERS["SoftmaxWithLoss"](layer, [scores, labels], []).item() == 200


@pytest.mark.parametrize(
    "change, expected",
    [
        (training.last_batch_dropped, [[0, 1, 2], [3, 4, 5], [0, 1, 2], [3, 4, 5]]),
        (training.last_batch_shortened, [[0, 1, 2], [3, 4, 5], [6], [0, 1, 2]]),
    ],
)
def test_the_last_batch_is_dropped_or_shortened(change, expected):
    with change():
        for start in range(3):
            batches = transfer.hdf5_batches(7, 3, start)
            assert [next(batches).tolist() for _ in range(4 - start)] == expected[start:]
        assert next(transfer.hdf5_batches(2, 3)).tolist() == [0, 1]  # fewer rows than a batch has


def assert_trained_on(run, hr, lr):
    """Clusters, pseudo-labels and the first loss are those of these rows, (n, D) each."""
    assigned, centroids = run.array("clusters", "assignments"), np.array(run.array("clusters", "centroids"))
    for k, centroid in enumerate(centroids):
        assert np.allclose(centroid, hr[assigned == k].mean(axis=0), atol=1e-5)
    nearest = ((lr[:, None] - centroids[None]) ** 2).sum(2).argmin(1)
    assert np.array_equal(run.array("pseudo_labels", "labels"), nearest)
    assert_first_loss_of(run, lr)


def assert_first_loss_of(run, rows):
    """The loss before the first step is that of the first batch of these rows."""
    w1, b1, w2, b2 = (np.array(run.array("transfer", f"{p}_initial"), np.float64) for p in transfer.PARAMETERS)
    scores = torch.from_numpy(np.maximum(rows[:10] @ w1.T + b1, 0) @ w2.T + b2)
    labels = torch.from_numpy(np.array(run.array("pseudo_labels", "labels"))[:10]).long()
    assert run.array("transfer", "loss")[0] == pytest.approx(F.cross_entropy(scores, labels).item(), rel=1e-4)


def test_halves_share_no_image(root):
    _, base, run = run_of(root, ALTERNATIVES["halves"])
    half = first_half(24)
    assert len(set(half.tolist())) == 12 and (np.diff(half) > 0).all() and len(set(np.diff(half).tolist())) > 1
    hr, lr = (rows[half] for rows in rows_of(run, "hr_trainval", "lr_trainval"))
    assert_trained_on(run, hr, lr)
    for row in ("baseline_hr", "baseline_lr", "ours"):
        dual = np.array(run.array("svm", f"{row}_dual"))
        assert not dual[:, half].any() and np.delete(dual, half, axis=1).any()
    assert base.array("svm", "baseline_lr_dual")[:, half].any()


def by_scikit_learn(run, train, test, **others):
    """Decision values (m, C) of scikit-learn's SVC on rows as they are given."""
    labels = np.array(run.array("index", "labels_trainval"))
    columns = []
    for column in labels.T:
        machine = SVC(C=run.spec["values"]["svm"]["c"], tol=1e-8, **others)
        columns.append(machine.fit(train[column != 0], column[column != 0]).decision_function(test))
    return np.stack(columns, axis=1)


def mean_norm(train, test):
    length = np.linalg.norm(train, axis=1).mean()
    return train / length, test / length


@pytest.mark.parametrize(
    "name, options",
    [
        ("svm_of_unit_rows", {"kernel": "linear"}),
        ("positives_twice", {"kernel": "linear", "class_weight": {1: 2, -1: 1}}),
        ("balanced", {"kernel": "linear", "class_weight": "balanced"}),
        ("sign_as_it_comes", {"kernel": "linear"}),
        ("rbf", {"kernel": "rbf"}),
    ],
)
def test_svms_are_scikit_learns(root, name, options):
    _, base, run = run_of(root, ALTERNATIVES[name])
    for row, (stage, *names) in zip(("baseline_hr", "baseline_lr", "ours"), svms.SOURCES, strict=True):
        train, test = (np.array(run.array(stage, part), np.float64) for part in names)
        if name == "rbf":
            options = {**options, "gamma": 1 / train.shape[1]}
        else:
            train, test = map(unit, (train, test)) if name == "svm_of_unit_rows" else mean_norm(train, test)
        expected = by_scikit_learn(run, train, test, **options)
        assert np.allclose(run.array("svm", row), expected, atol=2e-4 * np.abs(expected).max()), row
    same = np.array_equal(run.array("svm", "baseline_lr"), base.array("svm", "baseline_lr"))
    assert same == (name == "sign_as_it_comes")  # LIBSVM puts 1 before -1 by itself (D16)


def test_decision_values_keep_the_sign_in_which_they_come(monkeypatch):
    """D16, for a LIBSVM that lists -1 first, as it does for labels other than -1 and 1."""
    rows = np.random.default_rng(2).normal(size=(20, 3))
    labels = np.where(rows[:, 0] > 0, 1, -1).astype(np.int8)
    plain = svm.svmutil.svm_train

    def minus_first(problem, parameter):
        model = plain(problem, parameter)
        model.get_labels = lambda: [-1, 1]
        return model

    monkeypatch.setattr(svm.svmutil, "svm_train", minus_first)
    turned = svm.train(svm.Kernel(rows @ rows.T), labels, 1.0, 1e-6)
    with svms.sign_as_it_comes():
        as_it_comes = svm.train(svm.Kernel(rows @ rows.T), labels, 1.0, 1e-6)
    assert np.array_equal(as_it_comes.dual, -turned.dual) and as_it_comes.rho == -turned.rho


def test_a_network_is_trained_on_object_crops_and_the_svms_on_whole_images(tmp_path):
    """D21, which uses the run of D23 `object_crops`."""
    devkit = small_devkit(tmp_path / "devkit", tint=9, difficult=())
    for number, path in enumerate(sorted((devkit / "Annotations").glob("*.xml"))):
        box = f"<bndbox><xmin>{1 + number % 5}</xmin><ymin>1</ymin><xmax>45</xmax><ymax>30</ymax></bndbox></object>"
        path.write_text(path.read_text().replace("</object>", box))
    small_run(tmp_path / "run" / "torch", devkit, "compare.resamples=50")
    (crops,) = [
        one for decision in read_decisions() for one in decision.alternatives if one.folder == "D23-object_crops"
    ]
    of_crops, base, run_of_crops = run_of(tmp_path / "run", crops)
    one, _, run = run_of(tmp_path / "run", ALTERNATIVES["objects"])
    hr, lr = rows_of(run_of_crops, "hr_trainval", "lr_trainval")
    assert_trained_on(run, hr, lr)
    assert np.array_equal(run.array("features", "lr_test"), base.array("features", "lr_test"))
    assert np.array_equal(run.array("svm", "baseline_hr"), base.array("svm", "baseline_hr"))
    # Other crops, other run: what it was made of is no longer there.
    manifest = of_crops.run.stage_path("images") / "manifest.json"
    manifest.write_text(manifest.read_text().replace(of_crops.run.manifest("images")["key"], "0" * 64))
    assert not one.is_finished()


def test_a_stage_that_ran_otherwise_passes_for_no_ordinary_one(root, monkeypatch):
    one, base, run = run_of(root, ALTERNATIVES["sign_as_it_comes"])
    assert run.manifest("svm")["key"] != base.manifest("svm")["key"]
    assert run.manifest("transfer")["key"] == base.manifest("transfer")["key"]
    with monkeypatch.context() as patch:
        patch.setattr("audit.decisions.otherwise.changes.sha256_file", lambda path: "other code")
        assert not one.is_finished()
    with monkeypatch.context() as patch:
        patch.setattr("audit.decisions.otherwise.changes.cv2.__version__", "0.1")
        assert not one.is_finished()
    other = Variant(one.root, one.seed, ALTERNATIVES["positives_twice"])  # of the same module and the same stage
    assert other.versions() != one.versions() and one.is_finished()


def test_features_of_an_alternative_that_changes_nothing_are_the_bases(root):
    """D9: of the shipped backbone blob 2 is 1. Base and alternative are made on one thread, RUN/torch on any."""
    _, base, run = run_of(root, ALTERNATIVES["blob_2_ignored"])
    assert run.manifest("features")["key"] != base.manifest("features")["key"]
    assert base.manifest("features")["threads"] == run.manifest("features")["threads"] == 1
    assert run.manifest("features")["outputs"] == base.manifest("features")["outputs"]
    assert run.manifest("svm")["key"] == base.manifest("svm")["key"]


def test_what_is_replaced_comes_back_even_after_an_error(tmp_path):
    run = RunFolder(tmp_path)
    writer = StageWriter(run, "index")
    writer.array("labels", np.arange(3))
    writer.finish({"stage": "index"})
    owner = {"a": 1}
    with (
        pytest.raises(ValueError),
        replaced(owner, "a", 2),
        seen({("index", "labels"): lambda load: -load("index", "labels")}),
    ):
        assert owner == {"a": 2} and run.array("index", "labels").tolist() == [0, -1, -2]
        raise ValueError
    assert owner == {"a": 1} and run.array("index", "labels").tolist() == [0, 1, 2]


def test_the_mean_area_is_scikit_learns_average_precision_of_weighted_images():
    random = np.random.default_rng(5)
    scores, labels = random.normal(size=(40, 3)).round(1), random.choice([-1, -1, 0, 1], (40, 3)).astype(np.int8)
    weights = random.integers(0, 4, (6, 40)).astype(np.uint8)
    for found, drawn in zip(resampled_area(scores, labels, weights), weights, strict=True):
        used = labels != 0
        aps = [
            average_precision_score(labels[used[:, i], i] == 1, scores[used[:, i], i], sample_weight=drawn[used[:, i]])
            for i in range(3)
        ]
        assert found == pytest.approx(np.mean(aps))
