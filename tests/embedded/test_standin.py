"""The stand-ins for VOC2007 and ResNet-101's weights."""

import hashlib

import cv2
import numpy as np
import pytest
import torch

from embedded import standin
from embedded.standin import SIZES, read_labels, write_devkit
from experiment.errors import UserError
from prototxt.generate import resnet
from torch_impl.caffe_net import CaffeNet

LISTS = {
    "trainval": "000005\r\n000007\r\n", "test": "000001\n", "cat_trainval": "000005  1\r\n000007 -1\r\n",
    "cat_test": "000001 -1\n", "train_trainval": "000005  0\n000007  1\n", "train_test": "000001  1\n",
    "train": "000005\n",
}  # fmt: skip


@pytest.fixture
def lists(tmp_path):
    folder = tmp_path / "lists"
    folder.mkdir()
    for name, text in LISTS.items():
        (folder / f"{name}.txt").write_bytes(text.encode())
    return folder


def test_labels_are_read_from_the_lists(lists):
    """`train.txt` is a split, `train_test.txt` the class of that name."""
    assert read_labels(lists) == (["cat", "train"], {"000005": {"cat": 1, "train": 0}, "000007": {"train": 1},
                                                     "000001": {"train": 1}})  # fmt: skip


def test_a_devkit_has_the_real_lists_and_an_image_of_a_real_size_for_every_id(lists, tmp_path):
    write_devkit(lists, tmp_path / "VOC2007")
    for name, text in LISTS.items():
        assert (tmp_path / "VOC2007" / "ImageSets" / "Main" / f"{name}.txt").read_bytes() == text.encode()
    found = {path.stem: cv2.imread(str(path)) for path in (tmp_path / "VOC2007" / "JPEGImages").iterdir()}
    assert found.keys() == {"000001", "000005", "000007"}
    assert all(image.shape[:2] in SIZES and image.std() > 5 for image in found.values())
    write_devkit(lists, tmp_path / "again")
    assert all(
        path.read_bytes() == (tmp_path / "again" / "JPEGImages" / path.name).read_bytes()
        for path in (tmp_path / "VOC2007" / "JPEGImages").iterdir()
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [("cat_test", None), ("cat_trainval", "000005\n"), ("cat_trainval", "000009 1\n"), ("trainval", "../x\n"),
     ("trainval", None)],
)  # fmt: skip
def test_lists_that_are_none_are_refused_in_a_line(lists, name, text):
    path = lists / f"{name}.txt"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(UserError, match="does not hold VOC2007's lists"):
        read_labels(lists)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"^IMAGESETS=.*nowhere is not a folder: name the ImageSets/Main"):
        read_labels(tmp_path / "nowhere")


def test_the_command_that_uses_them_is_printed_whole(lists, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(standin, "write_weights", lambda path, folder: path.write_bytes(b"weights"))
    out = tmp_path / "stand-in"
    monkeypatch.setattr("sys.argv", ["standin", str(lists), str(out)])
    for _ in range(2):  # also of what is there already
        assert standin.main() == 0
        variables = (
            capsys.readouterr().out.splitlines()[-1].removeprefix("make caffe-reproduce torch-reproduce ").split()
        )
        named = dict(variable.split("=", 1) for variable in variables)
        assert named.pop("SET") == f"backbone.weights_sha256={hashlib.sha256(b'weights').hexdigest()}"
        assert named == {"PROFILE": "paper", "DEVKIT": str(out), "WEIGHTS": str(out / standin.WEIGHTS)}


def test_the_weights_load_into_the_net_and_keep_its_features_finite(tmp_path, monkeypatch):
    text = resnet("small", 64, 4, [2, 3], [1, 2], 5)
    monkeypatch.setattr(standin, "resnet101", lambda: text)
    standin.write_weights(tmp_path / "w.caffemodel", tmp_path)
    (tmp_path / "net.prototxt").write_text(text)
    net = CaffeNet(tmp_path / "net.prototxt").load(tmp_path / "w.caffemodel")
    pool5 = net.forward({"data": torch.from_numpy(np.full((1, 3, 64, 64), 50.0))}, ["pool5"])["pool5"]
    assert torch.isfinite(pool5).all() and pool5.std() > 0
