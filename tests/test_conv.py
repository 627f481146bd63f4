"""Another convolution for every device: three ways, against a loop of ordinary `nn.Conv2d`."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from duetlib.vision.conv import conv_1x1, conv_grouped, conv_loop, pictures, pixels

SIZES = {"1x1": (1, 1, 0), "3x3": (3, 1, 1), "3x3, stride 2": (3, 2, 0), "1x1, stride 2": (1, 2, 0)}


def by_modules(x: Tensor, kernel: Tensor, stride: int, padding: int) -> Tensor:
    """Each device's own `nn.Conv2d`, loaded with its kernel."""
    outputs = []
    for pictures_b, kernel_b in zip(x, kernel, strict=True):
        c_out, c_in, *sides = kernel_b.shape
        conv = nn.Conv2d(c_in, c_out, tuple(sides), stride, padding, bias=False)
        outputs.append(functional_call(conv, {"weight": kernel_b}, pictures_b))
    return torch.stack(outputs)


@pytest.mark.parametrize(
    ("ours", "size"),
    [(ours, size) for ours in (conv_loop, conv_grouped) for size in SIZES]
    + [(conv_1x1, size) for size in SIZES if size.startswith("1x1")],
)
def test_value_and_gradient_are_those_of_modules(ours, size: str) -> None:
    side, stride, padding = SIZES[size]
    torch.manual_seed(0)
    x = torch.randn(3, 2, 5, 7, 6, dtype=torch.double, requires_grad=True)
    kernel = torch.randn(3, 4, 5, side, side, dtype=torch.double, requires_grad=True)
    right = by_modules(x, kernel, stride, padding)
    where = {"stride": stride} if ours is conv_1x1 else {"stride": stride, "padding": padding}
    found = ours(x, kernel, **where)
    torch.testing.assert_close(found, right)
    by = torch.randn_like(right)
    for a, b in zip(
        torch.autograd.grad(found, [x, kernel], by),
        torch.autograd.grad(right, [x, kernel], by),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_pixels_and_pictures_are_inverse() -> None:
    x = torch.arange(2 * 3 * 4 * 2 * 5).view(2, 3, 4, 2, 5)
    rows = pixels(x)
    assert rows.shape == (2, 30, 4)
    assert rows[1, 1 * 10 + 1 * 5 + 3].tolist() == x[1, 1, :, 1, 3].tolist()  # frame 1, row 1
    assert torch.equal(pictures(rows, (3, 2, 5)), x)


@pytest.mark.parametrize("ours", [conv_loop, conv_grouped, conv_1x1])
def test_a_kernel_is_missing(ours) -> None:
    with pytest.raises(ValueError, match="kernels of 2 devices, but pictures of 3"):
        ours(torch.zeros(3, 1, 2, 4, 4), torch.zeros(2, 5, 2, 1, 1))


def test_a_wider_filter_is_no_linear_layer() -> None:
    with pytest.raises(ValueError, match=r"the filter is \(3, 3\): only \(1, 1\)"):
        conv_1x1(torch.zeros(1, 1, 2, 4, 4), torch.zeros(1, 5, 2, 3, 3))
