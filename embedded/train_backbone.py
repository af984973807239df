"""Train the embedded profile's backbone on photographs and write it as a caffemodel.

    python -m embedded.train_backbone PHOTOGRAPHS [--out FILE] [--epochs 24] [--seed 1]

PHOTOGRAPHS holds one folder of JPEGs for each class; a class's number is the rank of its folder's name.
600 photographs, spread over the classes, are held out and never trained on. The net is the profile's backbone
with BatchNorm in training mode; it sees HR crops only, as the paper's saw ImageNet only in HR. A record
(.json) is written beside the caffemodel; its accuracies are those of the file as written, read back. The same
seed gives the same file only on the same machine: sums are rounded as its processor and threads make them.
"""

import argparse
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from embedded.photographs import find_photographs, random_view, read_pairs, read_warped, split
from experiment.artifacts import batches, sha256_file, write_json
from experiment.errors import UserError, run_command
from experiment.progress import progress
from experiment.spec import read_profile
from torch_impl.caffe_net import LAYERS, CaffeNet
from torch_impl.caffe_proto import enum_label, write_caffemodel
from torch_impl.net_io import to_input

ROOT = Path(__file__).parent.parent
HELD_OUT = 600
STORED_SIDE = 128  # photographs wait for their crops at this size, so that each is decoded once
# The side of the crops, and the share of the epochs that it is used in. Small crops cost a quarter of the time,
# and what the net learns from them carries over. Things look larger in a crop than in the whole photograph: the
# last side is less than the 112 of the features stage, so that they come to about the same size there.
SIDES = ((56, 0.5), (72, 0.3), (96, 0.2))
CONTRAST = (0.7, 1.3)  # grey levels around the mean are stretched by a factor between these
BATCH = 32
PEAK_LR, WEIGHT_DECAY, WARM_UP = 4e-3, 0.05, 0.15  # AdamW, one cycle
LABEL_SMOOTHING = 0.1
STATISTICS_BATCH = 256


def initial_parameters(net: CaffeNet, rng: np.random.Generator) -> dict[str, list[np.ndarray]]:
    """He's normal weights for convolutions, small ones for the classifier; BatchNorm and Scale change nothing.

    But the Scale that closes a block's second branch starts at 0: every block begins as its shortcut, which learns
    sooner (Goyal et al. 2017, section 5.1).
    """
    closing = {layer.bottom[1] for layer in net.layers if layer.type == "Eltwise"}
    values: dict[str, list[np.ndarray]] = {}
    for layer in net.layers:
        for i, shape in enumerate(net.parameter_shapes.get(layer.name, [])):
            if layer.type == "Convolution" and i == 0:
                blob = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
            elif layer.type == "InnerProduct" and i == 0:
                blob = rng.normal(0, 0.01, shape)
            else:  # ones: variance, scale factor, most gammas; zeros: mean, beta, bias
                one = (layer.type, i) in {("BatchNorm", 1), ("BatchNorm", 2), ("Scale", 0)}
                blob = np.full(shape, float(one and not (layer.type == "Scale" and layer.top[0] in closing)))
            values.setdefault(layer.name, []).append(blob)
    return values


def training_scores(net: CaffeNet, data: Tensor, moments: dict[str, list[Tensor]] | None = None) -> Tensor:
    """The class scores (n, classes) of data (n, 3, side, side), BatchNorm by the batch's own statistics.

    Where `moments` is given, [n, n E(x), n E(x^2)] of every BatchNorm's bottom are added to it, in float64.
    """
    blobs = {net.inputs[0]: data}
    top = data
    for layer, following in pairwise(net.layers):  # all but the last, the Softmax, which the loss contains
        bottom = blobs[layer.bottom[0]]
        if layer.type == "BatchNorm":
            if moments is not None:
                variance, mean = (m.double() for m in torch.var_mean(bottom, (0, 2, 3), correction=0))
                seen = [torch.tensor(float(len(data))), len(data) * mean, len(data) * (variance + mean**2)]
                before = moments.get(layer.name, [torch.zeros(())] * 3)
                moments[layer.name] = [a + b for a, b in zip(before, seen, strict=True)]
            gamma, beta = net.parameters[following.name]  # the Scale after it, in one pass over memory
            top = F.batch_norm(bottom, None, None, gamma, beta, training=True, eps=layer.batch_norm_param.eps)
        elif layer.type == "Scale":
            top = bottom
        elif layer.type == "ReLU":
            top = torch.relu_(bottom)
        elif layer.type == "Pooling" and enum_label(layer.pooling_param, "pool") == "AVE":
            top = bottom.mean((2, 3), keepdim=True)  # pool5 takes all there is, whatever the side
        else:
            bottoms = [blobs[name] for name in layer.bottom]
            top = LAYERS[layer.type](layer, bottoms, net.parameters.get(layer.name, []))
        blobs[layer.top[0]] = top
    return top


def crop_side(epoch: int, epochs: int) -> int:
    """The side of the crops, in pixels, in an epoch (from 0) of `epochs`."""
    ends = np.cumsum([share for _, share in SIDES[:-1]])
    return SIDES[int(np.searchsorted(ends, epoch / epochs, side="right"))][0]


def train(
    net: CaffeNet, images_bgr: np.ndarray, labels: np.ndarray, mean_bgr: np.ndarray, epochs: int, seed: int
) -> list[float]:
    """Train the net from a seed on images (n, h, w, 3) uint8 with labels (n,); return every step's loss."""
    rng = np.random.default_rng(seed)
    net.set_parameters(initial_parameters(net, rng))
    weights, others = [], []
    for layer in net.layers:
        blobs = net.parameters.get(layer.name, [])
        if layer.type == "Convolution":
            blobs[0] = blobs[0].to(memory_format=torch.channels_last)  # half again as fast on a CPU
        if layer.type != "BatchNorm":
            weights += [blob.requires_grad_() for blob in blobs if blob.ndim > 1]
            others += [blob.requires_grad_() for blob in blobs if blob.ndim == 1]
    groups = [{"params": weights, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=PEAK_LR)
    steps = max(1, len(labels) // BATCH)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_LR, total_steps=epochs * steps + 1, pct_start=WARM_UP, cycle_momentum=False
    )
    losses: list[float] = []
    for epoch in range(epochs):
        side = crop_side(epoch, epochs)
        cuts = np.array_split(rng.permutation(len(labels)), steps)
        label = f"epoch {epoch + 1} of {epochs} at {side} pixels"
        if losses:
            label += f", loss {np.mean(losses[-steps:]):.3f}"
        for rows in progress(cuts, len(labels), "images", label, step=len(cuts[0])):
            views = np.stack([random_view(images_bgr[row], side, rng) for row in rows])
            contrast = torch.from_numpy(rng.uniform(*CONTRAST, (len(rows), 1, 1, 1)).astype(np.float32))
            data = (to_input(views, mean_bgr).float() * contrast).contiguous(memory_format=torch.channels_last)
            scores = training_scores(net, data)
            loss = F.cross_entropy(scores, torch.from_numpy(labels[rows]), label_smoothing=LABEL_SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cycle.step()
            losses.append(loss.item())
    for blobs in net.parameters.values():
        blobs[:] = [blob.detach() for blob in blobs]
    return losses


@torch.inference_mode()
def settle_statistics(net: CaffeNet, images_bgr: np.ndarray, mean_bgr: np.ndarray) -> None:
    """Set every BatchNorm's mean and variance to those of its bottom over images_bgr, scale factor 1."""
    moments: dict[str, list[Tensor]] = {}
    n = len(images_bgr)
    cuts = list(batches(n, STATISTICS_BATCH))
    for rows in progress(cuts, n, "images", "statistics", step=STATISTICS_BATCH):
        data = to_input(images_bgr[rows], mean_bgr).float().contiguous(memory_format=torch.channels_last)
        training_scores(net, data, moments)
    for name, (count, total, squares) in moments.items():
        mean = total / count
        net.parameters[name] = [mean.float(), (squares / count - mean**2).float(), torch.ones(1)]


@torch.inference_mode()
def count_correct(net: CaffeNet, images_bgr: np.ndarray, labels: np.ndarray, mean_bgr: np.ndarray) -> int:
    """How many of images_bgr (n, h, w, 3) uint8 get their own label (n,) from the net as deployed."""
    prob = net.layers[-1].top[0]
    scores = [
        net.forward({net.inputs[0]: to_input(images_bgr[r], mean_bgr)}, [prob])[prob] for r in batches(len(labels), 50)
    ]
    return int((torch.cat(scores).argmax(1).numpy() == labels).sum())


def save(net: CaffeNet, path: Path, name: str) -> None:
    """Write the net's parameters as a caffemodel."""
    layers = [
        (layer.name, layer.type, [blob.numpy() for blob in net.parameters[layer.name]])
        for layer in net.layers
        if layer.name in net.parameters
    ]
    write_caffemodel(path, name, layers)


def main() -> int:
    """Train, write, read back, measure, and write the record."""
    parser = argparse.ArgumentParser(prog="python -m embedded.train_backbone", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("photographs", type=Path, help="folder with one folder of JPEGs for each class")
    parser.add_argument("--out", type=Path, default=Path("embedded/backbone.caffemodel"))
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if not args.out.parent.is_dir():
        raise UserError(f"--out {args.out}: {args.out.parent} is not a folder: make it first")
    if args.epochs < 1:
        raise UserError(f"--epochs {args.epochs} must be at least 1")
    spec, _ = read_profile("embedded")
    net = CaffeNet(ROOT / "prototxt" / "embedded" / "backbone.prototxt")
    mean_bgr = np.array(spec["features"]["mean_bgr"], dtype=np.float32)
    found = find_photographs(args.photographs, spec["backbone"]["classes"])
    kept, held_out = split(found.labels, HELD_OUT, args.seed)
    training_paths = [found.paths[i] for i in kept]
    stored = read_warped(training_paths, STORED_SIDE, "decode")
    started = time.monotonic()
    losses = train(net, stored, found.labels[kept], mean_bgr, args.epochs, args.seed)
    minutes = (time.monotonic() - started) / 60
    settle_statistics(net, read_warped(training_paths, spec["images"]["hr_size"], "decode"), mean_bgr)
    save(net, args.out, spec["backbone"]["name"])
    net.load(args.out)
    pairs = read_pairs([found.paths[i] for i in held_out], spec["images"], "held-out images")
    correct = [count_correct(net, images, found.labels[held_out], mean_bgr) for images in pairs]
    accuracy = {
        name: {"correct": n, "of": HELD_OUT, "fraction": n / HELD_OUT}
        for name, n in zip(("hr", "lr"), correct, strict=True)
    }
    record = {
        "command": f"python -m embedded.train_backbone PHOTOGRAPHS --epochs {args.epochs} --seed {args.seed}",
        "seed": args.seed,
        "epochs": args.epochs,
        "photographs": {
            "count": len(found.paths),
            "classes": spec["backbone"]["classes"],
            "sha256": found.sha256,
        },
        "held_out": "stratified by class (sklearn train_test_split)",
        "accuracy": accuracy,
        "final_loss": float(np.mean(losses[-len(losses) // args.epochs :])),
        "training_minutes": round(minutes, 1),
        "caffemodel": {"sha256": sha256_file(args.out), "bytes": args.out.stat().st_size},
        "torch": torch.__version__,
    }
    write_json(args.out.with_suffix(".json"), record)
    for name, n in zip(("HR", "LR"), correct, strict=True):
        print(f"held-out {name}: {n} of {HELD_OUT} right ({100 * n / HELD_OUT:.1f} %)")
    print(f"{args.out}: sha256 {record['caffemodel']['sha256']}, {record['caffemodel']['bytes']} bytes")
    return 0


if __name__ == "__main__":
    run_command(main)
