"""Table 2's columns Param. and FLOPs, counted again: torchvision's models, and an older one.

Both printed sizes are, to the last digit, those of a public MobileNetV3 that is not quite Howard et
al.'s: github.com/xiaolai-sqlai/mobilenetv3, the first version, with eight classes. It has another
squeeze-and-excitation, shortcuts where channels change, and a 1,280-wide layer in both models,
which is the width that Table 3's bytes ask for. Here it is only counted. Chapter 8.
"""

from __future__ import annotations

from typing import NamedTuple

from data_prep.arguments import one_of
from duetlib.latency import n_generated
from duetlib.metrics import count_parameters
from duetlib.vision.mobilenet import HEAD
from duetlib.vision.network import build


class Block(NamedTuple):
    """A bottleneck: a 1×1 convolution, one per channel, and another 1×1."""

    kernel: int
    wide: int  # channels in between
    out: int
    squeeze: bool
    stride: int


# Howard et al. (2019), Tables 1 and 2, with the strides of that implementation.
BLOCKS = {
    "mobilenet_v3_large": (
        Block(3, 16, 16, False, 1),
        Block(3, 64, 24, False, 2),
        Block(3, 72, 24, False, 1),
        Block(5, 72, 40, True, 2),
        Block(5, 120, 40, True, 1),
        Block(5, 120, 40, True, 1),
        Block(3, 240, 80, False, 2),
        Block(3, 200, 80, False, 1),
        Block(3, 184, 80, False, 1),
        Block(3, 184, 80, False, 1),
        Block(3, 480, 112, True, 1),
        Block(3, 672, 112, True, 1),
        Block(5, 672, 160, True, 1),
        Block(5, 672, 160, True, 2),
        Block(5, 960, 160, True, 1),
    ),
    "mobilenet_v3_small": (
        Block(3, 16, 16, True, 2),
        Block(3, 72, 24, False, 2),
        Block(3, 88, 24, False, 1),
        Block(5, 96, 40, True, 2),
        Block(5, 240, 40, True, 1),
        Block(5, 240, 40, True, 1),
        Block(5, 120, 48, True, 1),
        Block(5, 144, 48, True, 1),
        Block(5, 288, 96, True, 2),
        Block(5, 576, 96, True, 1),
        Block(5, 576, 96, True, 1),
    ),
}
LAST = {"mobilenet_v3_large": 960, "mobilenet_v3_small": 576}  # of the last 1×1 convolution


class Size(NamedTuple):
    """What a model has and does.

    Attributes:
        params: all numbers that training changes. products: multiplications of convolutions and
            linear layers for one 224 × 224 picture.
    """

    params: int
    products: int


def older(name: str, n_classes: int = 8) -> Size:
    """The older implementation's numbers and products.

    Raises:
        ValueError: for another name than the two of `BLOCKS`.

    Source: Chapter 8; Table 2.
    """
    one_of(BLOCKS, name=name)
    side, channels = 112, 16
    params, products = 3 * 16 * 9 + 2 * 16, 3 * 16 * 9 * side**2  # the stem, and its BatchNorm
    for block in BLOCKS[name]:
        before, side = side, side // block.stride
        squeeze = 2 * block.out * (block.out // 4) if block.squeeze else 0
        shortcut = channels * block.out if block.stride == 1 and channels != block.out else 0
        widen, each = channels * block.wide, block.wide * block.kernel**2
        narrow = block.wide * block.out
        norms = 2 * block.wide + block.out + (block.out // 4 + block.out) * block.squeeze
        norms += block.out if shortcut else 0
        params += widen + each + narrow + squeeze + shortcut + 2 * norms
        products += widen * before**2 + (each + narrow + shortcut) * side**2 + squeeze
        channels = block.out
    last = LAST[name]
    head = last * HEAD + HEAD * n_classes
    params += channels * last + head + HEAD + n_classes + 2 * (last + HEAD)
    return Size(params, products + channels * last * side**2 + head)


def ours(name: str) -> dict[str, int]:
    """torchvision's model as it is used here: static numbers, generated ones, and all."""
    model = build(name, "base")
    static = count_parameters(model.trunk) + count_parameters(model.norm)
    generated = n_generated(model.shapes, bias=False)
    return {"static": static, "generated": generated, "whole": static + generated}
