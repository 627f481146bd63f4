"""Wrong answers that are right by luck on some inputs: `(chapter, exercise)` and such functions.

They are right only for one device, a square, a sorted or an equally long input, or are one off.
Answers that are constant, or that ignore one of their arguments, are made by the test itself.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import struct
from collections.abc import Callable
from typing import Any

import torch
from exercises import CHAPTERS, solution
from scipy import stats
from torch.nn.functional import conv2d

from duetlib.latency import slow_start_rounds


def solved(chapter: int, name: str) -> Any:
    return solution(CHAPTERS[chapter - 1], name)


def mean(values: Any) -> float:
    values = list(values)
    return sum(values) / len(values)


def half_step(curve: Any, at: int) -> float:
    return mean(abs(b - a) for a, b in zip(curve[at:], curve[at + 1 :], strict=False))


def holm(p_values: list[float]) -> list[bool]:
    order, found = sorted(range(len(p_values)), key=p_values.__getitem__), [False] * len(p_values)
    for n, place in enumerate(order):
        if p_values[place] >= 0.05 / (len(p_values) - n):
            break
        found[place] = True
    return found


def after_first_request(asks: list[bool]) -> list[int]:
    return [0] + [0 if asks[i] else 1 if asks[i - 1] else 2 for i in range(1, len(asks))]


def bursts_by_bytes(n: int) -> int:
    return next(k for k in itertools.count(1) if 10 * 1460 * (2**k - 1) > n)


def autograd(w: Any, f: Any, y: Any, rate: float) -> Any:
    leaf = w.clone().requires_grad_()
    torch.nn.functional.binary_cross_entropy_with_logits(f @ leaf, y).backward()
    return (leaf - rate * leaf.grad).detach()


def pays(more: int, least: int = 1) -> Callable[..., int]:
    def answer(R: int, N: int, Z: int, d: int) -> int:
        saved, cost = R * N - Z, R * d * (Z + 1) + N * (d + 1)
        if saved < least:
            return 0
        return math.ceil(cost / max(saved, 1)) + more

    return answer


def good(expires: Any, now: float, skew: float) -> bool:
    return expires is not None and expires >= now - skew


WRONG: dict[tuple[int, str], list[Callable[..., Any]]] = {
    (1, "history_of"): [
        lambda c, p, n: (c[:p] + [0] * n)[:n],
        lambda c, p, n: sorted(c[max(0, p - n) : p]) + [0] * max(0, n - p),
        lambda c, p, n: c[max(0, p - n) : p][::-1] + [0] * max(0, n - p),
        lambda c, p, n: (c[-n - 1 : -1] if p >= n else c[:p]) + [0] * max(0, n - p),
    ],
    (1, "k_core"): [
        lambda rows, k: sorted(solved(1, "k_core")(rows, k)),
        lambda rows, k: solved(1, "k_core")(rows, k)[::-1],
        lambda rows, k: rows[:4],
        lambda rows, k: [
            r
            for r in rows
            if sum(r[0] == o[0] for o in rows) >= k <= sum(r[1] == o[1] for o in rows)
        ],
    ],
    (1, "divergence"): [
        lambda p, q: (p - q).abs().sum() / 2,
        lambda p, q: solved(1, "divergence")(p[p > 0], q[p > 0]),
        lambda p, q: (
            ((p * (2 * p / (p + q)).log2()).nansum() + (q * (2 * q / (p + q)).log2()).sum()) / 2
        ),
        lambda p, q: solved(1, "divergence")(p, q).abs() * (p != q).float().mean(),
    ],
    (1, "count_wrong"): [
        lambda n, c, k: (n - len(c), k * (len(c) - 3) + k),
        lambda n, c, k: (n - max(c), k * (len(c) - 3)),
        lambda n, c, k: (n - len(c), k * max(1, len(c) - 3)),
        lambda n, c, k: (n - len(c), 4 * (len(c) - 3)),
    ],
    (2, "ordinary_layer"): [
        lambda W_1, B_1, W_2, B_2: (B_1 @ W_2 + B_2, W_2.T @ W_1),
        lambda W_1, B_1, W_2, B_2: ((B_1 @ W_2 + B_2).flatten(), (W_2.T @ W_1).flatten(1)),
        lambda W_1, B_1, W_2, B_2: ((B_1 @ W_2).flatten(), (W_2.T @ W_1).flatten(0, 1)),
    ],
    (2, "lay"): [
        lambda b, i, j: b.reshape(i, j, 2, 2).transpose(1, 2).reshape(i * 2, j * 2),
        lambda b, i, j: (
            b.reshape(i, j, *b.shape[1:]).permute(0, 3, 1, 2).reshape(i * b.shape[2], -1)
        ),
        lambda b, i, j: torch.cat(list(b), 1).reshape(i * b.shape[1], -1),
    ],
    (2, "pays_from"): [
        pays(0),
        pays(1),
        pays(0, least=0),
        lambda R, N, Z, d: solved(2, "pays_from")(R, N, Z, d) if R * N - Z > 1 else 0,
    ],
    (2, "std_of_W_1"): [
        lambda Z, d, fan_in, v: 1 / (d * Z * fan_in * v**0.5) ** 0.5,
        lambda Z, d, fan_in, v: math.sqrt(v / (d * Z * fan_in)),
        lambda Z, d, fan_in, v: math.sqrt(2 / (d * Z * fan_in * v)),
    ],
    (3, "masked_mean"): [
        lambda c, m: (c * m.unsqueeze(-1)).sum(1) / (c != 0).any(-1).sum(1, keepdim=True),
        lambda c, m: solved(3, "masked_mean")(c, m).squeeze(),
        lambda c, m: c[m].mean(0).expand(len(c), -1),
        lambda c, m: (c * m.unsqueeze(-1)).sum(1) / m[0].sum(),
    ],
    (3, "visible_from"): [
        lambda m: solved(3, "visible_from")(m)[:1].expand(len(m), -1, -1),
        lambda m: (
            solved(3, "visible_from")(m) if m.any() else m.unsqueeze(1).expand(-1, m.shape[1], -1)
        ),
        lambda m: (
            solved(3, "visible_from")(m) if m[:, 0].all() else torch.eye(m.shape[1]).bool()[None]
        ),
        lambda m: solved(3, "visible_from")(m) | torch.eye(m.shape[1]).bool(),
    ],
    (3, "ndcg"): [
        lambda r, k: (r <= 5) / torch.log2(1 + r),
        lambda r, k: (r <= k + 1) / torch.log2(1 + r),
        lambda r, k: ((r <= k) / torch.log2(1 + r)).mean(),
        lambda r, k: (r <= k) / torch.log2(1 + r).sort().values,
    ],
    (3, "backwards"): [
        lambda u, t: ((t[1:] < t[:-1]) & (u[1:] >= u[:-1])).sum(),
        lambda u, t: sum(int((t[u == x] < t[u == x].cummax(0).values).sum()) for x in u.unique()),
        lambda u, t: sum(bool((t[u == x].diff() < 0).any()) for x in u.unique()),
        lambda u, t: ((t[2:] < t[1:-1]) & (u[2:] == u[1:-1])).sum(),
    ],
    (4, "generate_one"): [
        lambda e, W_1, B_1, W_2, B_2: ((W_1 @ e + B_1) @ W_2 + B_2).flatten(),
        lambda e, W_1, B_1, W_2, B_2: ((W_1 @ e + B_1) @ W_2 + B_2).T,
        lambda e, W_1, B_1, W_2, B_2: ((W_1 @ e + B_1) @ W_2 + B_2)[None],
    ],
    (4, "download"): [
        lambda shapes: (shapes[0][0] + 1) * shapes[0][1] * len(shapes),
        lambda shapes: sum(i * o for i, o in shapes) + shapes[0][1],
        lambda shapes: sum((i + 1) * o for i, o in shapes[:3]),
        lambda shapes: 4 * sum((i + 1) * o for i, o in shapes),
    ],
    (4, "grouped_kernels"): [
        lambda w: w.transpose(1, 2).reshape(-1, w.shape[2], 1),
        lambda w: w.transpose(1, 2).reshape(-1, 4, 1),
        lambda w: w.transpose(1, 2).flatten(0, 1),
        lambda w: w.transpose(0, 1).reshape(-1, w.shape[1], 1),
    ],
    (4, "fold"): [
        lambda L, b, W_1, B_1, W_2, B_2: solved(4, "fold")(L, b, W_1, B_1, W_2, B_2)[::-1],
        lambda L, b, W_1, B_1, W_2, B_2: solved(4, "fold")(L, b, W_1, B_1, W_2, 0 * B_2),
        lambda L, b, W_1, B_1, W_2, B_2: solved(4, "fold")(L, b, W_1, 0 * B_1, W_2, B_2),
    ],
    (5, "row_sums_fast"): [
        lambda W: W.sum(0) @ W[: W.shape[1], : W.shape[1]],
        lambda W: W @ W.mean(0),
        lambda W: (W @ W.sum(0)).abs(),
        lambda W: 2 * W.sum(1) + W[:, 0],
        lambda W: W @ W[:4].sum(0),
    ],
    (5, "tau_for"): [
        lambda p, lean: (p[0] - p[-1]) / p.sum() / math.log(lean),
        lambda p, lean: (p.max() - p.min()) / 13 / math.log(lean),
        lambda p, lean: (p.max() - p.min()) / p.sum() / math.log2(lean),
        lambda p, lean: p.std() / p.sum() / math.log(lean),
    ],
    (5, "blend_then_generate"): [
        lambda p, W_1, W_2, e: (p[0] * W_1[0] @ e) @ (p @ W_2),
        lambda p, W_1, W_2, e: (torch.tensordot(p, W_1, dims=1) @ e) @ W_2.mean(0),
        lambda p, W_1, W_2, e: (torch.tensordot(p**2, W_1, dims=1) @ e) @ W_2.sum(0),
    ],
    (5, "seeds_needed"): [
        lambda r: next(n for n in range(3, 999) if stats.f.ppf(0.975, n - 2, n - 1) < r * r),
        lambda r: next(n for n in itertools.count(2) if stats.f.ppf(0.975, n - 1, n - 1) < r * r),
        lambda r: next(n for n in itertools.count(4) if stats.f.ppf(0.975, n - 1, n - 1) < r * r),
        lambda r: math.ceil(2 + 20 / r**2),
        lambda r: (
            next(n for n in itertools.count(3) if stats.f.ppf(0.975, n - 1, n - 1) < r * r) - 1
        ),
    ],
    (6, "one_step"): [
        autograd,
        lambda w, f, y, r: w - r * (torch.sigmoid(f @ w) - y) @ f / 3,
        lambda w, f, y, r: w - r * (torch.sigmoid(f @ w) - y) @ f / len(w),
        lambda w, f, y, r: w - r * torch.sigmoid(f @ w) @ f / len(y),
    ],
    (6, "own_loss_of"): [
        lambda loss, there: ((loss * there).sum(1) / there.sum(1)).sum().item(),
        lambda loss, there: ((loss * there).sum(1) / there.sum(1)).sum().detach(),
        lambda loss, there: sum(row[:n].mean() for row, n in zip(loss, there.sum(1))),  # noqa: B905
        lambda loss, there: ((loss * there).sum(0) / there.sum(0).clamp(min=1)).sum(),
    ],
    (6, "training_bytes"): [
        lambda s, d, u: 4 * s + 4 * d * u,
        lambda s, d, u: 8 * s + 16 * d * u,
        lambda s, d, u: 4 * s * d + 16 * u,
        lambda s, d, u: 4 * s + 16 * d * (u - 1),
    ],
    (6, "honest_score"): [
        lambda valid, test: valid[test.index(max(test))],
        lambda valid, test: test[1],
        lambda valid, test: test[-1],
        lambda valid, test: sorted(test)[len(test) // 2],
        lambda valid, test: test[valid.index(min(valid))],
    ],
    (7, "share_kept"): [
        lambda base, control, whole: abs(control - base) / (whole - base),
        lambda base, control, whole: min(1, (control - base) / (whole - base)),
        lambda base, control, whole: (control - base) / whole,
        lambda base, control, whole: max(0, (control - base) / (whole - base)),
    ],
    (7, "redraw"): [
        lambda d, s, u: d[u][:, s].mean() if d.shape[0] == d.shape[1] else d[s][:, u].mean(),
        lambda d, s, u: d[s][:, u].sum() / 25,
        lambda d, s, u: d[s][:, u].sum(),
        lambda d, s, u: d[s[:4]][:, u[:4]].mean(),
    ],
    (7, "film_before"): [
        lambda W, b, gamma, beta: (gamma * W, beta @ W + b),
        lambda W, b, gamma, beta: (gamma.unsqueeze(1) * W, gamma * beta @ W + b),
        lambda W, b, gamma, beta: (gamma.unsqueeze(1) * W, (beta @ W + b)[None]),
        lambda W, b, gamma, beta: (W.T * gamma, beta @ W + b),
    ],
    (7, "wider"): [
        lambda k, n: stats.t.ppf(1 - 0.05 / k, n - 1) / stats.t.ppf(0.975, n - 1),
        lambda k, n: stats.t.ppf(1 - 0.025 / k, 4) / stats.t.ppf(0.975, 4),
        lambda k, n: k**0.5,
        lambda k, n: stats.t.ppf(1 - 0.025 / (k + 1), n - 1) / stats.t.ppf(0.975, n - 1),
    ],
    (8, "balanced"): [
        lambda right, frames: mean(r / n for r, n in zip(right, frames) if n > 1),  # noqa: B905
        lambda right, frames: mean(r / n for r, n in zip(right[:3], frames[:3]) if n),  # noqa: B905
        lambda right, frames: sum(r / max(n, 1) for r, n in zip(right, frames)) / (len(frames) - 1),  # noqa: B905
        lambda right, frames: sorted(r / n for r, n in zip(right, frames) if n)[1],  # noqa: B905
        lambda right, frames: mean(r / n for r, n in zip(sorted(right), sorted(frames)) if n),  # noqa: B905
    ],
    (8, "grouped"): [
        lambda x, k: conv2d(x[:1], k[0]),
        lambda x, k: solved(8, "grouped")(x, k).squeeze(0),
        lambda x, k: (
            solved(8, "grouped")(x.mT, k).mT.flip(0) if len(x) > 1 else solved(8, "grouped")(x, k)
        ),
        lambda x, k: solved(8, "grouped")(x, k).transpose(0, 1),
    ],
    (8, "numbers"): [
        lambda i, o, z, d: i * d * (z + 1) + d * o,
        lambda i, o, z, d: i * d * z + (d + 1) * o,
        lambda i, o, z, d: i * d * (z + 1) + (d + 1) * i * o,
        lambda i, o, z, d: o * d * (z + 1) + (d + 1) * i,
    ],
    (8, "jumps"): [
        lambda c: half_step(c, (len(c) + 1) // 2),
        lambda c: half_step(c, len(c) - 4),
        lambda c: max(c[len(c) // 2 :]) - min(c[len(c) // 2 :]),
        lambda c: half_step(c, len(c) // 2) * (len(c) // 2 - 1) / (len(c) // 2),
    ],
    (9, "table_ms"): [
        lambda n, b: n / 1024 / b * 1.001,
        lambda n, b: round(n / 1024 / b, 1),
        lambda n, b: n / 1024 * b,
        lambda n, b: n // 1024 / b,
    ],
    (9, "bursts"): [
        bursts_by_bytes,
        lambda n: slow_start_rounds(n + 1),
        lambda n: slow_start_rounds(1000 * n // 1024),
        lambda n: min(3, slow_start_rounds(n)),
        lambda n: math.ceil(math.log2(n / 14_600 + 1)) if n > 1460 else 0,
    ],
    (9, "most_requests"): [
        lambda s, w: 1000 * (2 * w / (0.8 + 2 * w)) / s,
        lambda s, w: 1000 / (s + w),
        lambda s, w: 1000 * w / (s + 2 * w) / s,
    ],
    (9, "saved_by_half"): [
        lambda n, b, t: 1 - solved(9, "saved_by_half")(n, b, t),
        lambda n, b, t: solved(9, "saved_by_half")(n, b, 2 * t),
        lambda n, b, t: round(solved(9, "saved_by_half")(n, b, t), 2),
        lambda n, b, t: solved(9, "saved_by_half")(n // 2, b, t),
    ],
    (10, "numbers"): [
        lambda m, name: solved(10, "numbers")(m, name)[:3],
        lambda m, name: list(struct.unpack("<3f", m[-12:])),
        lambda m, name: solved(10, "numbers")(m, name)[::-1],
        lambda m, name: [round(x, 2) for x in solved(10, "numbers")(m, name)],
    ],
    (10, "is_mine"): [
        lambda about, sent: about["request"][:8] == hashlib.sha256(sent).hexdigest()[:8],
        lambda about, sent: len(about["request"]) == 64,
        lambda about, sent: about["request"] != hashlib.sha256(sent).hexdigest(),
        lambda about, sent: about["request"] == hashlib.md5(sent).hexdigest(),
    ],
    (10, "source"): [
        lambda f, e, n, s: (
            "fresh" if f else "last good" if e is not None and e > n - s else "shipped"
        ),
        lambda f, e, n, s: "fresh" if f else "last good" if good(e, n, 30) else "shipped",
        lambda f, e, n, s: "fresh" if f else "last good" if good(e, n, -s) else "shipped",
        lambda f, e, n, s: "fresh" if f else "last good" if good(e, n, 2 * s) else "shipped",
    ],
    (10, "under_way"): [
        lambda b, t: 1000 * b * t * 1.024,
        lambda b, t: 5e6,
        lambda b, t: 1000 * b,
        lambda b, t: b * 1e6 / t,
    ],
    (11, "counts"): [
        lambda x, b: solved(11, "counts")(x, b).abs(),
        lambda x, b: torch.where(x == 0, x, x / x.min().abs() * (2 ** (b - 1) - 1)).round(),
        lambda x, b: solved(11, "counts")(x, b).clamp(-7, 7),
        lambda x, b: (x / (x.abs().max() / (2 ** (b - 1) - 1))).floor() if x.any() else x,
    ],
    (11, "ages"): [
        after_first_request,
        lambda asks: solved(11, "ages")(asks)[::-1],
        lambda asks: [0 if a else 1 for a in asks],
        lambda asks: solved(11, "ages")(asks)[:5],
    ],
    (11, "hide"): [
        lambda m, a: m & (torch.arange(m.shape[1]) < (m.sum(1) - a[0]).clamp(min=1)[:, None]),
        lambda m, a: torch.arange(6) < (m.sum(1) - a).clamp(min=1)[:, None],
        lambda m, a: m & (torch.arange(m.shape[1]) < (m.sum(1) - a + 1).clamp(min=1)[:, None]),
        lambda m, a: m & (torch.arange(m.shape[1]) < (m.sum(1) - a).clamp(min=2)[:, None]),
    ],
    (11, "message_bytes"): [
        lambda s, b: -(-sum((i + 1) * o for i, o in s) * b // 8) + 2 * s[0][1] + 2,
        lambda s, b: sum((i + 1) * o for i, o in s) * b // 8 + 1 + 2 * sum(o for _, o in s),
        lambda s, b: -(-sum((i + 1) * o for i, o in s) // 8) * b + 2 * sum(o for _, o in s),
        lambda s, b: -(-sum((i + 1) * o for i, o in s) * b // 8) + 4 * sum(o for _, o in s),
    ],
    (12, "counterexamples"): [
        lambda m: [k for k in m if k[1] != "base" and m[k] <= m["din", "base"]],
        lambda m: sorted(solved(12, "counterexamples")(m)),
        lambda m: solved(12, "counterexamples")(m)[:1],
        lambda m: [k for k in m if k[1] == "DUET" and m[k] <= m[k[0], "base"]],
        lambda m: [k for k in m if k[1] != "base" and m[k] <= min(m[b, "base"] for b, _ in m)],
    ],
    (12, "may_agree"): [
        lambda p, d, low, high: low <= p + 0.51 * 10**-d and p - 0.51 * 10**-d <= high,
        lambda p, d, low, high: low <= p + 0.49 * 10**-d and p - 0.49 * 10**-d <= high,
        lambda p, d, low, high: low <= p + 0.5 * 10**-d,
        lambda p, d, low, high: p - 0.5 * 10**-d <= high,
        lambda p, d, low, high: low <= p + 0.005 and p - 0.005 <= high,
        lambda p, d, low, high: round(low, d) <= p <= round(high, d) and low < p < high,
    ],
    (12, "users_needed"): [
        lambda gain, std: math.ceil((1.96 * std / gain) ** 2),
        lambda gain, std: math.floor((2 * std / gain) ** 2) + 1,
        lambda gain, std: math.floor((1.96 * 0.2 / gain) ** 2) + 1,
        lambda gain, std: (1.96 * std / gain) ** 2,
    ],
    (12, "hold_together"): [
        lambda ps: [p < 0.049 / len(ps) for p in ps],
        holm,
        lambda ps: [p <= 0.05 / len(ps) for p in ps],
        lambda ps: [p < 0.01 for p in ps],
        lambda ps: sorted(solved(12, "hold_together")(ps)),
        lambda ps: [p < 1 - 0.95 ** (1 / len(ps)) for p in ps],
        lambda ps: all(p < 0.05 / len(ps) for p in ps),
    ],
}
