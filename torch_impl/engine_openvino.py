"""The engine `openvino`: a folded net in OpenVINO, on the CPU."""

from collections.abc import Iterable, Mapping

import openvino
import torch
from torch import Tensor

from torch_impl import onnx_graph
from torch_impl.caffe_net import CaffeNet

# What OpenVINO calls a type. It must be told: where the processor has bfloat16, that is what it would take.
PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16"}


def has_bfloat16() -> bool:
    """Whether OpenVINO has bfloat16 on this processor: where it has not, it takes float32 for it and says nothing."""
    core = openvino.Core()
    core.set_property("CPU", {"INFERENCE_PRECISION_HINT": PRECISIONS[torch.bfloat16]})
    return core.get_property("CPU", "INFERENCE_PRECISION_HINT").get_type_name() == PRECISIONS[torch.bfloat16]


class OpenVINONet:
    """Computes one blob of a net as `CaffeNet.forward` does."""

    def __init__(self, net: CaffeNet, blob: str, dtype: torch.dtype) -> None:
        """net : computes in float64. dtype : what this one computes in."""
        self.blob = blob
        core = openvino.Core()
        settings = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[dtype],
            "EXECUTION_MODE_HINT": "ACCURACY" if dtype == torch.float32 else "PERFORMANCE",
            "PERFORMANCE_HINT": "LATENCY",  # all threads on one batch
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "ENABLE_CPU_PINNING": False,  # or two processes would be bound to the same cores
        }
        model = core.read_model(onnx_graph.model(net, blob).SerializeToString())
        self._compiled = core.compile_model(model, "CPU", settings)

    def forward(self, inputs: Mapping[str, Tensor], wanted: Iterable[str]) -> dict[str, Tensor]:
        """The blob, which is all that can be `wanted`, (n, D) float32."""
        assert list(wanted) == [self.blob]
        images = inputs[onnx_graph.INPUT].float().contiguous().numpy()
        return {self.blob: torch.from_numpy(self._compiled(images)[0].copy())}  # the runtime reuses its memory
