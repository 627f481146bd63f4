"""The static layers: from a history and candidates to features, the same on every device.

Three recommenders, reduced to what the paper needs of them (Section 3.2). Each turns clicks into
features that the dynamic layers then work on; `shapes` says what those layers must look like. All
three read a history from the right-padded tensors of `sessions`, ignore the padding, and encode a
history once for all its candidates. Chapter 3.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data_prep.arguments import whole
from duetlib.sessions import PAD


def last_click(states: Tensor, mask: Tensor) -> Tensor:
    """`[B, L, D]` states to `[B, D]`: the state at each history's last real click.

    An empty history gives the state of its first, padded, place.
    """
    last = (mask.sum(1) - 1).clamp(min=0)  # [B]
    return states[torch.arange(len(states), device=states.device), last]


class Backbone(nn.Module):
    """What the three share: two dynamic D×D layers, and a score by the dot product with the item.

    Args:
        dim: D.
    """

    def __init__(self, dim: int = 32):
        super().__init__()
        whole(1, dim=dim)
        self.dim = dim
        self.shapes: tuple[tuple[int, int], ...] = ((dim, dim), (dim, dim))

    def forward(self, clicks: Tensor, mask: Tensor, items: Tensor) -> Tensor:
        """Features that the dynamic layers work on.

        Args:
            clicks: `[B, L, D]` embedded history. mask: `[B, L]` True at real clicks.
            items: `[B, C, D]` embedded candidates.

        Returns:
            `[B, C, N_in]`, or `[B, 1, N_in]` if they do not depend on the candidate.
        """
        raise TypeError("Backbone is abstract: use DIN, DINConcat, SASRec or GRU4Rec")

    def score(self, out: Tensor, items: Tensor) -> Tensor:
        """Logits `[B, C]` from the last dynamic layer's output and the embedded candidates."""
        return (out * items).sum(-1)


class GRU4Rec(Backbone):
    """A recurrent unit reads the clicks; its last state is the feature (Hidasi et al., 2016)."""

    def __init__(self, dim: int = 32):
        super().__init__(dim)
        self.gru = nn.GRU(dim, dim, batch_first=True)

    def forward(self, clicks: Tensor, mask: Tensor, items: Tensor) -> Tensor:
        """`[B, 1, D]`; see `Backbone.forward`."""
        states, _ = self.gru(clicks)  # [B, L, D]; padding comes after the clicks, and is not read
        return last_click(states, mask).unsqueeze(1)


class SASRec(Backbone):
    """Causal self-attention over the clicks; the last click's state is the feature.

    Kang and McAuley (2018), with one head. Positions are counted back from the last click, so that
    "just now" has the same code in short and in long histories.

    Args:
        dim: D. length: L. n_blocks: attention blocks.
    """

    def __init__(self, dim: int = 32, length: int = 30, n_blocks: int = 2):
        super().__init__(dim)
        whole(1, length=length, n_blocks=n_blocks)
        self.length = length
        self.position = nn.Parameter(torch.randn(length, dim) * 0.1)
        self.blocks = nn.ModuleList(AttentionBlock(dim) for _ in range(n_blocks))
        self.norm = nn.LayerNorm(dim)

    def forward(self, clicks: Tensor, mask: Tensor, items: Tensor) -> Tensor:
        """`[B, 1, D]`; see `Backbone.forward`.

        Raises:
            ValueError: if the history is longer than there are positions.
        """
        steps = clicks.shape[1]
        if steps > self.length:
            raise ValueError(
                f"history of {steps} clicks, but SASRec has {self.length} positions: "
                f"give the last {self.length}"
            )
        place = torch.arange(steps, device=clicks.device)
        last = (mask.sum(1, keepdim=True) - 1).clamp(min=0)  # [B, 1]
        back = (last - place).clamp(min=0)  # [B, L]: 0 is the last click
        x = clicks + F.embedding(back, self.position)
        *first, final = self.blocks
        for block in first:
            x = block(x)
        # Of the last block only the last click's state is read: ask for that one alone.
        return self.norm(final(x, last))


class AttentionBlock(nn.Module):
    """Causal attention and a feed-forward layer, each with a norm before it and a way around it.

    A click looks at itself and at what came before. Padding stands after the clicks, so no click
    ever looks at it.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.norm_1, self.norm_2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.query, self.key_value = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim)
        self.feed = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(inplace=True), nn.Linear(dim, dim))

    def forward(self, x: Tensor, ask: Tensor | None = None) -> Tensor:
        """States after the block, of every click or of one click of each history.

        Args:
            x: `[B, L, D]`. ask: `[B, 1]` the place of the click that asks; None for every click.

        Returns:
            `[B, L, D]`, or `[B, 1, D]`.
        """
        seen = asks = self.norm_1(x)
        place = torch.arange(x.shape[1], device=x.device)
        if ask is None:
            hide = place > place.unsqueeze(1)  # [L, L] what comes later
        else:
            x = x[torch.arange(len(x), device=x.device).unsqueeze(1), ask]  # [B, 1, D]
            asks, hide = self.norm_1(x), place > ask.unsqueeze(2)  # hide [B, 1, L]
        bias = x.new_zeros(hide.shape).masked_fill(hide, float("-inf"))
        # No key and no value is built: q (W_k x) is (q W_k) x, and a weighted mean of values is the
        # value of the weighted mean. The key's bias adds the same to all scores, which is nothing.
        W_k, W_v = self.key_value.weight.chunk(2)
        q = self.query(asks) @ (W_k * x.shape[-1] ** -0.5)
        attention = torch.softmax(torch.baddbmm(bias, q, seen.transpose(1, 2)), dim=-1)  # [B, Q, L]
        y = x + F.linear(attention @ seen, W_v, self.key_value.bias[len(W_k) :])
        return y + self.feed(self.norm_2(y))


class DIN(Backbone):
    """Each candidate asks the history what in it is like itself (Zhou et al., 2018).

    The activation unit is a small network on the click, the candidate and their product; weights
    are not normalised by a softmax, so that much interest weighs more than little.

    Args:
        dim: D. hidden: width of the activation unit.
    """

    def __init__(self, dim: int = 32, hidden: int = 8):
        super().__init__(dim)
        whole(1, hidden=hidden)
        self.of_item, self.of_click = nn.Linear(dim, hidden), nn.Linear(dim, hidden, bias=False)
        self.of_product = nn.Parameter(torch.randn(dim, hidden) / dim**0.5)
        self.out = nn.Linear(hidden, 1)

    def interest(self, clicks: Tensor, mask: Tensor, items: Tensor) -> Tensor:
        """`[B, C, D]` the history as each candidate sees it."""
        # (click ∘ item) V + click U, for every pair, without building the pairs: the item goes into
        # V first.
        keyed = self.of_click.weight + items.unsqueeze(2) * self.of_product.T  # [B, C, H, D]
        of_item = self.of_item(items).flatten(1).unsqueeze(1)  # [B, 1, C·H]
        hidden = torch.baddbmm(of_item, clicks, keyed.flatten(1, 2).transpose(1, 2))  # [B, L, C·H]
        hidden = F.relu(hidden, inplace=True).unflatten(2, keyed.shape[1:3])  # [B, L, C, H]
        weight = self.out(hidden).squeeze(-1)  # [B, L, C]
        weight = weight * (mask / mask.sum(1, keepdim=True).clamp(min=1)).unsqueeze(2)
        return weight.transpose(1, 2) @ clicks

    def forward(self, clicks: Tensor, mask: Tensor, items: Tensor) -> Tensor:
        """`[B, C, D]`; see `Backbone.forward`."""
        return self.interest(clicks, mask, items)


class DINConcat(DIN):
    """DIN with the head of the authors' code: interest and item side by side, then 64-128-64-1.

    Its download, 16,641 numbers, is eight times that of two 32×32 layers.
    """

    def __init__(self, dim: int = 32, hidden: int = 8):
        super().__init__(dim, hidden)
        self.shapes = ((2 * dim, 4 * dim), (4 * dim, 2 * dim), (2 * dim, 1))

    def forward(self, clicks: Tensor, mask: Tensor, items: Tensor) -> Tensor:
        """`[B, C, 2·D]`; see `Backbone.forward`."""
        return torch.cat([self.interest(clicks, mask, items), items], dim=-1)

    def score(self, out: Tensor, items: Tensor) -> Tensor:
        """The last layer's one number is the logit: `[B, C]`."""
        return out.squeeze(-1)


BACKBONES: dict[str, type[Backbone]] = {
    "din": DIN,
    "din_concat": DINConcat,
    "sasrec": SASRec,
    "gru4rec": GRU4Rec,
}


def click_mask(history: Tensor) -> Tensor:
    """`[B, L]` True where a history holds a click, False where it is padding."""
    return history != PAD


def refuse_gaps(history: Tensor) -> None:
    """Refuse `[B, L]` histories with a 0 before a click: padded on the left, or with a hole.

    They would be ranked, and wrongly, without a word. To look at the numbers makes a GPU wait, so
    it is done where a history of anyone's own comes in, and not while training.

    Raises:
        ValueError: with the first such row.
    """
    if history.is_meta or torch.compiler.is_compiling():
        return  # no numbers to look at
    late = (history[..., :-1] == PAD) & (history[..., 1:] != PAD)
    if late.any():
        row = late.flatten(0, -2).any(1).nonzero()[0]
        raise ValueError(
            f"history {int(row)} has a 0 before a click: clicks come first, the oldest first, and "
            "zeros fill the right; `sessions.padded` makes such rows of lists of clicks"
        )
