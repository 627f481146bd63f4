"""The wire format: signed weights, and everything that is checked before one number is used.

A message is, in this order (all integers little-endian):

    offset   bytes   what
    0        4       the letters DUET
    4        4       format version
    8        64      Ed25519 signature of the 8 bytes before it and of all bytes after it
    72       8       n, the length of the header
    80       n       the header, JSON: what the message is bound to, and where each tensor lies
    80 + n   4 · P   the numbers, 32-bit floats

From offset 72 on it is an ordinary safetensors file. Its `__metadata__` binds the numbers to a
model, to the static layers that they belong to (`static`, SHA-256), to the one request that they
answer (`request`, SHA-256 of its bytes, a nonce of 16 random bytes among them), and to a time
(`issued` and `expires`, in seconds since 1970, a day apart at most). No key stands twice in it.
Nothing here needs PyTorch. Chapter 10.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from data_prep.arguments import number, refuse, whole

MAGIC, VERSION = b"DUET", 1
PREFIX, SIGNATURE = struct.Struct("<4sI"), 64
OVERHEAD, PER_LAYER = 380, 160  # bytes that a message may have beside its numbers
SKEW = 30.0  # seconds that the clocks of cloud and device may differ by
LIFETIME = 86_400.0  # seconds that weights may be valid for, at most: a day
Layers = dict[str, np.ndarray]


class Refused(Exception):
    """Why a device does without fresh weights; each class has a counter of its own."""

    @property
    def counter(self) -> str:
        """The name of the class in small letters: `WrongShape` is counted as `wrong_shape`."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()


class TooLarge(Refused):
    """More bytes than any honest message has."""


class Malformed(Refused):
    """Not a message of this format at all."""


class WrongVersion(Refused):
    """Of a format version that this device does not read."""


class WrongSignature(Refused):
    """Not signed by our cloud, or changed on the way: cut, extended, a bit flipped."""


class WrongModel(Refused):
    """For another model."""


class WrongStatic(Refused):
    """For other static layers than this device has."""


class WrongRequest(Refused):
    """The answer to another request: someone else's, or an old one sent again."""


class NotYetValid(Refused):
    """Issued in the future."""


class Expired(Refused):
    """Too old."""


class TooLong(Refused):
    """Valid for longer than any honest message is."""


class WrongNames(Refused):
    """A layer is missing, or one too many."""


class WrongType(Refused):
    """Numbers that are not 32-bit floats."""


class WrongShape(Refused):
    """A layer of another shape."""


class NotFinite(Refused):
    """NaN or infinity among the numbers."""


class TooHuge(Refused):
    """Finite numbers, but far beyond all that this generator writes."""


@dataclass(frozen=True)
class Contract:
    """What cloud and device agree on beforehand.

    Attributes:
        model: its name. static: SHA-256 of the static layers, in hexadecimal digits.
        shapes: `(N_in, N_out)` of each dynamic layer. largest: magnitude that no number exceeds.
        lifetime: seconds that weights may be valid for, at most.

    Raises:
        ValueError: for a value that is none of these.
    """

    model: str
    static: str
    shapes: tuple[tuple[int, int], ...]
    largest: float
    lifetime: float = LIFETIME

    def __post_init__(self) -> None:
        if not isinstance(self.model, str) or not self.model:
            raise refuse("model", self.model, "a name")
        if not isinstance(self.static, str) or not re.fullmatch("[0-9a-f]{64}", self.static):
            raise refuse("static", self.static, "a SHA-256, 64 hexadecimal digits")
        if not self.shapes or any(len(shape) != 2 for shape in self.shapes):
            raise refuse("shapes", self.shapes, "pairs (N_in, N_out), one or more")
        for n_in, n_out in self.shapes:
            whole(1, N_in=n_in, N_out=n_out)
        number(above=True, largest=self.largest, lifetime=self.lifetime)

    @property
    def layout(self) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor, by name: `0.weight`, `0.bias`, `1.weight`, ..."""
        named = ((n, *shape) for n, shape in enumerate(self.shapes))
        return {
            name: shape
            for n, n_in, n_out in named
            for name, shape in ((f"{n}.weight", (n_in, n_out)), (f"{n}.bias", (n_out,)))
        }

    @property
    def limit(self) -> int:
        """The most bytes that a message may have."""
        numbers = sum((n_in + 1) * n_out for n_in, n_out in self.shapes)
        return OVERHEAD + PER_LAYER * len(self.shapes) + 4 * numbers


@dataclass(frozen=True)
class Weights:
    """What a verified message held.

    Attributes:
        layers: float32 arrays by name. issued, expires: seconds since 1970.
    """

    layers: Layers
    issued: int
    expires: int


def split_layers(numbers: np.ndarray, shapes: Sequence[tuple[int, int]]) -> Layers:
    """The `[P]` numbers that a generator writes, as named layers: rows, then the bias as the last.

    Args:
        numbers: `[P]` float32. shapes: `(N_in, N_out)` of each layer.

    Raises:
        ValueError: if there are not as many numbers as these layers have.
    """
    needed = sum((n_in + 1) * n_out for n_in, n_out in shapes)
    if tuple(numbers.shape) != (needed,):
        raise refuse("numbers.shape", tuple(numbers.shape), f"({needed},) for layers {shapes}")
    layers: Layers = {}
    start = 0
    for n, (n_in, n_out) in enumerate(shapes):
        stop = start + (n_in + 1) * n_out
        K = numbers[start:stop].reshape(n_in + 1, n_out)  # [N_in + 1, N_out]
        layers |= {f"{n}.weight": K[:-1], f"{n}.bias": K[-1]}
        start = stop
    return layers


def digest(request: bytes) -> str:
    """What a message names its request by: SHA-256 of the request's bytes."""
    return hashlib.sha256(request).hexdigest()


def seal(body: bytes, key: Ed25519PrivateKey, version: int = VERSION) -> bytes:
    """Sign a safetensors file: prefix, signature, file."""
    prefix = PREFIX.pack(MAGIC, version)
    return prefix + key.sign(prefix + body) + body


def pack(
    layers: Layers,
    contract: Contract,
    request: bytes,
    key: Ed25519PrivateKey,
    issued: float,
    lifetime: float,
) -> bytes:
    """One message, as the cloud sends it.

    Args:
        layers: float32 arrays by name. request: the bytes that are answered.
        issued: seconds since 1970. lifetime: seconds that the weights may be used for.

    Raises:
        ValueError: for a time that is none, or a lifetime beyond the contract's.

    Source: Chapter 10; Figure 2.
    """
    number(issued=issued)
    number(0, contract.lifetime, above=True, lifetime=lifetime)
    start = int(issued)
    bound_to = {
        "model": contract.model,
        "static": contract.static,
        "request": digest(request),
        "issued": str(start),
        "expires": str(int(start + lifetime)),
    }
    return seal(save({k: np.ascontiguousarray(v) for k, v in layers.items()}, bound_to), key)


def unpack(
    message: bytes,
    contract: Contract,
    request: bytes,
    key: Ed25519PublicKey,
    now: float,
    skew: float = SKEW,
) -> Weights:
    """Verify everything, then hand out the numbers: the only way from bytes to weights.

    Args:
        message: as received. request: the bytes that were sent. key: the cloud's.
        now: seconds since 1970. skew: seconds that the two clocks may differ by.

    Raises:
        Refused: one of its subclasses, for the first check that fails.
        ValueError: if `now` or `skew` is no time.

    Source: Chapter 10.
    """
    number(now=now, skew=skew)  # a comparison with nan is false: nothing would ever expire
    if len(message) > contract.limit:
        raise TooLarge(f"{len(message)} bytes or more, {contract.limit} at most")
    bound_to, tensors = _read(_verified(message, key))
    for name, error in (("model", WrongModel), ("static", WrongStatic)):
        if bound_to[name] != getattr(contract, name):
            raise error(f"for {name} {bound_to[name]!r}, not {getattr(contract, name)!r}")
    if bound_to["request"] != digest(request):
        raise WrongRequest("the answer to another request than the one just sent")
    issued, expires = int(bound_to["issued"]), int(bound_to["expires"])
    if issued > now + skew:
        raise NotYetValid("issued in the future, by this device's clock")
    if expires < now - skew:
        raise Expired("no longer valid, by this device's clock")
    if expires - issued > contract.lifetime:
        raise TooLong(f"valid for longer than {contract.lifetime:g} s")
    if tensors.keys() != contract.layout.keys():
        raise WrongNames(f"holds {sorted(tensors)}, not {sorted(contract.layout)}")
    layers = {name: _array(name, tensors[name], contract) for name in contract.layout}
    return Weights(layers, issued, expires)


def _verified(message: bytes, key: Ed25519PublicKey) -> bytes:
    """The safetensors file in a message, its signature good. Nothing is parsed before that."""
    if len(message) < PREFIX.size + SIGNATURE:
        raise Malformed(f"{len(message)} bytes are less than a prefix and a signature")
    prefix, rest = message[: PREFIX.size], message[PREFIX.size :]
    magic, version = PREFIX.unpack(prefix)
    if magic != MAGIC:
        raise Malformed(f"begins with {magic!r}, not {MAGIC!r}")
    if version != VERSION:
        raise WrongVersion(f"format version {version}, not {VERSION}")
    try:
        key.verify(rest[:SIGNATURE], prefix + rest[SIGNATURE:])
    except InvalidSignature:
        raise WrongSignature("not signed by this cloud, or changed on the way") from None
    return rest[SIGNATURE:]


def _read(body: bytes) -> tuple[dict[str, str], dict[str, dict]]:
    """Metadata and tensors of a safetensors file: the library checks that they fill it exactly."""
    try:
        tensors = dict(deserialize(body))
        (length,) = struct.unpack_from("<Q", body)
        bound_to = read_json(body[8 : 8 + length])["__metadata__"]
        bound_to["model"], bound_to["static"], bound_to["request"]  # all of them are there,
        int(bound_to["issued"]), int(bound_to["expires"])  # and these two are numbers
    except (SafetensorError, ValueError, LookupError, TypeError) as error:
        raise Malformed(f"signed, but not to be read: {error}") from None
    return bound_to, tensors


def read_json(text: str | bytes) -> Any:
    """JSON that can be read in one way alone.

    Raises:
        ValueError: if a key stands twice, or a number is NaN or infinite: readers differ on both.
    """
    return json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"a key stands twice among {[name for name, _ in pairs]}")
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _array(name: str, tensor: dict, contract: Contract) -> np.ndarray:
    """One tensor as an array, of the right type and shape, its numbers believable."""
    if tensor["dtype"] != "F32":
        raise WrongType(f"{name} holds {tensor['dtype']}, not F32")
    if tuple(tensor["shape"]) != contract.layout[name]:
        raise WrongShape(f"{name} is {tensor['shape']}, not {list(contract.layout[name])}")
    array = np.frombuffer(tensor["data"], "<f4").reshape(contract.layout[name])
    if not np.isfinite(array).all():
        raise NotFinite(f"{name} holds numbers that are not finite")
    if np.abs(array).max() > contract.largest:
        raise TooHuge(f"{name} holds a number beyond ±{contract.largest:.3g}")
    return array
