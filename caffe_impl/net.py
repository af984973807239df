"""What the stages that run a Caffe net share: weights that are proved to fit, batches, and blobs.

Caffe ends the process where a caffemodel's shapes differ or the file is cut short, and says nothing where a layer
is not in it. So a caffemodel is read and compared here before Caffe sees it.
"""

from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence

import caffe
import numpy as np
from caffe.proto import caffe_pb2
from google.protobuf.message import DecodeError

from experiment.artifacts import batches
from experiment.errors import UserError
from experiment.stage_writer import StageWriter

LEGACY_AXES = 4  # before 2015 every blob was stored as num x channels x height x width


def load_net(prototxt: Path, caffemodel: Optional[Path] = None) -> caffe.Net:
    """Build a net in test mode, with the caffemodel's weights where one is given.

    Raises `UserError` where the caffemodel cannot be read, does not fit the net, or holds values that are not
    finite. A prototxt that Caffe cannot build ends the process; the run's own are generated.
    """
    net = caffe.Net(str(prototxt), caffe.TEST)
    if caffemodel is not None:
        check_weights(net, prototxt, caffemodel)
        net.copy_from(str(caffemodel))
        for layer, blobs in net.params.items():
            if not all(np.isfinite(blob.data).all() for blob in blobs):
                raise UserError(f"{caffemodel}: layer {layer} holds values that are not finite: get a sound file")
    return net


def check_weights(net: caffe.Net, prototxt: Path, caffemodel: Path) -> None:
    """Raise `UserError` naming the first layer of the net whose parameters the caffemodel lacks or has otherwise."""
    model = caffe_pb2.NetParameter()
    try:
        model.ParseFromString(caffemodel.read_bytes())
    except OSError as error:
        raise UserError(f"{caffemodel} cannot be read ({error.strerror}): pass WEIGHTS=<the caffemodel>") from None
    except DecodeError:
        raise UserError(f"{caffemodel} is not a whole caffemodel: get it again") from None
    stored = {layer.name: layer.blobs for layer in (*model.layers, *model.layer)}
    for name, blobs in net.params.items():
        misfit = blobs_misfit(stored.get(name), [tuple(blob.data.shape) for blob in blobs])
        if misfit:
            raise UserError(
                f"{caffemodel} does not fit {prototxt}: layer {name} {misfit}: pass the caffemodel of this net"
            )


def blobs_misfit(stored: Optional[Sequence], shapes: Sequence[tuple[int, ...]]) -> str:
    """What keeps a layer's stored BlobProtos from being blobs of these shapes; empty where nothing does."""
    if stored is None:
        return "is not in it"
    if len(stored) != len(shapes):
        return f"has {len(stored)} blobs in it, not {len(shapes)}"
    for index, (blob, shape) in enumerate(zip(stored, shapes)):
        found = tuple(blob.shape.dim)
        wanted = shape
        if not blob.HasField("shape"):
            found = (blob.num, blob.channels, blob.height, blob.width)
            wanted = (1,) * (LEGACY_AXES - len(shape)) + shape
        if found != wanted:
            return f"has blob {index} of shape {found} in it, not {wanted}"
        count = len(blob.double_data) or len(blob.data)
        if count != int(np.prod(shape, dtype=np.int64)):
            return f"has blob {index} with {count} values in it for shape {shape}"
    return ""


def read_mean(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A binaryproto's mean image, (3, H, W) float32 BGR, which must have the net's input `shape`."""
    blob = caffe_pb2.BlobProto()
    try:
        blob.ParseFromString(path.read_bytes())
        mean = caffe.io.blobproto_to_array(blob).astype(np.float32)
    except (OSError, DecodeError, ValueError):
        raise UserError(f"{path} is not a whole mean image (binaryproto): pass MEAN=ResNet_mean.binaryproto") from None
    mean = mean.reshape(mean.shape[-3:]) if mean.ndim == LEGACY_AXES and mean.shape[0] == 1 else mean
    if mean.shape != shape:
        raise UserError(
            f"{path} is a mean of shape {mean.shape}, the net's input is {shape}: pass one of that size, "
            "or SET=features.mean=channels"
        )
    return mean


def forward_images(net: caffe.Net, images_bgr: np.ndarray, mean: np.ndarray) -> None:
    """Run a batch through the net; its blobs hold the result.

    Parameters
    ----------
    images_bgr : (b, H, W, 3) uint8 of the net's own H and W. Values stay 0..255.
    mean : grey levels to subtract, float32, (3,) one a channel or (3, H, W), blue first.
    """
    shape = (len(images_bgr), *net.blobs["data"].data.shape[1:])
    if images_bgr.shape != (shape[0], shape[2], shape[3], shape[1]):
        raise UserError(
            f"images of shape {images_bgr.shape[1:]} do not fit a net of input {shape[1:]}: "
            "delete the run's images stage and run again"
        )
    transformer = caffe.io.Transformer({"data": shape})
    transformer.set_transpose("data", (2, 0, 1))
    transformer.set_mean("data", mean)
    forward_rows(net, np.stack([transformer.preprocess("data", image) for image in images_bgr]))


def forward_rows(net: caffe.Net, rows: np.ndarray) -> None:
    """Run rows, (b, ...) float32, through the net as one batch."""
    net.blobs["data"].reshape(*rows.shape)
    net.reshape()
    net.blobs["data"].data[...] = rows
    net.forward()


def all_blobs(net: caffe.Net, images_bgr: np.ndarray, mean: np.ndarray, batch_size: int) -> Dict[str, np.ndarray]:
    """Every blob of the prototxt as a forward pass leaves it, by name in the net's order; images as `forward_images`.

    The copies that Caffe makes of a blob that several layers read (its Split layers, which no prototxt has) are
    left out.
    """
    layers = zip(net._layer_names, net.layers)
    copies = {top for name, layer in layers if layer.type == "Split" for top in net.top_names[name]}
    parts: Dict[str, List[np.ndarray]] = {name: [] for name in net.blobs if name not in copies}
    for batch in batches(len(images_bgr), batch_size):
        forward_images(net, images_bgr[batch], mean)
        for name, blobs in parts.items():
            blobs.append(net.blobs[name].data.copy())
    return {name: np.concatenate(blobs) for name, blobs in parts.items()}


def write_blobs(out: StageWriter, blobs: Mapping[str, np.ndarray]) -> None:
    """Write blobs and their names in their order."""
    out.json("blob_names", list(blobs))
    for position, (name, blob) in enumerate(blobs.items()):
        out.array(f"blobs/{position:03d}-{name}", blob)
