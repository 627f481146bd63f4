"""From a trained model to what is shipped: ONNX for the device, weights and secrets for the cloud.

    FOLDER/device/   static.onnx, encoder.onnx, shipped.safetensors, device.json
    FOLDER/cloud/    model.safetensors, secret.json (readable by its owner alone)

The device's half holds nothing secret, and anyone may read its files. Chapter 10.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import secrets
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from safetensors import SafetensorError
from safetensors.numpy import save_file
from torch import Tensor, nn

from data_prep import load_movielens
from data_prep.arguments import refuse
from data_prep.command import run_command
from duetlib.backbones import BACKBONES
from duetlib.cache import write_safetensors
from duetlib.dynamic import Layer
from duetlib.methods import METHODS, build
from duetlib.serving.cloud import default_folder
from duetlib.serving.device import SHIPPED, static_hash
from duetlib.serving.folded import Generator, encode
from duetlib.serving.payload import split_layers
from duetlib.sessions import leave_last_out
from duetlib.swa import StableWeightAdapter
from duetlib.training import trained
from duetlib.umn import UniversalMetaNetwork

MARGIN = 10  # a number this many times beyond all that were generated in training is refused


class Static(nn.Module):
    """What the device ranks with: the static layers, the dynamic ones as inputs.

    Args:
        model: trained.
    """

    def __init__(self, model: UniversalMetaNetwork):
        super().__init__()
        self.model = model

    def forward(self, history: Tensor, candidates: Tensor, *layers: Tensor) -> Tensor:
        """`[1, L]` and `[1, C]` ids, then weight and bias of each layer, to `[1, C]` logits."""
        pairs = zip(layers[::2], layers[1::2], strict=True)
        return self.model.rank(history, candidates, [Layer(w, b) for w, b in pairs])


class Encoder(nn.Module):
    """What the device uploads: the neck's output.

    Args:
        model: trained.
    """

    def __init__(self, model: UniversalMetaNetwork):
        super().__init__()
        self.model = model

    def forward(self, history: Tensor) -> Tensor:
        """`[1, L]` ids to `[1, D]`."""
        return encode(self.model, history)


def export(
    model: UniversalMetaNetwork,
    folder: Path,
    histories: Tensor,
    *,
    backbone: str,
    method: str,
    **ppg: Any,
) -> None:
    """Write what the device and the cloud need, with a new key and a new token.

    The device is shipped with a classifier too: the mean of all that is generated for `histories`.

    Args:
        model: trained, in float32 and on the CPU. folder: written into.
        histories: `[N, L]` of training. backbone, method, ppg: what the model was built with.

    Raises:
        ValueError: if the model has no PPG, is not what `backbone`, `method` and `ppg` say, is
            elsewhere or of another type, or generates numbers that are not finite; for histories
            that hold no clicks of its items. Nothing is written then.

    Source: Chapter 10; Figure 2.
    """
    _check(model, histories, backbone, method, ppg)
    generator = Generator(model, histories.shape[1])
    shipped, largest = _typical(generator, histories)
    folder = Path(folder)
    device, cloud = folder / "device", folder / "cloud"
    for each in (device, cloud):
        each.mkdir(parents=True, exist_ok=True)
    (cloud / "model.safetensors").unlink(missing_ok=True)  # written last: with it all is there
    shapes = model.backbone.shapes
    layers = split_layers(shipped, shapes)
    _write_models(model, device, histories.shape[1], layers)
    whole = {name: np.ascontiguousarray(array) for name, array in layers.items()}
    save_file(whole, device / "shipped.safetensors")
    key = Ed25519PrivateKey.generate()
    about = {
        "model": f"{backbone}-{method}",
        "static": static_hash(device),
        "shapes": shapes,
        "largest": MARGIN * largest,
        "length": histories.shape[1],
        "n_items": generator.n_items,
    }
    public = {**about, "key": key.public_key().public_bytes_raw().hex()}
    (device / "device.json").write_text(json.dumps(public, indent=2))
    for name in SHIPPED:
        (device / name).chmod(0o644)  # whatever the umask
    made = {"backbone": backbone, "method": method, "ppg": ppg}
    metadata = {"model": json.dumps(made), "about": json.dumps(about)}
    secret = {"key": key.private_bytes_raw().hex(), "token": secrets.token_urlsafe(32)}
    _write_secret(cloud / "secret.json", json.dumps(secret))
    write_safetensors(cloud / "model.safetensors", model.state_dict(), metadata)


def _check(
    model: UniversalMetaNetwork, histories: Tensor, backbone: str, method: str, ppg: dict[str, Any]
) -> None:
    """Refuse now what the cloud could not read, or the device not run."""
    kinds = {(tensor.dtype, tensor.device.type) for tensor in model.state_dict().values()}
    if kinds != {(torch.float32, "cpu")}:
        raise ValueError(f"the model's numbers are {kinds}: export takes float32 on the CPU")
    n_items = model.items.num_embeddings - 1
    with torch.device("meta"):  # shapes alone: no memory, no draws
        named = build(backbone, method, n_items, **ppg)
    ours, theirs = ({k: v.shape for k, v in m.state_dict().items()} for m in (model, named))
    adapters = [
        [(a.tau, a.temperature) for a in m.modules() if isinstance(a, StableWeightAdapter)]
        for m in (model, named)
    ]
    if ours != theirs or adapters[0] != adapters[1]:
        raise ValueError(f"the model was not built as {backbone!r}, {method!r}, {ppg}")
    fits = histories.ndim == 2 and histories.numel() and histories.dtype == torch.int64
    if not fits or histories.min() < 0 or histories.max() > n_items:
        what = f"{histories.dtype}, {list(histories.shape)}"
        raise refuse("histories", what, f"[N, L] int64, item ids up to {n_items}, 0 for none")


@torch.no_grad()
def _typical(generator: Generator, histories: Tensor) -> tuple[np.ndarray, float]:
    """The mean `[P]` of what is generated for some histories, and the largest magnitude in it."""
    total, largest = np.zeros(len(generator.b)), 0.0
    for part in histories.split(1024):
        numbers = generator(list(part))  # [b, P]
        total += numbers.sum(0, dtype=np.float64)
        if not np.isfinite(numbers).all():
            raise ValueError("the model generates numbers that are not finite")
        largest = max(largest, float(np.abs(numbers).max()))
    return (total / len(histories)).astype(np.float32), largest


def _write_models(model: UniversalMetaNetwork, folder: Path, length: int, layers: dict) -> None:
    """`static.onnx` and `encoder.onnx`; one device has one user, so B is 1 in both."""
    history = torch.ones(1, length, dtype=torch.int64)
    candidates = torch.ones(1, 3, dtype=torch.int64)
    inputs = (history, candidates, *(torch.tensor(v) for v in layers.values()))
    any_count: tuple = ({}, {1: torch.export.Dim("C")}, ({},) * len(layers))
    names = ["history", "candidates", *layers]
    _onnx(Static(model), inputs, folder / "static.onnx", names, "scores", any_count)
    _onnx(Encoder(model), (history,), folder / "encoder.onnx", ["history"], "shared", ({},))


def _onnx(
    module: nn.Module, inputs: tuple, file: Path, names: list[str], output: str, shapes: tuple
) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it looks for torchvision, in vain
    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # and this one tells what it leaves be
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of PyTorch's own, about what it will do one day
        program = torch.onnx.export(
            module.eval(),
            inputs,
            dynamo=True,
            input_names=names,
            output_names=[output],
            dynamic_shapes=shapes,
            verbose=False,
        )
    assert program is not None
    program.save(file, external_data=False)


def _write_secret(file: Path, text: str) -> None:
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train a DUET on MovieLens-100k, or read it from disk, and ship it."""
    parser = argparse.ArgumentParser(
        prog="python -m duetlib.serving.export", description=main.__doc__
    )
    parser.add_argument("--folder", type=Path, default=default_folder(), help="%(default)s")
    with_ppg = [method for method in METHODS if method.startswith("duet")]
    parser.add_argument("--backbone", default="sasrec", choices=BACKBONES, help="%(default)s")
    parser.add_argument("--method", default="duet", choices=with_ppg, help="%(default)s")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    split = leave_last_out(load_movielens("ml-100k"))
    model, _ = trained(given.backbone, given.method, split)
    names = {"backbone": given.backbone, "method": given.method}
    try:
        export(model, given.folder, split.train.history, **names)
    except (OSError, SafetensorError) as error:
        moves = "--folder or DUET_SERVED names another"
        parser.exit(1, f"{given.folder} cannot be written to ({error}): {moves}\n")
    print(f"written to {given.folder}; `python -m duetlib.serving.cloud` serves it")


if __name__ == "__main__":
    run_command(main)
