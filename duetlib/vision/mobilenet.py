"""torchvision's MobileNetV3, from random weights, with the head that the paper must have had.

Table 3's bytes say that both models have a fully connected layer of 1,280 (torchvision's Small has
one of 1,024). Chapter 8.
"""

from __future__ import annotations

import functools
from types import ModuleType

import torch
from torch import nn

from data_prep.arguments import number, whole

NAMES = ("mobilenet_v3_small", "mobilenet_v3_large")
HEAD = 1280  # width of the fully connected layer
# torchvision's BatchNorm moves its running mean by 1 % an update: right for ImageNet's hundreds of
# thousands, but a data set of 327 videos is learnt in less than a thousand. So PyTorch's own 10 %.
MOMENTUM = 0.1


@functools.cache
def torchvision_models() -> ModuleType:
    """`torchvision.models`, also where torchvision's compiled operators can't be loaded.

    PyPI's torchvision is built for CUDA. Beside a CPU build of PyTorch its operators stay away, and
    the import stops at the first one that it wants to describe. MobileNetV3 uses none of them, so
    it is enough to name them; whoever calls one is still told by torchvision that it isn't there.

    Raises:
        RuntimeError: if the import fails for another reason, such as versions that don't fit.
    """
    try:
        import torchvision.models as models
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        for name in ("nms", "qnms"):
            _OPERATORS.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision.models as models
    return models


_OPERATORS = torch.library.Library("torchvision", "FRAGMENT")  # kept: they go when it goes


def mobilenet_v3(name: str, n_classes: int = 8, momentum: float = MOMENTUM) -> nn.Module:
    """A fresh MobileNetV3 with a head 1,280 wide.

    Args:
        name: one of `NAMES`. n_classes: K. momentum: of every BatchNorm.

    Raises:
        ValueError: for an unknown name, no class, or a momentum that is not from 0 to 1.

    Source: Howard et al. (2019), Tables 1 and 2; Chapter 8.
    """
    if name not in NAMES:
        raise ValueError(f"model {name!r} is not one of {', '.join(NAMES)}")
    whole(1, n_classes=n_classes)
    number(0, 1, momentum=momentum)
    norm = functools.partial(nn.BatchNorm2d, eps=0.001, momentum=momentum)
    make = getattr(torchvision_models(), name)
    model = make(weights=None, num_classes=n_classes, norm_layer=norm)
    if model.classifier[0].out_features != HEAD:
        n_in = model.classifier[0].in_features
        model.classifier[0], model.classifier[3] = nn.Linear(n_in, HEAD), nn.Linear(HEAD, n_classes)
        for layer in (model.classifier[0], model.classifier[3]):  # as torchvision starts them
            nn.init.normal_(layer.weight, 0, 0.01)
            nn.init.zeros_(layer.bias)
    return model
