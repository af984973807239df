"""ResNet-101's pool5 of eight photographs, ms an image, in float32 and in bfloat16: the port beside its peers."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from sklearn.datasets import load_sample_images

from bench.container import worker
from bench.measure import PORT, Bench, Subject, Work
from experiment.errors import UserError
from torch_impl import engines
from torch_impl.caffe_net import Arithmetic, CaffeNet
from torch_impl.caffe_proto import write_caffemodel
from torch_impl.net_io import to_input
from torch_impl.products import unrounded
from torch_impl.resnet101 import draw_parameters

PROJECT = Path(__file__).resolve().parents[1]
PROTOTXT = PROJECT / "prototxt" / "ResNet-101-deploy.prototxt"
BLOB = "pool5"
MEAN_BGR = np.array([103.063, 115.903, 123.152], np.float32)  # of the paper's profile
CROPS = ((0, 0), (100, 200), (200, 400), (150, 100))  # of each of scikit-learn's two photographs
SIZE = 224
SEED = 1

Run = Callable[[], np.ndarray]  # computes the batch once and gives its features (n, D)


def run(bench: Bench) -> None:
    """Measure both types."""
    net = CaffeNet(PROTOTXT)
    net.set_parameters(draw_parameters(net, SEED))
    images = to_input(photographs(), MEAN_BGR).float()
    expected = features(net_in(net, torch.float64), images)()

    def error(found: np.ndarray) -> float:
        return float(np.linalg.norm(found.reshape(expected.shape) - expected) / np.linalg.norm(expected))

    with peers(bench, net, images.numpy()) as others:
        for dtype, subjects in others.items():
            name = f"ResNet-101 {BLOB}"
            ours = ports(net, images, dtype)
            work = Work(name, "ms an image", [*ours, *subjects], 1000 / len(images), error)
            bench.measure(work)


def photographs() -> np.ndarray:
    """Crops of two photographs, (8, 224, 224, 3) uint8 BGR."""
    whole = [image[:, :, ::-1] for image in load_sample_images().images]
    return np.stack([image[top : top + SIZE, left : left + SIZE] for image in whole for top, left in CROPS])


def net_in(net: CaffeNet, dtype: torch.dtype, device: torch.device = engines.CPU) -> CaffeNet:
    """The port's own net, of the same parameters, in another type or on another device."""
    other = CaffeNet(net.path, arithmetic=Arithmetic(dtype, device=device))
    other.set_parameters({name: [blob.numpy() for blob in blobs] for name, blobs in net.parameters.items()})
    return other


def features(net: engines.Net, images: torch.Tensor) -> Run:
    """What computes the batch by a net of the port's interface."""

    def run() -> np.ndarray:
        with torch.inference_mode(), unrounded():
            found = net.forward({"data": images}, [BLOB])[BLOB].flatten(1)
        return (found.float() if found.dtype == torch.bfloat16 else found).numpy(force=True)

    return run


def ports(net: CaffeNet, images: torch.Tensor, dtype: str) -> list[Subject]:
    """The port with the engine that it would take, with its own folded net where that is another, and on a GPU where
    there is one."""
    ending = engines.BFLOAT16 if dtype == "bfloat16" else ""
    names = [name + ending for name in engines.ENGINES if name + ending in engines.NAMES]
    chosen = next(name for name in names if not engines.missing(name))
    labels = {f"folded{ending}": "port, folded"} | {chosen: PORT}
    if not engines.missing(engines.CUDA):
        labels[engines.CUDA + ending] = f"port, {engines.CUDA}"
    return [Subject(label, dtype, features(engines.build(name, net, BLOB), images)) for name, label in labels.items()]


@contextlib.contextmanager
def peers(bench: Bench, net: CaffeNet, images: np.ndarray) -> Iterator[dict[str, list[Subject]]]:
    """The peers of each type that can be had; of those that cannot, the bench is told."""
    tensors = torch.from_numpy(images)
    found = {
        "float32": [Subject("PyTorch eager", "float32", features(net, tensors))],
        "bfloat16": [Subject("PyTorch eager", "bfloat16", features(net_in(net, torch.bfloat16), tensors))],
    }
    if not engines.missing(engines.CUDA):
        for dtype, subjects in found.items():
            on_gpu = net_in(net, getattr(torch, dtype), engines.device_of(engines.CUDA))
            subjects.append(Subject(f"PyTorch eager, {engines.CUDA}", dtype, features(on_gpu, tensors)))
    with tempfile.TemporaryDirectory(prefix="udft-bench-") as scratch, contextlib.ExitStack() as held:
        folder = Path(scratch)
        weights = folder / "weights.caffemodel"
        types = {layer.name: layer.type for layer in net.layers}
        blobs = [(name, types[name], [b.numpy() for b in blobs]) for name, blobs in net.parameters.items()]
        write_caffemodel(weights, "ResNet-101", blobs)
        makers: list[tuple[str, str, Callable[[], Run]]] = [
            ("pycaffe", "float32", lambda: held.enter_context(pycaffe(bench, folder, images))),
            ("OpenCV DNN", "float32", lambda: opencv(weights, images)),
            ("ONNX Runtime", "float32", lambda: onnxruntime(net, images)),
            ("OpenVINO", "float32", lambda: openvino(net, images, "f32")),
            ("OpenVINO", "bfloat16", lambda: openvino(net, images, "bf16")),
        ]
        for name, dtype, make in makers:
            try:
                found[dtype].append(Subject(name, dtype, make()))
            except (ImportError, UserError) as error:
                bench.leave_out(f"ResNet-101 {BLOB}", name, str(error))
        yield found


@contextlib.contextmanager
def pycaffe(bench: Bench, folder: Path, images: np.ndarray) -> Iterator[Run]:
    """Caffe with OpenBLAS on all cores, in the container. Raises `UserError` where no container runs."""
    np.save(folder / "images.npy", images)
    files = [PROTOTXT, folder / "weights.caffemodel", folder / "images.npy"]
    with worker(bench, folder, "bench/caffe_worker.py", *map(str, files), BLOB, str(folder / "f.npy")) as work:

        def run() -> np.ndarray:
            work()
            return np.load(folder / "f.npy")

        yield run


def opencv(weights: Path, images: np.ndarray) -> Run:
    """OpenCV's importer of Caffe's files."""
    net = cv2.dnn.readNetFromCaffe(str(PROTOTXT), str(weights))

    def run() -> np.ndarray:
        net.setInput(images, "data")
        return net.forward(BLOB)

    return run


def onnxruntime(net: CaffeNet, images: np.ndarray) -> Run:
    """ONNX Runtime as it is by default. Raises `ImportError` where it is not installed."""
    import onnxruntime

    from torch_impl import onnx_graph

    model = onnx_graph.model(net_in(net, torch.float64), BLOB).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {onnx_graph.INPUT: images})[0]


def openvino(net: CaffeNet, images: np.ndarray, precision: str) -> Run:
    """OpenVINO as it is by default but for the type. Raises `ImportError` where it is not installed, `UserError` where
    it has not the type."""
    import openvino

    from torch_impl import engine_openvino, onnx_graph

    if precision == "bf16" and not engine_openvino.has_bfloat16():
        raise UserError("it has no bfloat16 on this processor")
    core = openvino.Core()
    model = core.read_model(onnx_graph.model(net_in(net, torch.float64), BLOB).SerializeToString())
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision})
    return lambda: compiled(images)[0].copy()
