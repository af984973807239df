"""Converted descendants against their own way of computing and against the real Caffe; what is refused, by name."""

import pickle
from pathlib import Path

import fake_descendants as fake
import h5py
import numpy as np
import pytest
import torch

from experiment.artifacts import read_json, sha256_file
from experiment.errors import UserError
from fetch.convert import caffemodel, pytorch
from fetch.convert.caffemodel import convert
from prototxt import generate
from tests.conftest import PROJECT, caffe_case, relative_l2, user_error
from torch_impl.caffe_net import Arithmetic, CaffeNet
from torch_impl.caffe_proto import read_caffemodel

ROUNDED = 1e-6  # float32 weights (6e-8 each) through 101 layers, computed in float64
CAFFE = 1e-5  # the same as for every net (compare/tolerances.toml)
SIZE = 64
THIN, FULL, SHORT = (
    generate.resnet("ResNet-101", SIZE, *size, fake.CLASSES) for size in (fake.THIN, fake.FULL, fake.SHORT)
)
IMAGES_BGR = np.random.default_rng(5).integers(0, 256, (2, 3, SIZE, SIZE)).astype(np.float64)
KINDS = ["keras", "matconvnet", "torch"]
FORWARD = {"keras": fake.keras_forward, "matconvnet": fake.matconvnet_forward, "torch": fake.torch_forward}
MEANS = {
    "keras": [103.939, 116.779, 123.68],
    "matconvnet": [round(float(v), 4) for v in fake.AVERAGE_RGB.mean((0, 1), dtype=np.float64)[::-1]],
    "torch": [103.53, 116.28, 123.675],
}


def arrays_of(kind: str, size: fake.Size = fake.SHORT) -> fake.Arrays:
    return {"keras": fake.keras_arrays, "matconvnet": fake.matconvnet_arrays, "torch": fake.torch_arrays}[kind](size)


def write(kind: str, file: Path, arrays: fake.Arrays, size: fake.Size = fake.SHORT) -> Path:
    """A descendant's file."""
    if kind == "matconvnet":
        fake.write_matconvnet(file, arrays, fake.dag_layers(size))
    else:
        {"keras": fake.write_keras, "torch": fake.write_torch}[kind](file, arrays)
    return file


def converted(kind: str, file: Path, folder: Path, prototxt: str = SHORT) -> tuple[Path, dict]:
    """Convert a file for a net."""
    folder.mkdir(exist_ok=True)
    (folder / "net.prototxt").write_text(prototxt)
    return convert(kind, file, folder, folder / "net.prototxt")


def input_of(kind: str) -> np.ndarray:
    return IMAGES_BGR - np.array(MEANS[kind]).reshape(3, 1, 1)


def caffe_net_blobs(folder: Path, prototxt: str, caffemodel: Path, data: np.ndarray) -> dict[str, torch.Tensor]:
    """What the port makes of a caffemodel in float64."""
    (folder / "net.prototxt").write_text(prototxt)
    net = CaffeNet(folder / "net.prototxt", arithmetic=Arithmetic(dtype=torch.float64)).load(caffemodel)
    return net.forward({"data": torch.from_numpy(data)})


def assert_same(found: dict, expected: dict, tolerance: float) -> None:
    """Every blob that the descendant has: after each norm (and ReLU), sum, pooling, and the classifier."""
    assert len(expected) >= 1 + 104 + 33 + 1
    for name, blob in expected.items():
        assert 1e-3 < float(blob.abs().max()) < 1e3, f"{name} shows nothing"
        assert relative_l2(np.asarray(found[name]), blob.numpy()) <= tolerance, name


def write_converted(kind: str):
    """A function that writes a kind's converted caffemodel, for Caffe's case."""

    def writer(path: Path) -> None:
        file = write(kind, path.with_name("descendant"), arrays_of(kind, fake.THIN), fake.THIN)
        converted(kind, file, path.parent, THIN)[0].rename(path)

    return writer


for each in KINDS:
    caffe_case(
        f"converted-{each}",
        THIN,
        {"data": input_of(each).astype(np.float32)},
        files={"converted.caffemodel": write_converted(each)},
        weights="converted.caffemodel",
        outputs=["blobs"],
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_blob_is_the_descendants(kind, tmp_path):
    arrays = arrays_of(kind, fake.THIN)
    path, sidecar = converted(kind, write(kind, tmp_path / "descendant", arrays, fake.THIN), tmp_path, THIN)
    assert sidecar["mean"]["bgr"] == MEANS[kind]
    with torch.inference_mode():
        expected = FORWARD[kind](arrays, fake.THIN, IMAGES_BGR)
        assert_same(caffe_net_blobs(tmp_path, THIN, path, input_of(kind)), expected, ROUNDED)


@pytest.mark.parametrize("kind", KINDS)
def test_caffe_itself_computes_the_descendants_blobs(kind, caffe):
    result = caffe(f"converted-{kind}")
    with torch.inference_mode():
        expected = FORWARD[kind](arrays_of(kind, fake.THIN), fake.THIN, IMAGES_BGR)
    assert_same({name: result.array(f"blobs/{name}") for name in expected}, expected, CAFFE)


def test_the_real_widths_fit_the_committed_net(tmp_path):
    arrays = fake.keras_arrays(fake.FULL)
    fake.write_keras(tmp_path / "full.h5", arrays)
    prototxt = PROJECT / "prototxt" / "ResNet-101-deploy.prototxt"
    path, _ = convert("keras", tmp_path / "full.h5", tmp_path, prototxt)
    with torch.inference_mode():
        expected = fake.keras_forward(arrays, fake.FULL, IMAGES_BGR[:1])
        assert_same(caffe_net_blobs(tmp_path, FULL, path, input_of("keras")[:1]), expected, ROUNDED)


@pytest.mark.parametrize("root", ["/", "model_weights"])
@pytest.mark.parametrize("classifier", ["predictions", "probs"])
def test_keras_layouts_give_the_same_caffemodel(root, classifier, tmp_path):
    fake.write_keras(tmp_path / "file.h5", fake.keras_arrays(fake.SHORT, classifier), root)
    _, sidecar = converted("keras", tmp_path / "file.h5", tmp_path)
    fake.write_keras(tmp_path / "usual.h5", fake.keras_arrays(fake.SHORT))
    assert sidecar["sha256"] == converted("keras", tmp_path / "usual.h5", tmp_path / "other")[1]["sha256"]


def test_pytorchs_two_file_formats_give_the_same_caffemodel(tmp_path):
    fake.write_torch(tmp_path / "old.pth", arrays_of("torch"))
    fake.write_torch(tmp_path / "new.pth", arrays_of("torch"), zipped=True)
    old, new = (converted("torch", tmp_path / f"{age}.pth", tmp_path / age)[1] for age in ("old", "new"))
    assert old["sha256"] == new["sha256"]


def test_biases_of_matconvnets_convolutions_are_not_lost(tmp_path):
    arrays, layers = arrays_of("matconvnet"), fake.dag_layers(fake.SHORT)
    without = converted("matconvnet", write("matconvnet", tmp_path / "without.mat", arrays), tmp_path)[0]
    before = read_caffemodel(without)
    layer = next(layer for layer in layers if layer["name"] == "res2a_branch2a")
    layer["params"] = np.array([["res2a_branch2a_filter", "res2a_branch2a_bias"]], object)
    bias = np.arange(8, dtype=np.float32).reshape(8, 1)
    fake.write_matconvnet(tmp_path / "with.mat", arrays | {"res2a_branch2a_bias": bias}, layers)
    after = read_caffemodel(converted("matconvnet", tmp_path / "with.mat", tmp_path)[0])
    np.testing.assert_allclose(after["bn2a_branch2a"][0], before["bn2a_branch2a"][0] - bias.ravel(), rtol=1e-6)


@pytest.mark.parametrize("kind", ["keras", "torch"])
def test_a_file_without_classifier_leaves_it_zero_and_says_so(kind, tmp_path):
    arrays = fake.keras_arrays(fake.SHORT, classifier="") if kind == "keras" else arrays_of("torch")
    path, sidecar = converted(kind, write(kind, tmp_path / "notop", arrays), tmp_path)
    assert all((blob == 0).all() for blob in read_caffemodel(path)["fc1000"])
    assert any("fc1000 is zeros" in difference for difference in sidecar["differences"])


def test_blob_2_is_1_and_caffes_order_holds(tmp_path):
    blobs = read_caffemodel(converted("torch", write("torch", tmp_path / "file.pth", arrays_of("torch")), tmp_path)[0])
    assert list(blobs)[:6] == ["conv1", "bn_conv1", "scale_conv1", "res2a_branch1", "bn2a_branch1", "scale2a_branch1"]
    assert all(blobs[name][2].tolist() == [1] for name in blobs if name.startswith("bn"))
    assert all((blobs[name][1] >= 0).all() for name in blobs if name.startswith("bn"))


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("keras", ["pool1", "mean", "origin", "file: its hash"]),
        ("matconvnet", ["mean", "variance", "file: its hash"]),
        ("torch", ["stride", "pool1", "mean", "input", "fc1000 is zeros", "file: its hash"]),
    ],
)
def test_sidecar_names_origin_and_differences(kind, named, tmp_path):
    file = write(kind, tmp_path / "descendant", arrays_of(kind))
    path, sidecar = converted(kind, file, tmp_path)
    assert path == tmp_path / f"ResNet-101-from-{kind}.caffemodel"
    assert read_json(path.with_suffix(".json")) == sidecar
    assert sidecar["sha256"] == sha256_file(path) and sidecar["version"] == 1
    origin = sidecar["converted_from"]
    assert (origin["format"], origin["file name"], origin["published"]) == (kind, "descendant", False)
    assert (origin["bytes"], origin["sha256"]) == (file.stat().st_size, sha256_file(file))
    assert len(sidecar["differences"]) == len(named)
    for difference, words in zip(sidecar["differences"], named, strict=True):
        assert words in difference


def test_the_published_file_is_known(monkeypatch, tmp_path):
    file = write("torch", tmp_path / "file.pth", arrays_of("torch"))
    monkeypatch.setattr(pytorch, "PUBLISHED", {"sha256": ("0000000", sha256_file(file)[:7])})
    _, sidecar = converted("torch", file, tmp_path)
    assert sidecar["converted_from"]["published"]
    assert not any("its hash" in difference for difference in sidecar["differences"])


@pytest.mark.parametrize(("scale", "said"), [(1.0, False), (1 / 58, True)])
def test_conv1_that_is_made_for_grey_levels_is_named(scale, said, tmp_path):
    arrays = arrays_of("torch")
    arrays["0.weight"] = arrays["0.weight"] * np.float32(scale)
    _, sidecar = converted("torch", write("torch", tmp_path / "file.pth", arrays), tmp_path)
    assert any("look made for grey levels" in difference for difference in sidecar["differences"]) == said


class Code:
    """What a hostile pickle is made of."""

    def __reduce__(self):
        return (print, ("code ran",))


FIRST_KERNEL = {"keras": "conv1_conv/kernel:0", "matconvnet": "conv1_filter", "torch": "0.weight"}
A_VECTOR = {"keras": "conv3_block3_2_bn/gamma:0", "matconvnet": "bn3b2_branch2b_mult", "torch": "5.2.bn2.weight"}


def refused(kind: str, folder: Path, file: Path, says: str) -> None:
    """Converting must end in one line that names the file, and leave nothing."""
    out = folder / "out"
    with user_error(file, says):
        converted(kind, file, out)
    assert [path.name for path in out.iterdir()] == ["net.prototxt"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", ["missing", "shape", "nan", "integers", "superfluous", "other net"])
def test_damaged_weights_are_refused_by_name(kind, damage, tmp_path):
    arrays, name = arrays_of(kind), A_VECTOR[kind]
    plain = name.removesuffix(":0")
    if damage == "missing":
        del arrays[name]
    elif damage == "shape":
        arrays[FIRST_KERNEL[kind]] = arrays[FIRST_KERNEL[kind]][:-1]
        plain = FIRST_KERNEL[kind].removesuffix(":0")
    elif damage == "nan":
        arrays[name] = np.where(np.arange(arrays[name].size).reshape(arrays[name].shape) == 1, np.nan, arrays[name])
        arrays[name] = arrays[name].astype(np.float32)
    elif damage == "integers":
        arrays[name] = arrays[name].astype(np.int32)
    elif damage == "superfluous":
        plain = {"keras": "other_layer/kernel", "matconvnet": "other_filter", "torch": "8.weight"}[kind]
        arrays[plain + (":0" if kind == "keras" else "")] = np.zeros((1, 1), np.float32)
    else:  # one block more, as ResNet-152 has
        plain = {"keras": "conv3_block5_1_conv", "matconvnet": "other", "torch": "5.4.conv1"}[kind]
        extra = {"keras": f"{plain}/kernel:0", "matconvnet": "other_filter", "torch": f"{plain}.weight"}[kind]
        arrays[extra] = arrays[FIRST_KERNEL[kind]]
    refused(kind, tmp_path, write(kind, tmp_path / "damaged", arrays), plain)


@pytest.mark.parametrize(
    ("kind", "name", "says"),
    [
        ("keras", "conv2_block1_0_bn/moving_variance:0", "negative variance"),
        ("torch", "4.0.downsample.1.running_var", "negative variance"),
        ("matconvnet", "bn2a_branch1_moments", "not positive"),
    ],
)
def test_negative_spread_is_refused(kind, name, says, tmp_path):
    arrays = arrays_of(kind)
    arrays[name] = -np.abs(arrays[name])
    refused(kind, tmp_path, write(kind, tmp_path / "damaged", arrays), says)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("content", ["truncated", "no such format", "empty", "the others'"])
def test_what_is_no_whole_file_is_refused(kind, content, tmp_path):
    file = write(kind, tmp_path / "file", arrays_of(kind))
    if content == "truncated":
        file.write_bytes(file.read_bytes()[:-1000])
    elif content == "the others'":
        other = "keras" if kind == "torch" else "torch"
        write(other, file, arrays_of(other))
    else:
        file.write_bytes(b"not a model\n" * 500 if content == "no such format" else b"")
    refused(kind, tmp_path, file, "get ")


def test_what_ends_while_it_writes_leaves_nothing(monkeypatch, tmp_path):
    def interrupted(path: Path, value: object) -> None:
        raise KeyboardInterrupt

    file = write("torch", tmp_path / "file.pth", arrays_of("torch"))
    monkeypatch.setattr(caffemodel, "write_json", interrupted)
    with pytest.raises(KeyboardInterrupt):
        converted("torch", file, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["net.prototxt"]


@pytest.mark.parametrize("kind", KINDS)
def test_file_that_is_not_there_is_refused(kind, tmp_path):
    refused(kind, tmp_path, tmp_path / "nowhere", "not a file")


@pytest.mark.parametrize("content", [{"0.weight": Code()}, [Code()], {"0.weight": 3}, [1, 2], {1: torch.zeros(1)}])
def test_pth_that_holds_anything_but_tensors_runs_nothing(content, tmp_path, capfd):
    torch.save(content, tmp_path / "hostile.pth")
    refused("torch", tmp_path, tmp_path / "hostile.pth", "get ")
    with open(tmp_path / "plain.pth", "wb") as file:
        pickle.dump(content, file, protocol=2)
    refused("torch", tmp_path, tmp_path / "plain.pth", "get ")
    assert "code ran" not in "".join(capfd.readouterr())


def test_a_pth_that_cannot_be_loaded_is_told_in_our_own_words(tmp_path):
    torch.save([Code()], tmp_path / "hostile.pth")
    with pytest.raises(UserError) as error:
        pytorch.read(tmp_path / "hostile.pth", None)
    said = (
        "is no whole file of tensors alone (UnpicklingError): it is damaged, in another format, or holds code, "
        "which is not run"
    )
    assert str(error.value) == f"{tmp_path / 'hostile.pth'} {said}: {pytorch.REMEDY}"


@pytest.mark.parametrize("tensor", [torch.zeros(8, 3, 7, 7).to_sparse(), torch.zeros(8, 3, 7, 7, dtype=torch.bfloat16)])
def test_tensors_of_other_kinds_are_refused(tensor, tmp_path):
    torch.save({"0.weight": tensor}, tmp_path / "file.pth")
    refused("torch", tmp_path, tmp_path / "file.pth", "plain tensor")


def test_keras_data_outside_the_file_is_not_read(tmp_path):
    arrays = arrays_of("keras")
    outside = arrays.pop("conv1_conv/bias:0")
    with h5py.File(tmp_path / "outside.h5", "w") as h5:
        h5["bias"] = outside
    write("keras", tmp_path / "file.h5", arrays)
    with h5py.File(tmp_path / "file.h5", "a") as h5:
        h5["conv1_conv/conv1_conv/bias:0"] = h5py.ExternalLink(str(tmp_path / "outside.h5"), "bias")
    refused("keras", tmp_path, tmp_path / "file.h5", "has no conv1_conv/bias")


@pytest.mark.parametrize(
    "change", ["stride on the 3x3", "pool1 padded", "pool1 averages", "no pool1", "two more", "v7.3", "no layers"]
)
def test_matconvnets_own_architecture_must_be_caffes(change, tmp_path):
    layers, file = fake.dag_layers(fake.SHORT), tmp_path / "file.mat"
    by_name = {layer["name"]: layer for layer in layers}
    if change == "stride on the 3x3":
        by_name["res3a_branch2a"]["block"] = by_name["res3a_branch2c"]["block"]
        says = "res3a_branch2a with another stride"
    elif change == "two more":
        by_name["res2a"]["params"], says = np.array([["a", "b"]], object), "layer res2a too many"
    else:
        says = "pool1" if "pool1" in change else "get "
        if change == "pool1 padded":
            by_name["pool1"]["block"]["pad"][0, 0] = [[1.0, 1.0, 1.0, 1.0]]
        elif change == "pool1 averages":
            by_name["pool1"]["block"]["method"][0, 0] = "avg"
        else:
            layers.remove(by_name["pool1"])
    fake.write_matconvnet(file, arrays_of("matconvnet"), layers)
    if change == "v7.3":
        file.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(512))
    elif change == "no layers":
        fake.scipy.io.savemat(file, {"params": np.zeros(3)})
    refused("matconvnet", tmp_path, file, says)
