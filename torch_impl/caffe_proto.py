"""Caffe's files read and written: prototxt (text), caffemodel and binaryproto (binary protobuf).

The schema below is our own and holds only the fields that these nets use, with the numbers of BVLC/caffe
src/caffe/proto/caffe.proto. A prototxt with any other field is refused by name, so that nothing that would change
the arithmetic is passed over. In binary files unknown fields are skipped, as protobuf does.

One liberty: a blob's `data` is declared as `bytes` instead of `repeated float [packed]`. Both have the same bytes
on the wire, and a 178 MB model is then read without making 44 million Python floats.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import DecodeError

from experiment.errors import UserError

MAX_AXES = 32  # of a blob (Caffe's kMaxBlobAxes)

ENUMS = {
    "PoolMethod": ["MAX", "AVE", "STOCHASTIC"],
    "RoundMode": ["CEIL", "FLOOR"],
    "EltwiseOp": ["PROD", "SUM", "MAX"],
    "VarianceNorm": ["FAN_IN", "FAN_OUT", "AVERAGE"],
    "SolverMode": ["CPU", "GPU"],
}

# message: (field, number, type, default); "*" repeats, "+" repeats packed.
MESSAGES: dict[str, list[tuple[Any, ...]]] = {
    "BlobShape": [("dim", 1, "+int64")],
    "BlobProto": [
        ("num", 1, "int32"), ("channels", 2, "int32"), ("height", 3, "int32"), ("width", 4, "int32"),
        ("data", 5, "bytes"), ("shape", 7, "BlobShape"), ("double_data", 8, "bytes"),
    ],
    "ParamSpec": [("lr_mult", 3, "float", "1"), ("decay_mult", 4, "float", "1")],
    "FillerParameter": [
        ("type", 1, "string", "constant"), ("value", 2, "float", "0"), ("mean", 5, "float", "0"),
        ("std", 6, "float", "1"), ("variance_norm", 8, "VarianceNorm", "FAN_IN"),
    ],
    "ConvolutionParameter": [
        ("num_output", 1, "uint32"), ("bias_term", 2, "bool", "true"), ("pad", 3, "*uint32"),
        ("kernel_size", 4, "*uint32"), ("group", 5, "uint32", "1"), ("stride", 6, "*uint32"),
        ("weight_filler", 7, "FillerParameter"), ("bias_filler", 8, "FillerParameter"), ("dilation", 18, "*uint32"),
    ],
    "PoolingParameter": [
        ("pool", 1, "PoolMethod", "MAX"), ("kernel_size", 2, "uint32"), ("stride", 3, "uint32", "1"),
        ("pad", 4, "uint32", "0"), ("global_pooling", 12, "bool", "false"), ("round_mode", 13, "RoundMode", "CEIL"),
    ],
    "BatchNormParameter": [
        ("use_global_stats", 1, "bool"), ("moving_average_fraction", 2, "float", "0.999"), ("eps", 3, "float", "1e-5"),
    ],
    "ScaleParameter": [
        ("axis", 1, "int32", "1"), ("num_axes", 2, "int32", "1"), ("filler", 3, "FillerParameter"),
        ("bias_term", 4, "bool", "false"), ("bias_filler", 5, "FillerParameter"),
    ],
    "EltwiseParameter": [("operation", 1, "EltwiseOp", "SUM"), ("coeff", 2, "*float")],
    "InnerProductParameter": [
        ("num_output", 1, "uint32"), ("bias_term", 2, "bool", "true"), ("weight_filler", 3, "FillerParameter"),
        ("bias_filler", 4, "FillerParameter"), ("axis", 5, "int32", "1"), ("transpose", 6, "bool", "false"),
    ],
    "ReLUParameter": [("negative_slope", 1, "float", "0")],
    "SoftmaxParameter": [("axis", 2, "int32", "1")],
    "HDF5DataParameter": [("source", 1, "string"), ("batch_size", 2, "uint32"), ("shuffle", 3, "bool", "false")],
    "InputParameter": [("shape", 1, "*BlobShape")],
    "LayerParameter": [
        ("name", 1, "string"), ("type", 2, "string"), ("bottom", 3, "*string"), ("top", 4, "*string"),
        ("loss_weight", 5, "*float"), ("param", 6, "*ParamSpec"), ("blobs", 7, "*BlobProto"),
        ("convolution_param", 106, "ConvolutionParameter"), ("eltwise_param", 110, "EltwiseParameter"),
        ("hdf5_data_param", 112, "HDF5DataParameter"), ("inner_product_param", 117, "InnerProductParameter"),
        ("pooling_param", 121, "PoolingParameter"), ("relu_param", 123, "ReLUParameter"),
        ("softmax_param", 125, "SoftmaxParameter"), ("batch_norm_param", 139, "BatchNormParameter"),
        ("scale_param", 142, "ScaleParameter"), ("input_param", 143, "InputParameter"),
    ],
    "NetParameter": [
        ("name", 1, "string"), ("layers", 2, "*bytes"), ("input", 3, "*string"), ("input_dim", 4, "*int32"),
        ("input_shape", 8, "*BlobShape"), ("layer", 100, "*LayerParameter"),
    ],
    "SolverParameter": [
        ("net", 24, "string"), ("type", 40, "string", "SGD"), ("base_lr", 5, "float"), ("lr_policy", 8, "string"),
        ("gamma", 9, "float"), ("stepsize", 13, "int32"), ("momentum", 11, "float"), ("weight_decay", 12, "float"),
        ("max_iter", 7, "int32"), ("display", 6, "int32"), ("snapshot", 14, "int32", "0"),
        ("snapshot_prefix", 15, "string"), ("solver_mode", 17, "SolverMode", "GPU"),
    ],
}  # fmt: skip


def build_messages() -> dict[str, Any]:
    """The message classes, by name, made from the tables above."""
    proto = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="udft_caffe.proto", package="udft", syntax="proto2")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, number, type_, *default in fields:
            field = message.field.add(name=field_name, number=number, default_value=default[0] if default else None)
            field.label = proto.LABEL_REPEATED if type_[0] in "*+" else proto.LABEL_OPTIONAL
            if type_[0] == "+":
                field.options.packed = True
            type_ = type_.lstrip("*+")
            if type_ in MESSAGES:
                field.type, field.type_name = proto.TYPE_MESSAGE, f".udft.{type_}"
            elif type_ in ENUMS:
                field.type, field.type_name = proto.TYPE_ENUM, f".udft.{name}.{type_}"
                enum = message.enum_type.add(name=type_)  # nested, as in Caffe: labels of two enums may be equal
                for value, label in enumerate(ENUMS[type_]):
                    enum.value.add(name=label, number=value)
            else:
                field.type = getattr(proto, f"TYPE_{type_.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"udft.{name}")) for name in MESSAGES}


MESSAGE = build_messages()


def read_prototxt(path: Path, message: str = "NetParameter") -> Any:
    """A prototxt as a message ("NetParameter" or "SolverParameter").

    Raises `UserError` where the file is missing, is not text format, or has a field that this port does not know.
    """
    try:
        return text_format.Parse(Path(path).read_text(), MESSAGE[message]())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error})") from None
    except text_format.ParseError as error:
        raise UserError(f"{path}: {error}: only what docs/artifacts.md's nets use is understood") from None


def enum_label(message: Any, field: str) -> str:
    """The label of an enum field, "MAX" for instance."""
    descriptor = message.DESCRIPTOR.fields_by_name[field]
    return descriptor.enum_type.values_by_number[getattr(message, field)].name


def blob_array(blob: Any, where: str) -> np.ndarray:
    """A blob's values as a float32 array in Caffe's shape, not copied.

    Raises `UserError` (beginning with `where`) where the number of values is not that of the shape.
    """
    legacy = (blob.num, blob.channels, blob.height, blob.width)  # files from before 2014 have these four only
    shape = tuple(blob.shape.dim) if blob.HasField("shape") else legacy
    double = bool(blob.double_data) and not blob.data
    content = blob.double_data if double else blob.data
    width = 8 if double else 4
    # Python's integers: a product in int64 could wrap to the right number.
    whole = len(content) == width * math.prod(shape)
    if not whole or min(shape, default=0) < 0 or len(shape) > MAX_AXES:
        raise UserError(f"{where}: {len(content)} bytes for shape {shape}: the file is damaged, get it again")
    values = np.frombuffer(content, "<f8").astype(np.float32) if double else np.frombuffer(content, "<f4")
    return values.reshape(shape)


def read_caffemodel(path: Path) -> dict[str, list[np.ndarray]]:
    """The blobs of every layer that has any, by layer name, in Caffe's order.

    Convolution and InnerProduct: weight (n_out, n_in, kh, kw) or (n_out, n_in), then bias. BatchNorm: sums of
    mean and variance, then their scale factor (1,). Scale: gamma, then beta. All float32.
    Raises `UserError` where the file is missing, damaged, or in the layout before 2014 (V1 layers).
    """
    try:
        net = MESSAGE["NetParameter"].FromString(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error})") from None
    except DecodeError:
        raise UserError(f"{path} is not a whole caffemodel: get the file again and check its sha256") from None
    if net.layers:
        raise UserError(f"{path} is in the old V1 layout: convert it with Caffe's upgrade_net_proto_binary")
    return {
        layer.name: [blob_array(blob, f"{path}: layer {layer.name}") for blob in layer.blobs]
        for layer in net.layer
        if layer.blobs
    }


def write_caffemodel(path: Path, name: str, layers: list[tuple[str, str, list[np.ndarray]]]) -> None:
    """Write a caffemodel that Caffe itself loads: (layer name, layer type, blobs) in the net's order."""
    net = MESSAGE["NetParameter"](name=name)
    for layer_name, layer_type, blobs in layers:
        layer = net.layer.add(name=layer_name, type=layer_type)
        for array in blobs:
            layer.blobs.add(data=np.ascontiguousarray(array, "<f4").tobytes()).shape.dim.extend(array.shape)
    Path(path).write_bytes(net.SerializeToString(deterministic=True))


def read_binaryproto(path: Path) -> np.ndarray:
    """A mean file: (channels, height, width) float32, BGR."""
    try:
        blob = MESSAGE["BlobProto"].FromString(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error})") from None
    except DecodeError:
        raise UserError(f"{path} is not a whole binaryproto: get the file again") from None
    array = blob_array(blob, str(path))
    if array.ndim != 4 or array.shape[0] != 1:
        raise UserError(f"{path} has shape {array.shape}, not (1, channels, height, width): it is no mean file")
    return array[0]
