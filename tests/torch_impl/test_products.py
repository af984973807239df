"""Both libraries' products and their gradients against those of float64."""

import pytest
import torch
import torch.nn.functional as F

from torch_impl import products
from torch_impl.products import linear

LIBRARIES = ["PyTorch's own", *["oneDNN"] * products.HAS_ONEDNN]
SHAPES = [(1000, 64, 200), (1, 1, 1), (7, 5, 3), (3, 300, 17)]  # (b, D, N)


@pytest.fixture(params=LIBRARIES)
def library(request, monkeypatch) -> str:
    """A test runs with each library, whichever this processor's is."""
    monkeypatch.setattr(products, "BY_ONEDNN", request.param == "oneDNN")
    return request.param


@pytest.fixture
def onednn(monkeypatch) -> None:
    """A test runs with oneDNN, on any processor."""
    if not products.HAS_ONEDNN:
        pytest.skip("this PyTorch has no oneDNN")
    monkeypatch.setattr(products, "BY_ONEDNN", True)


def arrays(b: int, d: int, n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """rows, weight and bias that want gradients, and the top's gradient."""
    random = torch.Generator().manual_seed(b + d + n)
    rows, weight, bias, top = (torch.randn(s, generator=random) for s in ((b, d), (n, d), (n,), (b, n)))
    return rows.requires_grad_(), weight.requires_grad_(), bias.requires_grad_(), top


def apart(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative L2."""
    return float((found.detach().double() - expected.detach()).norm() / expected.detach().norm())


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_product_and_gradients_are_those_of_float64(shape, with_bias, library):
    *tensors, top = arrays(*shape)
    tensors = tensors if with_bias else tensors[:2]
    exact = [tensor.detach().double().requires_grad_() for tensor in tensors]
    found, expected = linear(*tensors, *[None] * (not with_bias)), F.linear(*exact)
    assert found.dtype == torch.float32 and "Linear" in type(found.grad_fn).__name__
    assert apart(found, expected) <= 1e-6
    for one, other in zip(
        torch.autograd.grad(found, tensors, top), torch.autograd.grad(expected, exact, top.double()), strict=True
    ):
        assert one.shape == other.shape and apart(one, other) <= 1e-6


def test_only_the_gradients_that_are_needed_are_computed(monkeypatch, library):
    """One product forward and one back: a net's data wants no gradient, and it would cost as much as the weight's."""
    rows, weight, bias, top = arrays(7, 5, 3)
    made = []
    plain = products.product
    monkeypatch.setattr(products, "product", lambda *operands: made.append(operands) or plain(*operands))
    torch.autograd.grad(linear(rows.detach(), weight, bias), [weight, bias], top)
    assert len(made) == 2


def test_the_gradient_of_a_hidden_layers_top_is_not_copied(monkeypatch, library):
    """It is as great as the layer, and comes transposed, as the product for the weight's gradient reads it."""
    rows, weight, bias, _ = arrays(7, 5, 3)
    above = torch.randn(4, 3)
    made = []
    plain = products.product
    monkeypatch.setattr(products, "product", lambda *operands: made.append(operands) or plain(*operands))
    scores = linear(torch.relu(linear(rows.detach(), weight, bias)), above, None)
    torch.autograd.grad(F.cross_entropy(scores, torch.zeros(7, dtype=torch.long)), weight)
    top, data = made[-1]
    assert (top.shape, data.shape) == ((3, 7), (5, 7)) and top.is_contiguous()


@pytest.mark.parametrize("d", [512, 2048, 4096])
def test_sums_of_many_products_round_no_more_than_pytorchs(d, onednn):
    """PyTorch's MKL sums up in parts, as Caffe's OpenBLAS does; oneDNN in one go would err 1.6 times as much."""
    rows, weight, _, _ = (tensor.detach() for tensor in arrays(200, d, 100))
    exact = rows.double() @ weight.double().T
    assert apart(linear(rows, weight, None), exact) <= 1.4 * apart(F.linear(rows, weight), exact)


def test_columns_of_wider_matrices_are_multiplied(library):
    rows, weight, _, _ = (tensor.detach() for tensor in arrays(30, 400, 20))
    found = products.product(rows[:, 7:300], weight[:, 7:300])
    assert apart(found, rows[:, 7:300].double() @ weight[:, 7:300].double().T) <= 1e-6


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_are_pytorchs_own(dtype):
    rows, weight, bias, _ = (tensor.detach().to(dtype) for tensor in arrays(7, 5, 3))
    assert torch.equal(linear(rows, weight, bias), F.linear(rows, weight, bias))


@pytest.mark.parametrize(
    ("vendor", "has_onednn", "has_mkl", "taken"),
    [
        ("GenuineIntel", True, True, False),
        ("AuthenticAMD", True, True, True),
        ("", True, True, True),  # no Linux
        ("GenuineIntel", True, False, True),
        ("GenuineIntel", False, True, False),
        ("AuthenticAMD", False, True, False),
    ],
)
def test_onednn_is_taken_but_on_intels_processors(vendor, has_onednn, has_mkl, taken):
    assert products.takes_onednn(vendor, has_onednn, has_mkl) == taken


def test_the_library_that_was_chosen_multiplies_and_onednn_alone_in_parts(library, monkeypatch):
    made: dict[str, list] = {"product": [], "by_onednn": []}
    for name, seen in made.items():
        plain = getattr(products, name)
        monkeypatch.setattr(products, name, lambda *two, s=seen, p=plain: s.append(two[0].shape[1]) or p(*two))
    linear(*arrays(7, 600, 3)[:3])
    in_parts = [256, 256, 88]
    expected = (in_parts, in_parts) if library == "oneDNN" else ([600], [])
    assert tuple(made.values()) == expected


@pytest.mark.parametrize("tf32", [False, True])
def test_a_gpu_is_told_to_round_nothing_and_what_was_set_comes_back_after_a_failure(tf32):
    """The settings alone: without a GPU nothing is multiplied by them."""
    matmul, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn

    def rounding() -> list[bool]:
        return [matmul.allow_tf32, matmul.allow_bf16_reduced_precision_reduction, convolutions.allow_tf32]

    before = matmul.allow_tf32
    matmul.allow_tf32 = tf32  # as NVIDIA's builds of PyTorch have it
    try:
        assert rounding() == [tf32, True, True] and not convolutions.deterministic
        with pytest.raises(ZeroDivisionError), products.unrounded():
            assert rounding() == [False, False, False] and convolutions.deterministic
            _ = 1 / 0
        assert rounding() == [tf32, True, True] and not convolutions.deterministic
    finally:
        matmul.allow_tf32 = before


def test_of_bfloat16_the_sum_alone_is_rounded():
    *tensors, top = arrays(7, 300, 3)
    rounded = [tensor.detach().bfloat16().double().requires_grad_() for tensor in tensors]
    expected = F.linear(*rounded)
    operands = [tensor.detach().bfloat16().requires_grad_() for tensor in rounded]
    found = linear(*operands)
    assert found.dtype == torch.bfloat16
    assert apart(found, expected) <= 2**-8
    gradients = torch.autograd.grad(found, operands, top.bfloat16())
    exact = torch.autograd.grad(expected, rounded, top.bfloat16().double())
    for one, other in zip(gradients, exact, strict=True):
        assert apart(one, other) <= 2**-8
