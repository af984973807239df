"""Mistakes that people make when they port Caffe to PyTorch, each a change of one line, and changes that do no harm.

`python -m tests.selftest` plants them one by one and looks where the comparison says that the port departs. What is
expected was found by thinking, and stands here before anything is run: it is the first place in forward order where a
quantity differs by more than its hard bound.
"""

from dataclasses import dataclass
from pathlib import Path

from experiment.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Entry:
    """One change of the port.

    name : what a reader of the table is told.
    module : the port's module that is changed; "" for all of them, where only `options` differ.
    old, new : a text that stands in the module's source exactly once, within a line, and what takes its place; ""
        where the module stays as it is and is only run otherwise.
    expected : "<stage> <item>" of the first check that must fail, "" for a change that does no harm.
    draws : whether the port starts from Caffe's draws; where it does not, it draws its own weights.
    options : further arguments for the port's command line; without them it has one thread.
    """

    name: str
    module: str = ""
    old: str = ""
    new: str = ""
    expected: str = ""
    draws: bool = True
    options: tuple[str, ...] = ()

    @property
    def harmful(self) -> bool:
        """Whether it is a mistake."""
        return bool(self.expected)

    @property
    def path(self) -> Path:
        """The changed module's file."""
        return ROOT.joinpath(*self.module.split(".")).with_suffix(".py")

    def patched(self, source: str) -> str:
        """The module's source with the change. Raises `UserError` where it is not clear what to change."""
        if self.old and source.count(self.old) != 1:
            raise UserError(
                f"{self.path}: {self.old!r} occurs {source.count(self.old)} times and must occur once: "
                f"mend the entry {self.name!r} of tests/selftest/catalogue.py"
            )
        return source.replace(self.old, self.new) if self.old else source


INDEX, IMAGES, JPEG = "torch_impl.index", "torch_impl.images", "torch_impl.jpeg"
NET, NET_IO, FEATURES = "torch_impl.caffe_net", "torch_impl.net_io", "torch_impl.features"
CLUSTERS, LABELS = "torch_impl.clusters", "torch_impl.pseudo_labels"
TRANSFER, TRANSFERRED = "torch_impl.transfer", "torch_impl.transfer_features"
SVM, METRICS, RESNET101 = "torch_impl.svm", "torch_impl.metrics", "torch_impl.resnet101"

MISTAKES = [
    # ------------------------------------------------------------ labels and images
    Entry(
        "difficult as positives",
        INDEX,
        'LABELS = {"1": 1, "0": 0, "-1": -1}',
        'LABELS = {"1": 1, "0": 1, "-1": -1}',
        "index labels_trainval",
    ),
    Entry(
        "photographs decoded to RGB",
        JPEG,
        'np.asarray(image.convert("RGB"))[:, :, ::-1]',
        'np.asarray(image.convert("RGB"))',
        "images hr_trainval",
    ),
    Entry(
        "antialiased resize",
        IMAGES,
        "bicubic = bicubic_antialiased if antialias else partial(bicubic_four_taps, dtype=dtype)",
        "bicubic = bicubic_antialiased",
        "images hr_trainval",
    ),
    Entry("a = -0.5 kernel", IMAGES, "a: float = -0.75", "a: float = -0.5", "images hr_trainval"),
    Entry(
        "kernel's weights not rounded to 1/2048",
        IMAGES,
        "(weights.double() * 2048).round() / 2048",
        "weights.double()",
        "images hr_trainval",
    ),
    Entry(
        "corners aligned when resizing",
        IMAGES,
        "(torch.arange(size, dtype=torch.float64) + 0.5) * (source / size) - 0.5",
        "torch.arange(size, dtype=torch.float64) * ((source - 1) / (size - 1))",
        "images hr_trainval",
    ),
    # HR stands before LR and is right.
    Entry(
        "up-sampling bilinear",
        IMAGES,
        'bicubic(bicubic(hr if lr_from == "hr" else image, lr_size), hr_size)',
        "F.interpolate(bicubic(image, lr_size).permute(2, 0, 1)[None], hr.shape[:2], mode='bilinear')[0]"
        ".permute(1, 2, 0)",
        "images lr_trainval",
    ),
    Entry(
        "down-sampling bilinear",
        IMAGES,
        'bicubic(bicubic(hr if lr_from == "hr" else image, lr_size), hr_size)',
        "bicubic(F.interpolate(image.permute(2, 0, 1)[None], (lr_size,) * 2, mode='bilinear')[0].permute(1, 2, 0), "
        "hr_size)",
        "images lr_trainval",
    ),
    # ------------------------------------------------------------ the backbone's input
    Entry(
        "RGB order",
        NET_IO,
        "torch.from_numpy(np.array(images_bgr))",
        "torch.from_numpy(images_bgr[..., ::-1].copy())",
        "features blob data",
    ),
    Entry(
        "mean of another model",
        FEATURES,
        "np.array(mean_bgr, dtype=np.float32)",
        "np.array([103.939, 116.779, 123.68], dtype=np.float32)",
        "features blob data",
    ),
    Entry("mean after scaling", NET_IO, ".double() - mean", ".double() / 255 - mean", "features blob data"),
    # ------------------------------------------------------------ the backbone; layers in place overwrite their blob
    Entry("floor pooling", NET, 'ceil = enum_label(p, "round_mode") == "CEIL"', "ceil = False", "features blob pool1"),
    Entry(
        "pad-1 pool1",
        NET,
        "F.max_pool2d(bottoms[0], kernel, p.stride, p.pad, ceil_mode=ceil)",
        "F.max_pool2d(bottoms[0], kernel, p.stride, 1)",
        "features blob pool1",
    ),
    # In a stage's first block; the projection, branch1, is computed before and keeps its stride.
    Entry(
        "stride on the 3x3",
        NET,
        "bias, one(p.stride, 1), one(p.pad, 0)",
        'bias, {"a_branch2a": 1, "a_branch2b": 1 + (layer.name[3] > "2")}.get(layer.name[4:], one(p.stride, 1)), '
        "one(p.pad, 0)",
        "features blob res3a_branch2a",
    ),
    # conv1's variances are above 5000 and pool1 has none: the first that 1e-3 can be seen beside are res2a's, of 2.
    Entry("BatchNorm eps", NET, "eps=layer.batch_norm_param.eps", "eps=1e-3", "features blob res2a_branch1"),
    # The embedded backbone's blob 2 is 1 in every layer; ResNet-101's weights are seeded with another.
    Entry(
        "blob 2 ignored",
        NET,
        "factor = torch.where(total == 0, torch.zeros_like(total), 1 / total)",
        "factor = torch.ones_like(total)",
        "resnet101 blob conv1",
    ),
    Entry(
        "BatchNorm with the batch's statistics",
        NET,
        "F.batch_norm(bottoms[0], blobs[0] * factor, blobs[1] * factor, eps=",
        "F.batch_norm(bottoms[0], None, None, training=True, eps=",
        "features blob conv1",
    ),
    Entry(
        "Scale bias dropped",
        NET,
        "torch.addcmul(blobs[1].view(shape), bottoms[0], blobs[0].view(shape))",
        "bottoms[0] * blobs[0].view(shape)",
        "features blob conv1",
    ),
    Entry(
        "weights rounded to bfloat16",
        NET,
        "torch.from_numpy(np.array(blob)).reshape(shape)",
        "torch.from_numpy(np.array(blob)).bfloat16().reshape(shape)",
        "features blob conv1",
    ),
    Entry(
        "shortcut averaged, not added",
        NET,
        "result = torch.add(result, bottom, alpha=coefficient)",
        "result = torch.add(result, bottom, alpha=coefficient) / len(bottoms)",
        "features blob res2a",
    ),
    Entry(
        "InnerProduct bias dropped",
        NET,
        "blobs[1] if layer.inner_product_param.bias_term else None",
        "blobs[1] * 0 if layer.inner_product_param.bias_term else None",
        "features blob fc80",
    ),
    # Every blob is right; only what is kept of them is not.
    Entry(
        "features normalised to length 1",
        FEATURES,
        "outputs[blob].flatten(1).numpy()",
        "torch.nn.functional.normalize(outputs[blob].flatten(1)).numpy()",
        "features hr_trainval",
    ),
    # ------------------------------------------------------------ clusters and pseudo-labels
    # Of 80 rows in 20 clusters all but two begin in the right one, and those two are in it an iteration later: then
    # all assignments are right, and the centroids that the two left and came to are not.
    Entry(
        "k-means stopped after one iteration",
        CLUSTERS,
        "while iterations < max_iter:",
        "while iterations < 1:",
        "clusters centroids",
    ),
    Entry(
        "k-means of the LR features",
        CLUSTERS,
        'stage.inputs.array("features", "hr_trainval")',
        'stage.inputs.array("features", "lr_trainval")',
        "clusters assignments",
    ),
    Entry(
        "cosine instead of Euclidean nearest centroid",
        LABELS,
        "features[rows].double(), centroids.double()",
        "*map(torch.nn.functional.normalize, (features[rows].double(), centroids.double()))",
        "pseudo_labels labels",
    ),
    Entry(
        "twin's label instead of nearest",
        LABELS,
        'stage.spec["pseudo_labels"]["assign"] == "twin"',
        "True",
        "pseudo_labels labels",
    ),
    # ------------------------------------------------------------ the transfer network and its solver
    Entry(
        "MSRA fan_out",
        TRANSFER,
        '"FAN_IN": fan_in, "FAN_OUT"',
        '"FAN_IN": fan_out, "FAN_OUT"',
        "transfer initial weights of b",
        draws=False,
    ),
    # The first segment is the second step, the one before the third step wraps; 140 steps in, the rate drops.
    Entry(
        "transfer network trained on HR features",
        TRANSFER,
        'stage.inputs.array("features", "lr_trainval")',
        'stage.inputs.array("features", "hr_trainval")',
        "transfer segments/2/fc1_weight",
    ),
    Entry(
        "rows shuffled",
        TRANSFER,
        "torch.arange(start, start + batch_size) % n",
        "torch.randperm(n)[:batch_size]",
        "transfer segments/2/fc1_weight",
    ),
    Entry(
        "last batch shortened instead of wrapped",
        TRANSFER,
        "torch.arange(start, start + batch_size) % n",
        "torch.arange(start, min(start + batch_size, n))",
        "transfer segments/3/fc1_weight",
    ),
    Entry("loss summed", NET, ".detach())).mean()", ".detach())).sum()", "transfer segments/2/fc1_weight"),
    # In Caffe's units: PyTorch keeps the rate outside the history, so that a drop of it shrinks what was gathered.
    Entry(
        "PyTorch's momentum",
        TRANSFER,
        "self.settings.momentum,",
        "self.settings.momentum * (1 if self.iteration % self.settings.stepsize else 0.1),",
        "transfer segments/141/fc1_weight",
    ),
    Entry(
        "Nesterov's momentum",
        TRANSFER,
        "self.iteration += 1",
        "[w.data.add_(v * (1 - self.settings.momentum) - (g + self.settings.weight_decay * (w.data + v)) * rate)"
        " for w, v, g in zip(self.parameters, self.history, gradients)]; self.iteration += 1",
        "transfer segments/2/fc1_weight",
    ),
    # A bias begins at 0 and after a step is rate times gradient: without decay it errs by rate x decay = 5e-6 of
    # itself in the second step, in which it grows to at most 2.9 times that. So the error is 1.7e-6 at least.
    Entry(
        "decay missing on biases",
        TRANSFER,
        "self.settings.weight_decay * self.decay_mult[i]",
        "self.settings.weight_decay * (parameter.ndim > 1)",
        "transfer segments/2/fc1_bias",
    ),
    Entry(
        "biases at twice the rate",
        TRANSFER,
        "rate * self.lr_mult[i]",
        "rate * (1 if parameter.ndim > 1 else 2)",
        "transfer segments/2/fc1_bias",
    ),
    Entry(
        "lr drop one iteration late",
        TRANSFER,
        "drops = self.iteration // self.settings.stepsize",
        "drops = max(self.iteration - 1, 0) // self.settings.stepsize",
        "transfer segments/141/fc1_weight",
    ),
    Entry(
        "softmax output used as feature",
        TRANSFERRED,
        "}, [blob])[blob]",
        '}, ["prob"])["prob"]',
        "transfer_features trainval",
    ),
    Entry(
        "HR features transferred",
        TRANSFERRED,
        'stage.inputs.array("features", f"lr_{split}")',
        'stage.inputs.array("features", f"hr_{split}")',
        "transfer_features trainval",
    ),
    # ------------------------------------------------------------ SVMs and average precision
    Entry(
        "SVM sign flipped",
        SVM,
        "sign = float(model.get_labels()[0])",
        "sign = -float(model.get_labels()[0])",
        "svm baseline_hr",
    ),
    Entry("C = 10", SVM, 'spec["c"]', "10.0", "svm baseline_hr"),
    Entry("C = 10 for Ours alone", SVM, 'spec["c"]', '(10.0 if name == "ours" else spec["c"])', "svm ours"),
    Entry(
        "decision values of Ours without rho",
        SVM,
        "(dual @ train_rows).T - rho,",
        '(dual @ train_rows).T - rho * (name != "ours"),',
        "svm ours",
    ),
    Entry(
        "difficult as negatives, in training",
        SVM,
        "train(kernel, labels[:, i],",
        "train(kernel, np.where(labels[:, i] == 1, 1, -1),",
        "svm baseline_hr",
    ),
    Entry(
        "test rows not scaled",
        SVM,
        "train_rows, test_rows = train_rows / length, test_rows / length",
        "train_rows, test_rows = train_rows / length, test_rows",
        "svm baseline_hr",
    ),
    Entry(
        "difficult as negatives, in testing",
        METRICS,
        "counted = labels != 0",
        "counted = labels < 2",
        "metrics baseline_hr 11point",
    ),
    Entry(
        "area AP for 11-point",
        METRICS,
        "eleven = [ap_11point(decisions",
        "eleven = [ap_area(decisions",
        "metrics baseline_hr 11point",
    ),
    Entry(
        "precision at a recall, not the best beyond it",
        METRICS,
        "precision[recall >= step / 10].max().item()",
        "precision[recall >= step / 10][0].item()",
        "metrics baseline_hr 11point",
    ),
    Entry(
        "test labels off by one",
        METRICS,
        'torch.from_numpy(np.array(stage.inputs.array("index", "labels_test")))',
        'torch.from_numpy(np.roll(stage.inputs.array("index", "labels_test"), 1, axis=0))',
        "metrics baseline_hr 11point",
    ),
    # ------------------------------------------------------------ the paper's backbone
    Entry(
        "mean in RGB order, ResNet-101",
        RESNET101,
        'np.array(spec["mean_bgr"], dtype=np.float32)',
        'np.array(spec["mean_bgr"][::-1], dtype=np.float32)',
        "resnet101 blob data",
    ),
]

HARMLESS = [
    Entry("two threads", options=("--threads", "2")),
    # D17: shrinking by 7 takes HR's pixels 7 i + 3 as they are, and each is what the original gives in that place.
    Entry("LR shrunk from HR, not from the original", IMAGES, 'hr if lr_from == "hr" else image', "hr"),
    Entry("one image at a time", FEATURES, 'spec["batch_size"]', "1"),
    Entry("batches of 5 images", FEATURES, 'spec["batch_size"]', "5"),
    Entry(
        "channels last in memory",
        NET,
        "memory_format: torch.memory_format = torch.contiguous_format",
        "memory_format: torch.memory_format = torch.channels_last",
    ),
    Entry(
        "convolutions in float64",
        NET,
        "F.conv2d(bottoms[0], blobs[0], bias, one(p.stride, 1), one(p.pad, 0), one(p.dilation, 1), p.group)",
        "F.conv2d(bottoms[0].double(), blobs[0].double(), bias, one(p.stride, 1), one(p.pad, 0)).float()",
    ),
    Entry(
        "convolutions without oneDNN",
        NET,
        "return F.conv2d(",
        "with torch.backends.mkldnn.flags(enabled=False): return F.conv2d(",
    ),
    Entry(
        "BatchNorm as a product and a sum",
        NET,
        "F.batch_norm(bottoms[0], blobs[0] * factor, blobs[1] * factor, eps=layer.batch_norm_param.eps)",
        "bottoms[0] * (by := (blobs[1] * factor + layer.batch_norm_param.eps).rsqrt().view(-1, 1, 1))"
        " - (blobs[0] * factor).view(-1, 1, 1) * by",
    ),
    Entry(
        "centroids in another order",
        CLUSTERS,
        "initial = torch.from_numpy(np.array(drawn))",
        "initial = torch.from_numpy(np.array(drawn)).flip(0)",
    ),
    Entry(
        "k-means' distances from differences",
        CLUSTERS,
        "return (rows.square().sum(1, keepdim=True) - 2 * products + centroids.square().sum(1)).clamp_(min=0)",
        "return torch.cdist(rows, centroids, compute_mode='donot_use_mm_for_euclid_dist').square()",
    ),
    Entry(
        "nearest centroid by a matrix product",
        LABELS,
        '"donot_use_mm_for_euclid_dist"',
        '"use_mm_for_euclid_dist"',
    ),
    Entry("7 pseudo-labels at once", LABELS, "ROWS_AT_ONCE = 256", "ROWS_AT_ONCE = 7"),
    Entry("own initial weights", TRANSFER, draws=False),
    Entry("update in four passes", TRANSFER, "fused=True,", "fused=False,"),
    Entry("7 rows transferred at once", TRANSFERRED, "ROWS_AT_ONCE = 1000", "ROWS_AT_ONCE = 7"),
    # Of the labels -1 and 1 LIBSVM itself makes 1 the first, whichever comes first in the data (svm_group_classes).
    Entry("order of LIBSVM's labels ignored", SVM, "sign = float(model.get_labels()[0])", "sign = 1.0"),
    Entry("LIBSVM with a small cache", SVM, "-m 500", "-m 1"),
    Entry(
        "Gram matrix by einsum", SVM, "gram = train_rows @ train_rows.T", 'gram = np.einsum("id,jd", *[train_rows] * 2)'
    ),
    Entry("eleven points summed, then divided", METRICS, "float(np.mean(best))", "sum(best) / 11"),
]

CATALOGUE = [*MISTAKES, *HARMLESS]
