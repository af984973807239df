"""The engines against the port's own net in float64, layer by layer and on the shipped backbone; which one is taken."""

import importlib
import importlib.metadata
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from experiment.artifacts import RunFolder
from experiment.resolve import resolve
from tests.conftest import PROJECT, relative_l2, user_error
from tests.small_devkit import small_devkit
from tests.small_run import OVERRIDES
from torch_impl import engines
from torch_impl.caffe_net import Arithmetic, CaffeNet
from torch_impl.engine_torch import FoldedNet
from torch_impl.folding import fold

# Float32 against float64: a rounding is 6e-8 at most, and a few layers of sums give 1e-7 to 3e-7.
FLOAT32 = 1e-6
BFLOAT16 = 3e-2  # 8 bits of mantissa: a rounding is 4e-3 at most


def has(name: str) -> bool:
    """Whether this machine can run an engine."""
    return not engines.missing(name)


def engines_among(names: list[str]) -> list:
    """Engines as parameters; those that this machine cannot run are skipped, which says so."""
    return [
        pytest.param(name, marks=pytest.mark.skipif(not has(name), reason=f"{name} needs {engines.missing(name)}"))
        for name in names
    ]


EXACT = engines_among([*engines.ENGINES, engines.CUDA])
ROUNDED = engines_among([name for name in engines.NAMES if name.endswith(engines.BFLOAT16)])
INPUT = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 6 dim: %d dim: %d } } }\n'


def layer(type_: str, settings: str = "", bottoms: tuple[str, ...] = ("data",), top: str = "y", name: str = "l") -> str:
    """One layer in text format."""
    read = " ".join(f'bottom: "{bottom}"' for bottom in bottoms)
    return f'layer {{ name: "{name}" type: "{type_}" {read} top: "{top}" {settings} }}\n'


def pooling(method: str, settings: str) -> str:
    """A Pooling layer."""
    return layer("Pooling", f"pooling_param {{ pool: {method} {settings} }}")


def two(settings: str) -> str:
    """An Eltwise layer of the input and a convolution of it."""
    convolution = layer("Convolution", "convolution_param { num_output: 6 kernel_size: 1 }", top="c", name="c")
    return convolution + layer("Eltwise", f"eltwise_param {{ {settings} }}", ("data", "c"))


CONVOLUTION = "convolution_param { num_output: 4 kernel_size: 3 %s }"
BATCH_NORM = layer("BatchNorm", "", ("y",), "y", "bn")
SCALE = layer("Scale", "scale_param { bias_term: true }", ("y",), "y", "scale")
LAYERS = {
    "convolution": layer("Convolution", CONVOLUTION % "stride: 2 pad: 1"),
    "convolution, dilated, no bias": layer("Convolution", CONVOLUTION % "dilation: 2 bias_term: false"),
    "convolution in groups": layer("Convolution", CONVOLUTION % "group: 2"),
    "folded": layer("Convolution", CONVOLUTION % "bias_term: false") + BATCH_NORM + SCALE,
    "folded, with a bias, no beta": layer("Convolution", CONVOLUTION % "") + SCALE.replace("true", "false"),
    "BatchNorm beside its convolution": layer("Convolution", CONVOLUTION % "", top="c", name="c")
    + layer("BatchNorm", "", ("c",), "y", "bn")
    + layer("Eltwise", "", ("y", "c"), "z", "sum"),
    "BatchNorm and Scale alone": layer("BatchNorm", "", ("data",), "y", "bn") + SCALE,
    "negative slope": layer("ReLU", "relu_param { negative_slope: 0.25 }"),
    "sum with coefficients": two("coeff: 1 coeff: -0.5"),
    "product": two("operation: PROD"),
    "maximum": two("operation: MAX"),
    "one bottom named twice": layer("ReLU", top="r", name="r") + layer("Eltwise", "", ("r", "r")),
    "inner product and softmax": layer("InnerProduct", "inner_product_param { num_output: 5 }", top="s", name="s")
    + layer("Softmax", "", ("s",)),
    **{
        f"{method} {settings}": pooling(method, settings)
        for method in ("MAX", "AVE")
        for settings in (
            "kernel_size: 3 stride: 2",
            "kernel_size: 3 stride: 2 pad: 1",
            "kernel_size: 2 stride: 3 pad: 1",  # the last window would start in the padding
            "kernel_size: 3 stride: 2 pad: 1 round_mode: FLOOR",
            "global_pooling: true",
        )
    },
}


def drawn(path, text: str, dtype: torch.dtype = torch.float32) -> CaffeNet:
    """A net with random parameters, BatchNorm's as sums over its scale factor."""
    path.write_text(text)
    net = CaffeNet(path, arithmetic=Arithmetic(dtype))
    random = np.random.default_rng(3)
    types = {layer.name: layer.type for layer in net.layers}
    parameters = {}
    for name, shapes in net.parameter_shapes.items():
        blobs = [random.standard_normal(shape).astype(np.float32) for shape in shapes]
        if types[name] == "BatchNorm":
            blobs = [50 * blobs[0], 50 * (blobs[1] ** 2 + 0.5), np.array([50], np.float32)]
        elif types[name] == "InnerProduct":
            blobs[0] /= np.sqrt(shapes[0][1])  # so that the softmax after it does not multiply its rounding
        parameters[name] = blobs
    net.set_parameters(parameters)
    return net


@pytest.mark.parametrize("size", [(8, 9), (9, 11)])
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("engine", EXACT)
def test_every_layer_is_the_ports_in_float64(engine, name, size, tmp_path):
    text = INPUT % size + LAYERS[name]
    exact, net = (drawn(tmp_path / f"{dtype}.prototxt", text, dtype) for dtype in (torch.float64, torch.float32))
    blob = list(net.blob_shapes)[-1]
    images = torch.from_numpy(np.random.default_rng(17).standard_normal((3, 6, *size)))
    expected = exact.forward({"data": images}, [blob])[blob].flatten(1).numpy()
    found = engines.build(engine, net, blob).forward({"data": images}, [blob])[blob].flatten(1)
    assert found.dtype == torch.float32
    assert relative_l2(found.numpy(), expected) <= FLOAT32


@pytest.fixture(scope="module")
def backbone() -> CaffeNet:
    """The shipped backbone."""
    net = CaffeNet(PROJECT / "prototxt" / "embedded" / "backbone.prototxt")
    return net.load(PROJECT / "embedded" / "backbone.caffemodel")


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Five images of the backbone's size, smooth as photographs are."""
    coarse = torch.from_numpy(np.random.default_rng(17).uniform(-110, 130, (5, 3, 7, 7)))
    return torch.nn.functional.interpolate(coarse, (112, 112), mode="bicubic")


@pytest.fixture(scope="module")
def expected(backbone, images) -> np.ndarray:
    """Their pool5 in float64."""
    exact = CaffeNet(backbone.path, arithmetic=Arithmetic(torch.float64))
    exact.load(PROJECT / "embedded" / "backbone.caffemodel")
    return exact.forward({"data": images}, ["pool5"])["pool5"].flatten(1).numpy()


@pytest.mark.parametrize("blob", ["pool1", "res3a", "pool5", "prob"])
@pytest.mark.parametrize("engine", EXACT)
def test_any_blob_of_the_backbone_can_be_the_feature(engine, blob, backbone, images):
    plain = backbone.forward({"data": images}, [blob])[blob].flatten(1).numpy()
    found = engines.build(engine, backbone, blob).forward({"data": images}, [blob])[blob].flatten(1)
    assert relative_l2(found.numpy(), plain) <= 2 * FLOAT32


@pytest.mark.parametrize("engine", EXACT)
def test_pool5_is_float32s(engine, backbone, images, expected):
    """What would take bfloat16 by default, as OpenVINO does where the processor has it, is told not to."""
    found = engines.build(engine, backbone, "pool5").forward({"data": images}, ["pool5"])["pool5"].flatten(1)
    assert relative_l2(found.numpy(), expected) <= FLOAT32


@pytest.mark.parametrize("engine", ROUNDED)
def test_bfloat16_is_taken_by_name_and_is_no_float32(engine, backbone, images, expected):
    found = engines.build(engine, backbone, "pool5").forward({"data": images}, ["pool5"])["pool5"].flatten(1)
    assert found.dtype == torch.float32 and 100 * FLOAT32 < relative_l2(found.numpy(), expected) <= BFLOAT16


def test_bfloat16_is_refused_where_openvino_would_take_float32_for_it():
    pytest.importorskip("openvino")
    code = "from torch_impl import engines; print(engines.choose('openvino')); engines.choose('openvino-bfloat16')"
    of_avx2 = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}  # which OpenVINO's oneDNN reads when it starts
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, env=of_avx2, capture_output=True, text=True)
    assert "'engine': 'openvino'" in done.stdout
    assert done.stderr.endswith(
        "UserError: engine openvino-bfloat16 needs a processor with AVX-512: pass another ENGINE=\n"
    )


@pytest.mark.parametrize("engine", EXACT)
def test_the_same_batch_gives_the_same_bits_again_and_after_another(engine, backbone, images):
    net = engines.build(engine, backbone, "pool5")
    first, _, again = (net.forward({"data": part}, ["pool5"])["pool5"] for part in (images, images[:2], images))
    assert torch.equal(first, again)


def test_every_batch_norm_and_scale_of_resnet101_is_folded():
    net = drawn_resnet101()
    assert {folded.layer.type for folded in fold(net, "pool5")} == {"Convolution", "ReLU", "Eltwise", "Pooling"}


def drawn_resnet101() -> CaffeNet:
    """ResNet-101 with parameters that are never looked at."""
    net = CaffeNet(PROJECT / "prototxt" / "ResNet-101-deploy.prototxt")
    net.set_parameters(
        {name: [np.ones(s, np.float32) for s in shapes] for name, shapes in net.parameter_shapes.items()}
    )
    return net


def test_the_model_is_valid_onnx_with_a_free_number_of_images(backbone):
    onnx = pytest.importorskip("onnx")
    onnx_graph = importlib.import_module("torch_impl.onnx_graph")
    model = onnx_graph.model(backbone, "pool5")
    onnx.checker.check_model(model, full_check=True)
    assert [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == ["n", 3, 112, 112]


def test_a_layer_that_onnx_is_not_told_of_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    onnx_graph = importlib.import_module("torch_impl.onnx_graph")
    net = drawn(tmp_path / "net.prototxt", INPUT % (8, 9) + layer("ReLU"), torch.float64)
    monkeypatch.delitem(onnx_graph.NODES, "ReLU")
    with user_error("net.prototxt", "ENGINE=eager"):
        onnx_graph.model(net, "y")


def test_the_default_is_the_first_that_is_installed_and_never_rounds(monkeypatch):
    for installed, chosen in (
        ({"openvino", "onnxruntime", "onnx"}, "openvino"),
        ({"onnxruntime", "onnx"}, "onnxruntime"),
        ({"openvino"}, "folded"),
        (set(), "folded"),
    ):
        monkeypatch.setattr(engines, "is_installed", lambda package, there=installed: package in there)
        monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.0")
        assert engines.choose("auto")["engine"] == chosen


def test_the_versions_are_the_engines_name_and_its_packages():
    assert engines.choose("eager") == {"engine": "eager"}
    if has("onnxruntime"):
        found = engines.choose("onnxruntime")
        assert list(found) == ["engine", "onnxruntime", "onnx"]
        assert found["onnx"] == importlib.metadata.version("onnx")


@pytest.mark.parametrize("variation", ["reference", "layout"])
def test_what_is_varied_in_the_ports_own_net_is_computed_by_it(variation):
    assert engines.choose("auto", variation) == {"engine": "eager"}


def test_an_engine_that_is_not_installed_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setattr(engines, "is_installed", lambda package: False)
    with user_error("openvino and onnx", "pip install"):
        engines.choose("openvino-bfloat16")


@pytest.mark.skipif(has("cuda"), reason="there is a GPU")
@pytest.mark.parametrize("name", ["cuda", "cuda-bfloat16"])
def test_without_a_gpu_its_engines_are_refused(name):
    with user_error(name, "needs a GPU and a PyTorch that is built for it: pass another ENGINE="):
        engines.choose(name)


def test_a_gpu_that_is_there_is_taken_by_name_alone_and_told(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "some GPU")
    assert engines.choose("cuda-bfloat16") == {
        "engine": "cuda-bfloat16",
        "gpu": "some GPU",
        "cuda": str(torch.version.cuda),
    }
    assert engines.choose("auto")["engine"] in engines.ENGINES
    assert engines.choose("cuda", "reference") == {"engine": "eager"}


def test_processes_of_one_machine_take_its_gpus_in_turn(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert engines.device_of("cuda") == torch.device("cuda:0")
    for rank, index in (("1", 1), ("2", 0)):
        monkeypatch.setenv("LOCAL_RANK", rank)
        assert engines.device_of("cuda-bfloat16") == torch.device("cuda", index)
    assert engines.device_of("folded") == engines.device_of("auto") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda", "cuda-bfloat16"])
def test_on_a_gpu_all_of_the_net_is_there_and_the_feature_comes_back(name, backbone, images):
    """Without a GPU: fake tensors hold no values, and refuse to be computed with those of another device."""
    exact = CaffeNet(backbone.path, arithmetic=Arithmetic(torch.float64))
    exact.load(PROJECT / "embedded" / "backbone.caffemodel")
    dtype = torch.bfloat16 if name.endswith(engines.BFLOAT16) else torch.float32
    with torch.inference_mode(), FakeTensorMode(allow_non_fake_inputs=True):
        net = FoldedNet(exact, "pool5", dtype, engines.device_of(name))
        assert {blob.device.type for _, blobs in net.layers for blob in blobs} == {"cuda"}
        assert net.compute({"data": images}).device.type == "cuda"
        found = net.forward({"data": images}, ["pool5"])["pool5"]
    assert (found.shape, found.dtype, found.device.type) == ((5, 512, 1, 1), torch.float32, "cpu")


def test_a_module_without_its_distribution_is_not_installed():
    assert engines.is_installed("torch") and not engines.is_installed("experiment")


def test_an_unknown_engine_is_one_line_and_exit_code_2_before_any_stage_runs(tmp_path):
    resolve("embedded", tmp_path / "run", small_devkit(tmp_path / "devkit"), overrides=OVERRIDES)
    command = [sys.executable, "-m", "torch_impl", str(tmp_path / "run"), "--engine", "abacus"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: there is no engine 'abacus'") and done.stderr.count("\n") == 1
    assert RunFolder(tmp_path / "run").manifest("index") is None
