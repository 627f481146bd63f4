"""From a trained model to a list for one user, in the ids that the clicks came with.

The page "Use it on your own data" goes the whole way.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import torch

from data_prep import Interactions
from data_prep.arguments import whole
from duetlib.sessions import padded
from duetlib.umn import UniversalMetaNetwork


def for_user(
    model: UniversalMetaNetwork, data: Interactions, user: Any, n: int = 10, *, length: int = 30
) -> list[Any]:
    """The `n` best items for a user of the data, best first, without those that the user has.

    Args:
        model: trained on a split of `data`. data: all clicks. user: as in `data.raw_user`.
        length: L, as the split was cut with; of a longer history the last `length` clicks are read.

    Returns:
        Item ids as in `data.raw_item`.

    Raises:
        ValueError: if the user is unknown, there are fewer than `n` items left, or the model is of
            other data.
    """
    (number,) = numbers(data.raw_user, [user], "user")
    return _best(model, data, data.item[data.user == number].tolist(), n, length)


def for_clicks(
    model: UniversalMetaNetwork,
    data: Interactions,
    clicks: Sequence[Any],
    n: int = 10,
    *,
    length: int = 30,
) -> list[Any]:
    """The same for someone who is not in the data, from this user's clicks.

    Args:
        clicks: item ids as in `data.raw_item`, oldest first, at least one. model, data, n, length:
            as in `for_user`.

    Raises:
        ValueError: as `for_user`; and if an item is unknown, or there are no clicks.
    """
    return _best(model, data, numbers(data.raw_item, clicks, "item"), n, length)


def numbers(raw: Iterable[Any], ids: Iterable[Any], what: str = "item") -> list[int]:
    """The numbers, from 1, by which the model knows some ids.

    Args:
        raw: `raw_user` or `raw_item` of the data. ids: as in `raw`. what: for the error.

    Raises:
        ValueError: with the ids that are unknown.
    """
    known = {name: number for number, name in enumerate(raw) if number}  # 0 is padding
    ids = list(ids)
    hashed = [isinstance(each, Hashable) and not isinstance(each, bool) for each in ids]
    unknown = [each for each, can in zip(ids, hashed, strict=True) if not can or each not in known]
    if unknown:
        shown = ", ".join(map(repr, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
        some = next(iter(known))
        kind = "strings" if isinstance(some, str) else "whole numbers"
        raise ValueError(
            f"unknown {what}: {shown}. The {len(known):,} ids of the data are {kind}, the first "
            f"{some!r}; one that came later, or that the k-core left out, is not among them"
        )
    return [known[each] for each in ids]


def _best(
    model: UniversalMetaNetwork, data: Interactions, clicks: list[int], n: int, length: int
) -> list[Any]:
    n_items = model.items.num_embeddings - 1
    if n_items != data.n_items:
        raise ValueError(
            f"the model knows {n_items:,} items, the data have {data.n_items:,}: it was trained on "
            "other data, or with another k_core"
        )
    every = torch.ones(n_items + 1, dtype=torch.bool)
    every[[0, *clicks]] = False
    left = every.nonzero().T  # [1, C]
    whole(1, left.shape[1], n=n)
    model.eval()
    device = model.items.weight.device
    with torch.no_grad():
        scores = model(padded([clicks], length).to(device), left.to(device))[0].cpu()  # [C]
    best = left[0, scores.topk(n).indices]
    return data.raw_item[best.numpy()].tolist()
