"""The engine `openvino`: a folded net in OpenVINO, on the CPU."""

from collections.abc import Iterable, Mapping

import openvino
import torch
from torch import Tensor

from experiment.errors import UserError
from torch_impl import onnx_graph
from torch_impl.caffe_net import CaffeNet

# What OpenVINO calls a type. It must be told: where the processor has bfloat16, that is what it would take.
PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16"}


class OpenVINONet:
    """Computes one blob of a net as `CaffeNet.forward` does."""

    def __init__(self, net: CaffeNet, blob: str, dtype: torch.dtype) -> None:
        """net : computes in float64. dtype : what this one computes in. Raises `UserError` as `compiled` does."""
        self.blob = blob
        settings = {
            "EXECUTION_MODE_HINT": "ACCURACY" if dtype == torch.float32 else "PERFORMANCE",
            "PERFORMANCE_HINT": "LATENCY",  # all threads on one batch
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "ENABLE_CPU_PINNING": False,  # or two processes would be bound to the same cores
        }
        self._compiled = compiled(net, blob, dtype, settings)

    def forward(self, inputs: Mapping[str, Tensor], wanted: Iterable[str]) -> dict[str, Tensor]:
        """The blob, which is all that can be `wanted`, (n, D) float32."""
        assert list(wanted) == [self.blob]
        images = inputs[onnx_graph.INPUT].float().contiguous().numpy()
        return {self.blob: torch.from_numpy(self._compiled(images)[0].copy())}  # the runtime reuses its memory


def compiled(net: CaffeNet, blob: str, dtype: torch.dtype, settings: Mapping[str, object]) -> openvino.CompiledModel:
    """A net of float64 up to a blob, in OpenVINO with these settings, computing in a type.

    Raises `UserError` where OpenVINO has not the type on this processor: it would take float32 and say nothing.
    """
    core = openvino.Core()
    model = core.read_model(onnx_graph.model(net, blob).SerializeToString())
    found = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": PRECISIONS[dtype], **settings})
    taken = found.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if taken != PRECISIONS[dtype]:
        raise UserError(
            f"OpenVINO computes in {taken} on this processor, not in {PRECISIONS[dtype]}: pass ENGINE=folded-bfloat16"
        )
    return found
