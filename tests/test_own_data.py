"""The page "Use it on your own data": its code, as it stands; and lists in one's own ids."""

from __future__ import annotations

import re
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from small_data import interactions

from data_prep import from_clicks
from duetlib import recommend
from duetlib.methods import build
from duetlib.training import TrainConfig

PAGE = Path(__file__).resolve().parent.parent / "book" / "own_data.md"
DATA = interactions(12, 40)
RAW = np.array(["", *(f"item {number:02d}" for number in range(40, 0, -1))], dtype=object)


def table(n_users: int = 66, n_items: int = 140, clicks: int = 18) -> pd.DataFrame:
    """The page's five columns: each user likes every seventh item; one visitor has no id."""
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(n_users), clicks)
    item = 1 + user % 7 + 7 * rng.integers(0, n_items // 7, len(user))
    names = ["ann", "bob", *(f"user {n}" for n in range(2, n_users))]
    rows = {
        "user": [names[u] for u in user],
        "item": [f"sku-{i:03d}" for i in item],
        "time": pd.Timestamp("2024-03-01")
        + pd.to_timedelta(rng.permutation(len(user)), unit="min"),
        "rating": rng.integers(1, 6, len(user)),
        "device": "phone",
    }
    made = pd.DataFrame(rows).sample(frac=1, random_state=0, ignore_index=True)
    made.loc[3, "user"] = None
    return made


def test_the_page_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DUET_CACHE", str(tmp_path / "cache"))
    short = partialmethod(TrainConfig.__init__, max_epochs=2)  # of its forty, to be quick
    monkeypatch.setattr(TrainConfig, "__init__", short)
    made = table()
    made.to_csv("clicks.csv", index=False)
    space: dict[str, Any] = {}
    printed = []
    for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL):
        exec(code, space)
        printed.append(capsys.readouterr().out)
    about, aucs, lists, _, _, served = printed
    assert about.startswith(
        "our shop (1 of 1,188 rows left out: a user, item or time is missing): 66 us"
    )
    assert re.fullmatch(r"AUC of DUET 0\.\d{4}, of the base 0\.\d{4}\n", aucs)
    for_ann, for_new = (re.findall(r"sku-\d{3}", line) for line in lists.splitlines())
    assert len(set(for_ann)) == len(set(for_new)) == 5
    assert not set(for_ann) & set(made.item[made.user == "ann"])
    assert not {"sku-017", "sku-042"} & set(for_new)
    assert served.startswith("fresh [") and re.findall(r"sku-\d{3}", served) == for_new
    best = space["scores"][0].argsort(descending=True) + 1  # by the layers that were shown
    left = [space["items"][n] for n in best.tolist() if n not in space["mine"]]
    assert left[:5] == for_new


def named() -> Any:
    """Twelve users, u1 to u12; the names of items are not in the order of the numbers."""
    users = [f"u{user}" for user in DATA.user]
    return from_clicks(users, RAW[DATA.item], DATA.time, k_core=1, label="named")


@pytest.mark.parametrize("backbone", ["din", "gru4rec", "sasrec"])
def test_a_list_is_that_of_a_loop_over_what_the_user_has_not(backbone: str) -> None:
    data = named()
    torch.manual_seed(0)
    model = build(backbone, "duet", data.n_items).eval()
    with torch.no_grad():
        model.items.weight *= 10
    for user in ("u3", "u11"):
        clicks = [
            int(i) for i, u in zip(data.item, data.raw_user[data.user], strict=True) if u == user
        ]
        history = torch.tensor([clicks])  # no padding at all
        with torch.no_grad():
            score = {
                data.raw_item[item]: model(history, torch.tensor([[item]])).item()
                for item in range(1, data.n_items + 1)
                if item not in clicks
            }
        expected = sorted(score, key=lambda name: -score[name])
        assert recommend.for_user(model, data, user, 7) == expected[:7]
        names = data.raw_item[clicks].tolist()
        assert recommend.for_clicks(model, data, names, len(expected)) == expected
        assert recommend.for_clicks(model, data, names * 9, 3, length=len(names)) == expected[:3]


def test_ids_that_are_numbers_come_back_as_numbers() -> None:
    data = from_clicks([70, 70, 80, 80], [900, 901, 902, 903], [0, 1, 0, 1], k_core=1)
    model = build("gru4rec", "base", data.n_items)
    found = recommend.for_user(model, data, 70, 2)
    assert sorted(found) == [902, 903] and all(type(item) is int for item in found)
    assert recommend.for_user(model, data, np.int64(70), 2) == found


def test_what_cannot_be_recommended_is_named() -> None:
    data = named()
    model = build("gru4rec", "base", data.n_items)
    first = data.raw_item[1]
    wrong: list[tuple[Any, str]] = [
        (
            lambda: recommend.for_user(model, data, "u13"),
            "unknown user: 'u13'. The 12 ids .* strings",
        ),
        (lambda: recommend.for_user(model, data, 3), "unknown user: 3. .* the first 'u1'"),
        (lambda: recommend.for_user(model, data, ["u1"]), r"unknown user: \['u1'\]"),
        (lambda: recommend.for_user(model, data, ""), "unknown user: ''"),
        (lambda: recommend.for_user(model, data, "u1", 0), "n is 0: .* from 1 to "),
        (lambda: recommend.for_user(model, data, "u1", 40), "n is 40: .* from 1 to "),
        (lambda: recommend.for_user(model, data, "u1", length=0), "length is 0"),
        (lambda: recommend.for_clicks(model, data, [first, "tea", 7]), "unknown item: 'tea', 7. "),
        (lambda: recommend.for_clicks(model, data, []), "no clicks"),
        (
            lambda: recommend.for_user(build("din", "base", 9), data, "u1"),
            f"the model knows 9 items, the data have {data.n_items}",
        ),
    ]
    for call, said in wrong:
        with pytest.raises(ValueError, match=said):
            call()
