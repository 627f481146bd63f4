"""MobileNetV3 as a meta network: a static trunk, and three dynamic layers from a source.

The dynamic layers are the last 1×1 convolution, the 1,280-wide fully connected layer and the
classifier, without biases, as Table 3's bytes show. They come from the first frame of a video and
serve all its frames. What stays static between them: the BatchNorm after the convolution, which
learns one mean and one variance for all devices. Chapter 8.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data_prep.arguments import one_of, whole
from duetlib.dynamic import Layer
from duetlib.hypernetwork import HyperNetwork, TwoLayerGenerator
from duetlib.precision import full_precision
from duetlib.swa import StableWeightAdapter, Temperature, check_temperature
from duetlib.vision.conv import pictures, pixels
from duetlib.vision.factored import Factored, apply, factors
from duetlib.vision.mobilenet import MOMENTUM, mobilenet_v3

Dynamic = Tensor | Layer | Factored  # what `apply` takes

METHODS = (
    "base",
    "hypernetwork",
    "duet_no_swa",
    "duet",
    "frame_difference",
    "first_frame_as_input",
)
LATENT, RANK = 64, 64  # Z of Table 5, and d
DROPOUT = 0.2  # before the classifier, as in torchvision
UNIT = 0.01  # what a generator's 1 is worth in a layer
# Share of a generated number's variance that comes from the first frame at the start. A tenth, as
# for clicks, learnt much more slowly: there are 200 videos to learn from, and 16 in a batch.
FROM_FRAME = 0.01


def start(shapes: Sequence[tuple[int, int]]) -> list[float]:
    """Standard deviation that torchvision starts each layer with: the first is a convolution."""
    return [math.sqrt(2 / shapes[0][1])] + [0.01] * (len(shapes) - 1)


class OrdinaryWeights(nn.Module):
    """One set of weights for all devices, started as torchvision starts them: the base.

    Args:
        dim: width of the pooled trunk; not needed, taken as all sources take it.
        shapes: `(N_in, N_out)` of each dynamic layer.
    """

    def __init__(self, dim: int, shapes: Sequence[tuple[int, int]]):
        super().__init__()
        stds = zip(shapes, start(shapes), strict=True)
        self.weight = nn.ParameterList(torch.randn(shape) * std for shape, std in stds)

    def forward(self, shared: Tensor) -> list[Dynamic]:
        """The layers, whatever the first frame shows."""
        return list(self.weight)


class HyperNetworkWeights(nn.Module):
    """The layers of a HyperNetwork with learned z: the same for all devices (Eq. 3 and 4).

    Args:
        dim, shapes: as in `OrdinaryWeights`. latent, rank: of the generator.

    The base kernel is as large as all three layers can be put together from.
    """

    def __init__(
        self, dim: int, shapes: Sequence[tuple[int, int]], latent: int = LATENT, rank: int = RANK
    ):
        super().__init__()
        base = [math.gcd(*sides) for sides in zip(*shapes, strict=True)]
        self.hyper = HyperNetwork(shapes, base, latent, rank)
        self.hyper.bias = nn.ParameterList()  # these layers have none
        pairs = zip(shapes, start(shapes), strict=True)
        self.scale = [std * math.sqrt(n_in) for (n_in, _), std in pairs]

    def forward(self, shared: Tensor) -> list[Dynamic]:
        """The layers, whatever the first frame shows."""
        return [self.hyper.kernel(n) * scale for n, scale in enumerate(self.scale)]


class FramePPG(nn.Module):
    """Every dynamic layer of every device, from the pooled trunk of its first frame (Eq. 5, 6).

    The trunk is E_share: there is no second CNN. Generators write numbers in units of 0.01, which
    is what a fully connected layer starts with. Adam moves every parameter equally far in a step: a
    generator that wrote numbers that small itself would be thrown about.

    Args:
        dim: width of the pooled trunk. shapes: `(N_in, N_out)` of each dynamic layer.
        latent: Z. rank: d. n_generators, tau, temperature: of the SWA, as in `ppg.PPG`.

    Raises:
        ValueError: for a size, a number of generators, a tau or a temperature that cannot be.

    Source: Chapter 8, Eq. (5), (6), (8) and (9).
    """

    def __init__(
        self,
        dim: int,
        shapes: Sequence[tuple[int, int]],
        latent: int = LATENT,
        rank: int = RANK,
        n_generators: int = 1,
        tau: float = 1.0,
        temperature: Temperature = "tempered",
    ):
        super().__init__()
        whole(1, dim=dim, latent=latent, rank=rank, n_generators=n_generators)
        check_temperature(tau, temperature)
        self.adjust = nn.ModuleList(nn.Linear(dim, latent) for _ in shapes)
        self.generators = nn.ModuleList()
        for (n_in, n_out), std in zip(shapes, start(shapes), strict=True):
            one = [
                TwoLayerGenerator(n_in, n_out, latent, rank, std / UNIT, FROM_FRAME)
                for _ in range(n_generators)
            ]
            joined = one[0] if n_generators == 1 else StableWeightAdapter(one, tau, temperature)
            self.generators.append(joined)

    def forward(self, shared: Tensor) -> list[Dynamic]:
        """`[B, dim]` to the layers of every device, in two factors each."""
        parts = zip(self.generators, self.adjust, strict=True)
        return [factors(g, adjust(shared), UNIT) for g, adjust in parts]  # type: ignore[arg-type]


# Of the PPG; `dim` and `shapes` come from the trunk.
PPG_SETTINGS = tuple(inspect.signature(FramePPG).parameters)[2:]


class FirstFrameAsInput(nn.Module):
    """The first frame's pooled trunk as a second input of an ordinary head, as large as a PPG.

    `W [x; s]` is `W_x x + W_s s`: to the fully connected layer, one more input is a bias that
    depends on the first frame. So the head is written as layers like all others.

    Args:
        dim, shapes, latent, rank: as in `FramePPG`; the hidden width is chosen so that the head has
            as many parameters as that PPG.
    """

    def __init__(
        self, dim: int, shapes: Sequence[tuple[int, int]], latent: int = LATENT, rank: int = RANK
    ):
        super().__init__()
        conv, (n_in, _), (_, n_out) = shapes
        budget = n_two_layer(shapes, latent, rank) + len(shapes) * (dim + 1) * latent
        hidden = round((budget - math.prod(conv)) / (n_in + dim + n_out))
        stds = start(shapes)
        self.conv = nn.Parameter(torch.randn(conv) * stds[0])
        self.of_first = nn.Parameter(torch.randn(dim, hidden) * stds[1])
        self.of_frame = nn.Parameter(torch.randn(n_in, hidden) * stds[1])
        self.classifier = nn.Parameter(torch.randn(hidden, n_out) * stds[2])

    def forward(self, shared: Tensor) -> list[Dynamic]:
        """`[B, dim]` to layers, of which the second's bias `[B, H]` depends on the first frame."""
        return [self.conv, Layer(self.of_frame, shared @ self.of_first), self.classifier]


class VisionNetwork(nn.Module):
    """A classifier of frames whose last three layers come from a source.

    Args:
        name: `mobilenet_v3_small` or `mobilenet_v3_large`.
        source: makes the source from the width of the pooled trunk and the layers' shapes.
        difference: if True, the first frame is subtracted from every frame, itself included.
        n_classes: K. momentum: of every BatchNorm.

    Source: Chapter 8; Section 3.2.
    """

    def __init__(
        self,
        name: str,
        source: Callable[[int, Sequence[tuple[int, int]]], nn.Module],
        difference: bool = False,
        n_classes: int = 8,
        momentum: float = MOMENTUM,
    ):
        super().__init__()
        whole: Any = mobilenet_v3(name, n_classes, momentum)
        self.trunk, (conv, self.norm, _) = whole.features[:-1], whole.features[-1]
        self.trunk.to(memory_format=torch.channels_last)  # on a CPU in half the time
        linear = [whole.classifier[0], whole.classifier[3]]
        self.shapes = [(conv.in_channels, conv.out_channels)]
        self.shapes += [(layer.in_features, layer.out_features) for layer in linear]
        self.difference = difference
        self.source = source(conv.in_channels, self.shapes)

    def see(self, frames: Tensor) -> Tensor:
        """The static trunk: `[B, T, 3 or 1, S, S]` bytes to `[B, T, N, S/32, S/32]`.

        Raises:
            ValueError: for another shape, or a model in half precision.
        """
        full_precision(self.norm.weight)
        if frames.dim() != 5 or frames.shape[2] not in (1, 3):
            raise ValueError(
                f"frames are of shape {list(frames.shape)}: they must be [B, T, 1 or 3, S, S]"
            )
        x = normalised(frames)
        x = x - x[:, :1] if self.difference else x
        return self.trunk(x.flatten(0, 1)).unflatten(0, frames.shape[:2])

    def shared(self, features: Tensor) -> Tensor:
        """E_share: `[B, T, N, h, w]` features to the pooled first frame `[B, N]`, to upload."""
        return features[:, 0].mean((-2, -1))

    def classify(self, features: Tensor, layers: Sequence[Dynamic]) -> Tensor:
        """What the device computes after its trunk: `[B, T, N, h, w]` to logits `[B, T, K]`."""
        conv, hidden, classifier = layers
        n_frames, _, *sides = features.shape[1:]
        x = apply(pixels(features), conv)  # [B, T·h·w, N_out]
        x = pictures(x, (n_frames, *sides)).flatten(0, 1)  # [B·T, N_out, h, w]
        x = F.hardswish(self.norm(x)).mean((-2, -1)).unflatten(0, (-1, n_frames))  # [B, T, N_out]
        x = F.dropout(F.hardswish(apply(x, hidden)), DROPOUT, self.training)  # [B, T, 1280]
        return apply(x, classifier)

    def layers(self, first: Tensor) -> list[Dynamic]:
        """The dynamic layers from first frames `[B, 3 or 1, S, S]`: what the cloud makes."""
        return self.source(self.shared(self.see(first.unsqueeze(1))))

    def forward(self, frames: Tensor) -> Tensor:
        """Cloud and device together: `[B, T, 3 or 1, S, S]` videos to logits `[B, T, K]`."""
        # As `classify` with `layers`, but the first frame goes through the trunk once for both.
        features = self.see(frames)
        return self.classify(features, self.source(self.shared(features)))


def normalised(frames: Tensor) -> Tensor:
    """Bytes `[..., 3 or 1, S, S]` to floats around 0, grey as three equal channels."""
    x = (frames.float() / 255 - 0.5) / 0.25
    return x.expand(*x.shape[:-3], 3, *x.shape[-2:])


def build(name: str, method: str, n_classes: int = 8, **ppg: Any) -> VisionNetwork:
    """A fresh model by name.

    Args:
        name: `mobilenet_v3_small` or `mobilenet_v3_large`. method: one of `METHODS`.
        n_classes: K. ppg: settings of the `FramePPG`; `duet` has `n_generators=5` unless told
            otherwise.

    Raises:
        ValueError: for an unknown name, settings that no `FramePPG` has, or PPG settings with a
            method that has no PPG.

    Source: Chapter 8.
    """
    if method not in METHODS:
        raise ValueError(f"method {method!r} is not one of {', '.join(METHODS)}")
    if ppg and not method.startswith("duet"):
        raise ValueError(f"method {method!r} has no PPG to take {', '.join(ppg)}")
    for setting in ppg:
        one_of(PPG_SETTINGS, **{"a setting of the PPG": setting})
    if method.startswith("duet"):
        settings = {**({"n_generators": 5} if method == "duet" else {}), **ppg}
        return VisionNetwork(
            name, lambda dim, shapes: FramePPG(dim, shapes, **settings), n_classes=n_classes
        )
    sources = {"hypernetwork": HyperNetworkWeights, "first_frame_as_input": FirstFrameAsInput}
    source = sources.get(method, OrdinaryWeights)
    return VisionNetwork(name, source, method == "frame_difference", n_classes)


def n_two_layer(shapes: Sequence[tuple[int, int]], latent: int = LATENT, rank: int = RANK) -> int:
    """Numbers of one generator of all layers, as we read Eq. 6: W_1, B_1, W_2 and B_2.

    `Σ N_in·d·(Z + 1) + (d + 1)·N_out`.
    """
    return sum(n_in * rank * (latent + 1) + (rank + 1) * n_out for n_in, n_out in shapes)


def n_dense(shapes: Sequence[tuple[int, int]], latent: int = LATENT, rank: int = RANK) -> int:
    """The same if Eq. 6 is read as one map from d numbers to all of K: `(d + 1)·P` and a little.

    `Σ d·(Z + 1) + (d + 1)·N_in·N_out`.
    """
    return sum(rank * (latent + 1) + (rank + 1) * n_in * n_out for n_in, n_out in shapes)
