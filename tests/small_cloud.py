"""What the tests of cloud and device share: an exported model, the format read by hand, mutants."""

from __future__ import annotations

import atexit
import functools
import itertools
import json
import random
import shutil
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import small_data
import torch
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from safetensors.numpy import load, save

from duetlib.methods import build
from duetlib.serving.export import export
from duetlib.serving.payload import Contract, digest, seal
from duetlib.umn import UniversalMetaNetwork

SPLIT = small_data.split()


def model(backbone: str = "sasrec") -> UniversalMetaNetwork:
    torch.manual_seed(0)
    return build(backbone, "duet", SPLIT.n_items).eval()


def folder(backbone: str = "sasrec") -> Path:
    """What `export` writes of an untrained model, once for all tests."""
    return _exported(backbone)


@functools.cache
def _exported(backbone: str) -> Path:
    made = Path(tempfile.mkdtemp(prefix="duet-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    export(model(backbone), made, SPLIT.train.history, backbone=backbone, method="duet")
    return made


def by_hand(
    message: bytes, contract: Contract, request: bytes, key: Ed25519PublicKey, now: float
) -> dict[str, np.ndarray] | None:
    """A second reading of the format, by struct and json: the layers, or None if there is a flaw.

    Clocks agree exactly. Written from the description at the top of `payload.py` alone.
    """
    if len(message) > 4 * 2112 + 700 or len(message) < 80 or message[:8] != b"DUET\x01\0\0\0":
        return None
    try:
        key.verify(message[8:72], message[:8] + message[72:])
    except InvalidSignature:
        return None
    (n,) = struct.unpack("<Q", message[72:80])
    try:
        pairs = json.loads(message[80 : 80 + n], object_pairs_hook=list)
        about = dict(dict(pairs)["__metadata__"])
        twice = [each for each in (pairs, *dict(pairs).values()) if len(dict(each)) < len(each)]
        header = {k: dict(v) for k, v in pairs if k != "__metadata__"}
        right = about["model"] == contract.model and about["static"] == contract.static
        right &= about["request"] == digest(request) and not twice
        right &= int(about["issued"]) <= now <= int(about["expires"])
        right &= int(about["expires"]) - int(about["issued"]) <= 86_400
        shapes = {"0.weight": [32, 32], "0.bias": [32], "1.weight": [32, 32], "1.bias": [32]}
        right &= {k: v["shape"] for k, v in header.items()} == shapes
        right &= {v["dtype"] for v in header.values()} == {"F32"}
        spans = sorted((*v["data_offsets"], k) for k, v in header.items())
        right &= spans[0][0] == 0 and len(spans[0]) == 3
        right &= all(one[1] == next_one[0] for one, next_one in itertools.pairwise(spans))
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    body, layers = message[80 + n :], {}
    if not right or spans[-1][1] != len(body):
        return None
    for start, stop, name in spans:
        numbers = struct.unpack(f"<{(stop - start) // 4}f", body[start:stop])
        if not all(abs(x) <= contract.largest for x in numbers):  # NaN is not, either
            return None
        layers[name] = np.array(numbers, np.float32).reshape(shapes[name])
    return layers


Mutate = Callable[[random.Random, bytearray], None]


def _at(dice: random.Random, data: bytearray) -> int:
    return dice.randrange(len(data) + 1)


def _flip(dice: random.Random, data: bytearray) -> None:
    for _ in range(dice.choice((1, 1, 2, 30))):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)


def _cut(dice: random.Random, data: bytearray) -> None:
    start, stop = sorted((_at(dice, data), _at(dice, data)))
    del data[start:stop]


def _insert(dice: random.Random, data: bytearray) -> None:
    at = _at(dice, data)
    data[at:at] = dice.randbytes(dice.choice((1, 8, 400, 20_000)))


def _header(dice: random.Random, data: bytearray) -> None:
    """A bit of the header, where it is still text."""
    data[dice.randrange(80, 600)] = dice.choice(b'"{}[],:0123456789eE.- ntf\\u\x00\xff')


MUTATIONS: tuple[Mutate, ...] = (_flip, _cut, _insert, _header)
VALUES = ("", "0", "-1", "1e9", "9" * 400, "9" * 5000, "NaN", "٣", "0x10", " 12 ", "\0", "é" * 40)


def _rebuilt(dice: random.Random, message: bytes) -> bytes:
    """A good safetensors file that says something else."""
    (n,) = struct.unpack("<Q", message[72:80])
    about = json.loads(message[80 : 80 + n])["__metadata__"]
    tensors: dict[str, Any] = {k: v.copy() for k, v in load(message[72:]).items()}
    name, field = dice.choice(sorted(tensors)), dice.choice(sorted(about))
    match dice.randrange(8):
        case 0:
            about[field] = dice.choice(VALUES)
        case 1:
            del about[field]
        case 2:
            tensors[name + "x"] = tensors.pop(name)
        case 3:
            del tensors[name]
        case 4:
            tensors[name] = tensors[name].astype(dice.choice(("<f2", "<f8", "<i4", "<u1")))
        case 5:
            tensors[name] = tensors[name].reshape(dice.choice(((-1,), (2, -1), (1, 32, -1))))
        case 6:
            value = dice.choice((np.nan, np.inf, -np.inf, 1e30, -1e9, 0.0, 1e-40))
            tensors[name].flat[dice.randrange(tensors[name].size)] = value
        case 7:
            tensors["2.weight"] = np.zeros((0,), np.float32)
    return save(tensors, about)


def mutant(dice: random.Random, message: bytes, key: Ed25519PrivateKey) -> bytes:
    """A message with something done to it; of two, about one is signed again with the right key."""
    if dice.random() < 0.3:
        return seal(_rebuilt(dice, message), key)
    data = bytearray(message)
    for _ in range(dice.choice((1, 1, 3))):
        dice.choice(MUTATIONS)(dice, data) if len(data) > 600 else _insert(dice, data)
    return seal(bytes(data[72:]), key) if dice.random() < 0.4 else bytes(data)
