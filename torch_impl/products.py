"""Matrix products of float32 on a CPU, by the library that is the faster one there.

PyTorch has two (`make bench WORKS=training`, "the products alone"). MKL, to which it takes them by itself, is 1.2 times
as fast as oneDNN on the one Intel processor where they were compared, a Cascade Lake. On an AMD processor its speed is
that of AVX2, and oneDNN, which uses every processor's AVX-512, is 2.1 times as fast on a Zen 5, 1.15 times on a Zen 4,
whose AVX-512 does no more in a cycle. MKL's last bits depend on the number of threads.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from experiment.pipeline import processor

PART = 256  # products that oneDNN sums up at a stretch


def takes_onednn(vendor: str, has_onednn: bool, has_mkl: bool) -> bool:
    """Whether oneDNN makes the products on a processor of that vendor, as Linux names it, "" where it names none."""
    return has_onednn and not (has_mkl and vendor == "GenuineIntel")


HAS_ONEDNN = torch.backends.mkldnn.is_available()
BY_ONEDNN = takes_onednn(processor().get("vendor_id", ""), HAS_ONEDNN, torch.backends.mkl.is_available())


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """rows @ weight.T + bias, with gradients: rows (b, D), weight (N, D), bias (N,) or None, to (b, N).

    Of float32 on a CPU the top lies transposed in memory and must not be changed in place; all else is PyTorch's own.
    """
    if is_float32_on_cpu(rows, weight):
        return Linear.apply(rows, weight, bias)
    return F.linear(rows, weight, bias)


def product(one: Tensor, other: Tensor) -> Tensor:
    """one @ other.T, without gradients: (m, k) and (n, k) to (m, n).

    Of float32 by oneDNN a sum of D products has up to twice the error of `linear`'s.
    """
    if BY_ONEDNN and is_float32_on_cpu(one, other):
        return by_onednn(one, other)
    return F.linear(one, other)


def by_onednn(one: Tensor, other: Tensor) -> Tensor:
    """`product` of float32 on a CPU, by oneDNN."""
    if not (other.is_contiguous() or other.T.is_contiguous()):
        other = other.contiguous()  # it has only a slow way to read others
    # What torch.compile makes of F.linear; eager PyTorch has no other way there that does not copy the weights.
    return torch.ops.mkldnn._linear_pointwise(one, other, None, "none", [], "")


@contextmanager
def unrounded() -> Iterator[None]:
    """Within: a GPU multiplies what it is given, and takes kernels that add in the same order the next time.

    PyTorch rounds the operands of float32 convolutions to TF32's 10 bits there, those of matrix products where it is
    told so (NVIDIA's builds are), and partial sums of bfloat16's. Nothing of it concerns a CPU.
    """
    products = torch.backends.cuda.matmul
    before = products.allow_tf32, products.allow_bf16_reduced_precision_reduction
    products.allow_tf32 = products.allow_bf16_reduced_precision_reduction = False
    try:
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            yield
    finally:
        products.allow_tf32, products.allow_bf16_reduced_precision_reduction = before


def is_float32_on_cpu(one: Tensor, other: Tensor) -> bool:
    """Whether both matrices are of that type and the first lies there."""
    return one.dtype == other.dtype == torch.float32 and one.device.type == "cpu"


class Linear(torch.autograd.Function):
    """`linear` as autograd sees it."""

    @staticmethod
    def forward(context: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The top."""
        context.save_for_backward(rows, weight)
        # oneDNN adds up to 1,024 products in a row and rounds each sum. MKL and Caffe's OpenBLAS do it in smaller
        # parts, which rounds less: of 2,048 products MKL 0.6 and OpenBLAS half as much as oneDNN in one go.
        #
        # The top lies transposed in memory, and so does its gradient where what follows keeps the order, as ReLU does:
        # for oneDNN `backward` would otherwise have to copy that for the weight's gradient. By MKL an iteration is
        # 1 % faster so than by PyTorch's own layer.
        size = PART if BY_ONEDNN else rows.shape[1]
        parts = zip(weight.split(size, 1), rows.split(size, 1), strict=True)
        top = product(*next(parts))
        for part in parts:
            top += product(*part)
        if bias is not None:
            top += bias[:, None]
        return top.T

    @staticmethod
    def backward(context: Any, *tops: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of rows, weight and bias that are needed, from the top's (b, N)."""
        rows, weight = context.saved_tensors
        (top,) = tops
        of_rows, of_weight, of_bias = context.needs_input_grad
        return (
            product(weight.T, top).T if of_rows else None,
            product(top.T, rows.T) if of_weight else None,
            top.sum(0) if of_bias else None,
        )
