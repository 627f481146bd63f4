"""The wire format: read a second way, bound to what it should be, and refused otherwise."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import small_cloud
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from safetensors.numpy import save

from duetlib.serving import payload
from duetlib.serving.payload import Contract, Refused, pack, seal, split_layers, unpack

CONTRACT = Contract("sasrec-duet", "ab" * 32, ((32, 32), (32, 32)), largest=100.0)
KEY = Ed25519PrivateKey.generate()
REQUEST, NOW = b"a request", 1_800_000_000.0
NUMBERS = np.random.default_rng(0).standard_normal(2112).astype(np.float32)
LAYERS = split_layers(NUMBERS, CONTRACT.shapes)
MESSAGE = pack(LAYERS, CONTRACT, REQUEST, KEY, NOW, lifetime=3600)


def read(message: bytes = MESSAGE, now: float = NOW, **changed: Any) -> payload.Weights:
    given = {"contract": CONTRACT, "request": REQUEST, "key": KEY.public_key(), **changed}
    return unpack(message, now=now, **given)


def test_numbers_and_times_arrive_as_they_were_sent() -> None:
    weights = read()
    assert weights.layers.keys() == LAYERS.keys()
    for name, array in LAYERS.items():
        np.testing.assert_array_equal(weights.layers[name], array)
    assert (weights.issued, weights.expires) == (int(NOW), int(NOW) + 3600)


def test_the_layout_is_the_one_described_read_by_struct_and_json_alone() -> None:
    magic, version = struct.unpack("<4sI", MESSAGE[:8])
    assert (magic, version) == (b"DUET", 1)
    (n,) = struct.unpack("<Q", MESSAGE[72:80])
    header = json.loads(MESSAGE[80 : 80 + n])
    assert len(MESSAGE) == 80 + n + 4 * 2112
    about = header.pop("__metadata__")
    assert about.pop("request") == payload.hashlib.sha256(REQUEST).hexdigest()
    times = {"issued": "1800000000", "expires": "1800003600"}
    assert about == {"model": "sasrec-duet", "static": "ab" * 32, **times}
    K = NUMBERS.reshape(2, 33, 32)  # two layers; 32 rows of weights and one of biases
    expected = {
        "0.weight": K[0, :32],
        "0.bias": K[0, 32],
        "1.weight": K[1, :32],
        "1.bias": K[1, 32],
    }
    assert header.keys() == expected.keys()
    for name, entry in header.items():
        start, stop = entry["data_offsets"]
        numbers = struct.unpack(f"<{(stop - start) // 4}f", MESSAGE[80 + n + start : 80 + n + stop])
        assert (entry["dtype"], entry["shape"]) == ("F32", list(expected[name].shape))
        assert numbers == tuple(expected[name].ravel().tolist())


def test_at_most_700_bytes_beside_the_numbers() -> None:
    longest = replace(CONTRACT, model="gru4rec-duet_as_released")
    message = pack(LAYERS, longest, REQUEST, KEY, NOW, 3600)
    assert len(message) - 4 * 2112 <= 700
    assert CONTRACT.limit == 4 * 2112 + 700


@pytest.mark.parametrize("shapes", [((4, 3),), ((64, 128), (128, 64), (64, 1)), ((999, 9),) * 9])
def test_the_limit_leaves_room_for_any_number_of_layers(
    shapes: tuple[tuple[int, int], ...],
) -> None:
    longest = replace(CONTRACT, model="din_concat-duet_as_released", shapes=shapes)
    layers = {name: np.zeros(shape, np.float32) for name, shape in longest.layout.items()}
    message = pack(layers, longest, REQUEST, KEY, NOW, 3600)
    assert longest.limit - 700 < len(message) <= longest.limit


def test_the_second_reading_agrees_and_sees_the_same_flaws() -> None:
    again = small_cloud.by_hand(MESSAGE, CONTRACT, REQUEST, KEY.public_key(), NOW)
    assert again is not None
    assert all(np.array_equal(again[name], array) for name, array in LAYERS.items())
    for message, request, now in (
        (MESSAGE[:-1], REQUEST, NOW),
        (MESSAGE, b"another", NOW),
        (MESSAGE, REQUEST, NOW + 3601),
    ):
        assert small_cloud.by_hand(message, CONTRACT, request, KEY.public_key(), now) is None


@pytest.mark.parametrize(
    ("late", "accepted"), [(3629, True), (3631, False), (-29, True), (-31, False)]
)
def test_clocks_may_differ_by_the_stated_skew(late: float, accepted: bool) -> None:
    if accepted:
        assert read(now=NOW + late, skew=30.0)
    else:
        error = payload.Expired if late > 0 else payload.NotYetValid
        with pytest.raises(error):
            read(now=NOW + late, skew=30.0)


def signed(about: dict[str, str] | None = None, **tensors: np.ndarray) -> bytes:
    """A message whose signature is right, whatever it holds."""
    right = {
        "model": CONTRACT.model,
        "static": CONTRACT.static,
        "request": payload.digest(REQUEST),
        "issued": str(int(NOW)),
        "expires": str(int(NOW) + 60),
    }
    whole = {name: np.ascontiguousarray(array) for name, array in (tensors or LAYERS).items()}
    return seal(save(whole, right if about is None else {**right, **about}), KEY)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("TooLarge", MESSAGE + bytes(700)),
        ("Malformed", b""),
        ("Malformed", MESSAGE[:71]),
        ("Malformed", b"EVIL" + MESSAGE[4:]),
        ("Malformed", MESSAGE[72:]),
        ("Malformed", seal(b"", KEY)),
        ("Malformed", seal(b"\xff" * 100, KEY)),
        ("Malformed", seal(struct.pack("<Q", 2) + b"{}", KEY)),
        ("Malformed", signed({"expires": "soon"})),
        ("Malformed", signed({"issued": "1 000"})),
        ("WrongVersion", b"DUET\2\0\0\0" + MESSAGE[8:]),
        ("WrongSignature", MESSAGE[:8] + bytes(64) + MESSAGE[72:]),
        ("WrongSignature", MESSAGE + b"\0"),
        ("WrongModel", signed({"model": "din-duet"})),
        ("WrongStatic", signed({"static": "cd" * 32})),
        ("WrongRequest", signed({"request": payload.digest(b"a request ")})),
        ("NotYetValid", signed({"issued": "9" * 40})),
        ("Expired", signed({"expires": "-1"})),
        ("TooLong", signed({"expires": str(int(NOW) + 86_401)})),
        ("TooLong", signed({"expires": "9" * 40})),
        ("WrongNames", signed(**{**LAYERS, "2.weight": np.zeros(3, np.float32)})),
        ("WrongNames", signed(**{k: LAYERS[k] for k in ("0.weight", "0.bias", "1.weight")})),
        ("WrongType", signed(**{**LAYERS, "0.bias": np.zeros(32, np.int32)})),
        ("WrongType", signed(**{**LAYERS, "1.bias": np.zeros(32, np.float16)})),
        ("WrongShape", signed(**{**LAYERS, "1.bias": np.zeros((32, 1), np.float32)})),
        ("NotFinite", signed(**{**LAYERS, "1.bias": np.full(32, np.nan, np.float32)})),
        ("NotFinite", signed(**{**LAYERS, "1.bias": np.full(32, -np.inf, np.float32)})),
        ("TooHuge", signed(**{**LAYERS, "1.bias": np.full(32, -101, np.float32)})),
    ],
)
def test_each_refusal_has_its_own_error(error: str, message: bytes) -> None:
    with pytest.raises(Refused) as caught:
        read(message)
    assert type(caught.value).__name__ == error


@pytest.mark.parametrize(
    "text", ['{"a": 1, "a": 1}', '[{"b": {"a": 1, "a": 2}}]', '{"a": NaN}', '{"a": [-Infinity]}']
)
def test_json_that_readers_would_take_in_two_ways_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="stands twice|no number"):
        payload.read_json(text)


@pytest.mark.parametrize(
    ("name", "again"),
    [("expires", '"expires": "1800000001"'), ("__metadata__", '"__metadata__": {}')],
)
def test_a_signed_header_in_which_a_key_stands_twice_is_refused(name: str, again: str) -> None:
    """Python takes the last of the two, others take the first: nothing says which is meant."""
    (n,) = struct.unpack("<Q", MESSAGE[72:80])
    header = MESSAGE[80 : 80 + n].decode().replace(f'"{name}":', f'{again},"{name}":', 1)
    header += " " * (-len(header) % 8)
    body = struct.pack("<Q", len(header)) + header.encode() + MESSAGE[80 + n :]
    with pytest.raises(payload.Malformed):
        read(seal(body, KEY))


def test_nobody_signs_for_longer_than_was_agreed_or_at_no_time() -> None:
    pack(LAYERS, CONTRACT, REQUEST, KEY, NOW + 0.9, 86_400.0)
    for issued, lifetime, said in (
        (NOW, 86_401.0, "lifetime is 86401.0: it must be a number above 0 to 86400"),
        (NOW, np.inf, "lifetime is inf"),
        (NOW, np.nan, "lifetime is nan"),
        (NOW, 0.0, "lifetime is 0.0"),
        (np.nan, 60.0, "issued is nan"),
    ):
        with pytest.raises(ValueError, match=said):
            pack(LAYERS, CONTRACT, REQUEST, KEY, issued, lifetime)
    message = pack(LAYERS, CONTRACT, REQUEST, KEY, NOW + 0.9, 86_400.0)
    assert read(message).expires == int(NOW) + 86_400


@pytest.mark.parametrize("wrong", [{"now": np.nan}, {"skew": np.nan}, {"skew": -1.0}])
def test_a_time_that_is_none_lets_nothing_pass(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is "):
        read(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": ""},
        {"static": "AB" * 32},
        {"shapes": ()},
        {"shapes": ((32, 32, 1),)},
        {"shapes": ((32, -1),)},
        {"shapes": ((32, 3.5),)},
        {"largest": np.nan},
        {"largest": np.inf},
        {"largest": None},
        {"lifetime": np.inf},
    ],
)
def test_a_contract_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="it must be"):
        replace(CONTRACT, **wrong)


@pytest.mark.parametrize("count", [2111, 2113])
def test_numbers_of_another_count_are_not_split(count: int) -> None:
    with pytest.raises(ValueError, match=rf"\({count},\): it must be \(2112,\)"):
        split_layers(np.zeros(count, np.float32), CONTRACT.shapes)


def test_another_key_or_one_bit_anywhere_is_a_wrong_signature_or_not_a_message() -> None:
    with pytest.raises(payload.WrongSignature):
        read(key=Ed25519PrivateKey.generate().public_key())
    for at in range(0, len(MESSAGE), 7):
        flipped = MESSAGE[:at] + bytes([MESSAGE[at] ^ 4]) + MESSAGE[at + 1 :]
        with pytest.raises((payload.WrongSignature, payload.Malformed, payload.WrongVersion)):
            read(flipped)


def test_nothing_is_parsed_before_the_signature_is_verified(monkeypatch: Any) -> None:
    def parse(body: bytes) -> None:
        raise AssertionError("parsed")

    monkeypatch.setattr(payload, "deserialize", parse)
    with pytest.raises(payload.WrongSignature):
        read(MESSAGE[:-1])
    with pytest.raises(AssertionError, match="parsed"):
        read(MESSAGE)


def test_counters_are_the_names_of_the_errors_in_small_letters() -> None:
    assert payload.WrongSignature().counter == "wrong_signature"
    assert payload.NotYetValid().counter == "not_yet_valid"
    counters = [
        error().counter for error in Refused.__subclasses__() if error.__name__ != "Declined"
    ]
    assert len(set(counters)) == len(counters)
