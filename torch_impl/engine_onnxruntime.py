"""The engine `onnxruntime`: a folded net in ONNX Runtime, on the CPU, in float32."""

from collections.abc import Iterable, Mapping

import onnxruntime
import torch
from torch import Tensor

from torch_impl import onnx_graph
from torch_impl.caffe_net import CaffeNet


class ONNXRuntimeNet:
    """Computes one blob of a net as `CaffeNet.forward` does."""

    def __init__(self, net: CaffeNet, blob: str) -> None:
        """net : computes in float64."""
        self.blob = blob
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        model = onnx_graph.model(net, blob).SerializeToString()
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def forward(self, inputs: Mapping[str, Tensor], wanted: Iterable[str]) -> dict[str, Tensor]:
        """The blob, which is all that can be `wanted`, (n, D) float32."""
        assert list(wanted) == [self.blob]
        images = inputs[onnx_graph.INPUT].float().contiguous().numpy()
        return {self.blob: torch.from_numpy(self._session.run(None, {onnx_graph.INPUT: images})[0])}
