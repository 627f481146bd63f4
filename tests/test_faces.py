"""Drawn faces: CK+'s counts, what is personal, muscles that do what they are named for; splits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import balanced_accuracy_score

from data_prep import drawing
from data_prep.drawing import ACTION_UNITS, LOOKS
from data_prep.faces import (
    RECIPES,
    RESTS,
    Takes,
    draw_people,
    film,
    kept_times,
    level,
    load_faces,
    portraits,
    shoot,
)
from data_prep.sources import sha256
from data_prep.videos import CLASSES, COUNTS, Videos, folds, split

UNITS = list(ACTION_UNITS)


@pytest.fixture(scope="module")
def videos() -> Videos:
    """All of them, tiny."""
    return load_faces(24)


# --- as many as CK+ has, and the same every time ---------------------------------------------


def test_the_counts_are_those_of_ck_plus(videos):
    assert videos.frames.shape == (327, 6, 24, 24) and videos.frames.dtype == np.uint8
    assert videos.n_subjects == 118
    assert np.unique(videos.subject).tolist() == list(range(1, 119))
    count = np.bincount(videos.emotion[:, -1], minlength=8).tolist()
    assert count == [0, 45, 18, 59, 25, 69, 28, 83]  # anger to surprise, as Lucey et al. have them
    assert (videos.emotion[:, :3] == 0).all()
    assert (videos.emotion[:, 3:] == videos.emotion[:, 5:]).all()


def test_nobody_shows_an_emotion_twice(videos):
    pairs = np.stack([videos.subject, videos.emotion[:, -1]], axis=1)
    assert len(np.unique(pairs, axis=0)) == len(videos)


def test_they_are_called_a_stand_in_and_may_be_shown(videos):
    assert videos.label == "faces (drawn stand-in, personal strength 1)"
    assert videos.label in repr(videos) and not videos.licensed
    assert videos.pictures() is videos.frames


FEW = {"anger": 2, "happiness": 3}


def test_the_same_seed_gives_the_same_faces():
    one, again = load_faces(24, counts=FEW, n_subjects=4), load_faces(24, counts=FEW, n_subjects=4)
    assert (one.frames == again.frames).all() and one.sha256 == again.sha256
    changes = [{"seed": 1}, {"strength": 0.5}, {"size": 25}, {"channels": 3}, {"light": 0.5}]
    changes += [{"pose": 0.0}, {"noise": 0.5}, {"shift": {"turn": 0.1}}]
    sums = {
        load_faces(**({"size": 24, "counts": FEW, "n_subjects": 4} | c)).sha256 for c in changes
    }
    assert len(sums) == len(changes) and one.sha256 not in sums


def test_the_numbers_of_seed_0_are_as_they_were(videos):
    """A change here makes every stored record of drawn faces stale: raise drawing.VERSION too."""
    assert drawing.VERSION == 1 and videos.sha256[:12] == "02d6326b557a"


def test_videos_are_drawn_alike_alone_and_among_others():
    takes = shoot(draw_people(5), {"fear": 3, "surprise": 4})
    times = kept_times(takes.length)
    whole = film(takes, times, 20)
    assert (film(takes[[5, 2]], times[[5, 2]], 20) == whole[[5, 2]]).all()
    assert (film(takes[3:], times[3:], (20, 20)) == whole[3:]).all()


def test_more_people_leave_the_first_as_they_are():
    few, many = draw_people(3), draw_people(7)
    assert (few.rest == many.rest[:3]).all() and (few.gain == many.gain[:3]).all()
    assert all((few.looks[name] == many.looks[name][:3]).all() for name in LOOKS)
    for name, (low, high) in LOOKS.items():
        values = draw_people(400).looks[name]
        assert low <= values.min() < low + 0.1 * (high - low) and values.max() <= high


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: load_faces(8, channels=2), "channels is 2: it must be one of 1, 3"),
        (lambda: draw_people(0), "n is 0: it must be a whole number, 1 or more"),
        (lambda: draw_people(3, strength=-1), "strength is -1"),
        (lambda: draw_people(3, strength=float("nan")), "strength is nan"),
        (lambda: load_faces(0), "size is 0: it must be a whole number, 8 or more"),
        (lambda: shoot(draw_people(2), {"joy": 2}), "no recipe for joy: there are anger,"),
        (lambda: shoot(draw_people(2), FEW, shift={"sun": 1}), "no number of a scene called sun"),
    ],
)
def test_what_cannot_be_drawn_is_said(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- what is personal ------------------------------------------------------------------------


def test_at_strength_0_all_rest_and_move_alike():
    people = draw_people(50, strength=0)
    assert (people.rest == 0).all() and (people.gain == 1).all()
    assert np.std(people.looks["nose_y"]) > 0.01  # they look different all the same


def test_rest_and_gain_grow_with_the_strength():
    one, two = draw_people(400), draw_people(400, strength=2.0)
    assert np.allclose(two.rest, 2 * one.rest) and np.allclose(two.gain, one.gain**2)
    assert all((one.looks[name] == two.looks[name]).all() for name in LOOKS)
    spread = np.log(one.gain)
    assert abs(spread.mean()) < 0.01
    assert 0.33 < spread.std() < 0.39  # 0.35, and what the two sides do not share
    sides = np.corrcoef(spread[..., 0].ravel(), spread[..., 1].ravel())[0, 1]
    assert 0.88 < sides < 0.95  # 1 / (1 + 0.3²) = 0.92


def test_a_face_at_rest_takes_one_way_of_each_muscle():
    rest = draw_people(300).rest
    assert 0 <= rest.min() and rest.max() < 0.55 * 1.25 + 0.55 * 1.25  # unit 6 or 14 in two pairs
    for one, other in RESTS:
        both = (rest[:, UNITS.index(one)] > 0) & (rest[:, UNITS.index(other)] > 0)
        shared = [unit for pair in RESTS for unit in pair].count(one) > 1
        assert shared or not both.any(), (one, other)


def at_start(takes: Takes, **changes: object) -> torch.Tensor:
    return film(replace(takes, **changes), np.zeros((len(takes), 1)), 32)[:, 0]


def test_a_neutral_frame_shows_the_person_and_not_the_emotion():
    people = draw_people(3, strength=2.0)
    counts = {name: 3 for name in RECIPES}
    plain = shoot(people, counts, pose=0, light=0, noise=0)
    first = at_start(plain)
    for person in range(3):
        rows = np.flatnonzero(plain.person == person)
        assert len(rows) == 7 and (first[rows] == first[rows[0]]).all()
    last = film(plain, np.ones((21, 1)), 32)[:, 0]
    changed = (last.int() - first.int()).abs().flatten(1).max(dim=1).values
    assert (changed > 20).all()


def test_at_strength_0_a_neutral_frame_is_a_face_without_any_contraction():
    people = draw_people(2, strength=0)
    takes = shoot(people, {"fear": 2}, pose=0, light=0, noise=0)
    look = {name: torch.tensor(value, dtype=torch.float32) for name, value in people.looks.items()}
    scene = {n: torch.full((2,), v[0], dtype=torch.float32) for n, v in takes.start.items()}
    plain = drawing.draw(look, torch.zeros(2, len(UNITS), 2), scene, (32, 32), 1)
    assert (at_start(takes)[takes.person.argsort()] == (plain * 255).round()).all()


def test_rest_and_gain_are_seen():
    """The same looks at strengths 0 and 2: other pixels at rest, and others again at the apex."""
    none, strong = (portraits(draw_people(6, strength=s), 32).float() for s in (0.0, 2.0))
    changed = (none - strong).abs().flatten(2).mean(dim=-1)  # [6, 8]
    assert (changed > 0.7).all()
    alike = portraits(draw_people(6, strength=0.0, seed=1), 32)
    assert not (alike[:, 0] == none[:, 0]).all()


def test_videos_run_from_neutral_to_the_apex():
    assert np.allclose(level(np.array([0.0, 0.08, 0.48, 0.88, 1.0])), [0, 0, 0.5, 1, 1])
    times = kept_times(np.array([10, 28]))
    assert times[0].tolist() == [0, 1 / 9, 2 / 9, 7 / 9, 8 / 9, 1]
    assert times[1, 2] == 2 / 27 and times[1, 3] == 25 / 27
    lengths = shoot(draw_people(118)).length
    assert lengths.min() == 10 and lengths.max() == 28
    assert (
        level(kept_times(lengths))[:, :3].max()
        < 0.1
        < 0.9
        < level(kept_times(lengths))[:, 3:].min()
    )


# --- muscles ---------------------------------------------------------------------------------


def plain_look(rows: int) -> dict[str, torch.Tensor]:
    return {name: torch.full((rows,), (low + high) / 2) for name, (low, high) in LOOKS.items()}


def plain_scene(rows: int, **changes: float) -> dict[str, torch.Tensor]:
    scene = {name: torch.zeros(rows) for name in drawing.SCENES}
    scene |= {"zoom": torch.ones(rows), "bright": torch.ones(rows)}
    return scene | {name: torch.full((rows,), value) for name, value in changes.items()}


def contracted(*units: int, side: int | None = None, by: float = 1.0) -> torch.Tensor:
    action = torch.zeros(1, len(UNITS), 2)
    for unit in units:
        action[0, UNITS.index(unit), slice(None) if side is None else side] = by
    return action


def points(*units: int, side: int | None = None) -> np.ndarray:
    """The landmarks of a plain face of 200 × 200, with some units contracted: [68, 2]."""
    found = drawing.landmarks(
        plain_look(1), contracted(*units, side=side), plain_scene(1), (200, 200)
    )
    return found[0].numpy()


REST = points()
# In the usual order of the 68: indices of what is asked for.
CORNERS, MIDDLE_UP, MIDDLE_LOW = [48, 54], 62, 66
INNER_BROWS, OUTER_BROWS = [21, 22], [17, 26]
LIDS_UP, LIDS_LOW, CHIN = [37, 38, 43, 44], [40, 41, 46, 47], 8


def width(p: np.ndarray) -> float:
    return p[54, 0] - p[48, 0]


def opening(p: np.ndarray) -> float:
    return (p[LIDS_LOW, 1] - p[LIDS_UP, 1]).mean()


def rise(p: np.ndarray, where: list[int] | int) -> np.ndarray:
    """By how many pixels some points lie higher than at rest."""
    return REST[where, 1] - p[where, 1]


@pytest.mark.parametrize(
    "unit, moved",
    [
        (1, lambda p: rise(p, INNER_BROWS).min() - 2 * rise(p, OUTER_BROWS).max().clip(0)),
        (2, lambda p: rise(p, OUTER_BROWS).min() - 2 * rise(p, INNER_BROWS).max().clip(0)),
        (4, lambda p: -rise(p, INNER_BROWS).max()),
        (4, lambda p: (REST[22, 0] - REST[21, 0]) - (p[22, 0] - p[21, 0])),  # drawn together
        (5, lambda p: rise(p, LIDS_UP).min()),
        (6, lambda p: rise(p, LIDS_LOW).min()),
        (7, lambda p: opening(REST) - opening(p)),
        (9, lambda p: rise(p, MIDDLE_UP)),
        (10, lambda p: rise(p, 51)),
        (12, lambda p: rise(p, CORNERS).min()),
        (12, lambda p: width(p) - width(REST)),
        (14, lambda p: rise(p, CORNERS).min()),
        (15, lambda p: -rise(p, CORNERS).max()),
        (17, lambda p: rise(p, MIDDLE_LOW)),
        (20, lambda p: width(p) - width(REST) + rise(p, CORNERS).max()),
        (23, lambda p: width(REST) - width(p)),
        (23, lambda p: (REST[57, 1] - REST[51, 1]) - (p[57, 1] - p[51, 1])),  # thin lips
        (24, lambda p: (REST[57, 1] - REST[51, 1]) - (p[57, 1] - p[51, 1])),
        (25, lambda p: p[MIDDLE_LOW, 1] - p[MIDDLE_UP, 1]),
        (26, lambda p: -rise(p, CHIN)),
        (27, lambda p: -rise(p, CHIN)),
        (43, lambda p: opening(REST) - opening(p) - 0.7 * opening(REST)),
    ],
)
def test_each_unit_moves_what_it_is_named_for(unit, moved):
    assert moved(points(unit)) > 1.0  # pixels


def test_units_that_show_with_others():
    assert (points(16, 25) - points(25))[MIDDLE_LOW, 1] > 1.0  # the lower lip, once lips part
    gap = [points(*units)[66, 1] - points(*units)[62, 1] for units in ([25], [25, 26], [25, 27])]
    assert gap[0] + 3 < gap[1] and gap[1] + 10 < gap[2]


def test_units_are_drawn_one_sided_where_they_are_contracted():
    left, right = points(12, side=0), points(12, side=1)
    assert rise(left, 48) > 3 > 0.1 > abs(rise(left, 54))
    assert rise(right, 54) > 3 > 0.1 > abs(rise(right, 48))


def apex(emotion: str, n: int = 40) -> Takes:
    return shoot(draw_people(n), {emotion: n})


@pytest.mark.parametrize("emotion", RECIPES)
def test_efforts_follow_the_recipe(emotion):
    takes = apex(emotion, 300)
    effort = takes.effort.max(axis=-1)
    for i, unit in enumerate(UNITS):
        low, high, chance = RECIPES[emotion].get(unit, (0, 0, 0))
        made = effort[:, i] > 0
        assert abs(made.mean() - chance) < 0.1
        assert (effort[made, i] >= low).all() and (effort[made, i] <= high).all()
    sides = (takes.effort > 0).any(axis=1)
    assert sides.all() if emotion != "contempt" else (sides.sum(axis=1) == 1).all()


def test_the_picture_is_where_the_landmarks_are():
    """Irises of another colour change pixels around the landmarks of the eyes, under any pose."""
    scene = plain_scene(1, roll=0.25, turn=0.15, nod=-0.1, zoom=0.8, move_x=0.1, move_y=-0.05)
    look, size = plain_look(1) | {"glasses": torch.tensor([-1.0])}, (160, 200)
    light, dark = look | {"iris": torch.tensor([0.08])}, look | {"iris": torch.tensor([0.02])}
    pictures = [drawing.draw(each, contracted(), scene, size, 1) for each in (light, dark)]
    changed = (pictures[0] - pictures[1]).abs()[0, 0].numpy() > 0.02
    found = drawing.landmarks(look, contracted(), scene, size)[0].numpy()
    eyes = found[36:42].mean(axis=0), found[42:48].mean(axis=0)
    rows, columns = np.nonzero(changed)
    places = np.stack([columns, rows], axis=1)
    nearest = np.argmin([np.linalg.norm(places - eye, axis=1) for eye in eyes], axis=0)
    for side, eye in enumerate(eyes):
        assert np.linalg.norm(places[nearest == side].mean(axis=0) - eye) < 1.5


def test_grey_is_the_luminance_of_colour():
    takes = shoot(draw_people(4), {"disgust": 4}, noise=0)
    times = kept_times(takes.length)
    grey, colour = film(takes, times, 24), film(takes, times, 24, channels=3)
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    difference = (colour * weights).sum(dim=2) - grey[:, :, 0]
    assert difference.abs().mean() < 0.5 and colour.float().std(dim=2).mean() > 5


def test_emotions_can_be_told_and_are_not_given_away():
    """A linear classifier on the pixels, tested on people that it has not seen."""
    data = load_faces(24, strength=0.5)
    train, _, test = split(data)
    change = data.frames[:, 5].astype(float) - data.frames[:, 0]
    x, y = change.reshape(len(data), -1), data.emotion[:, 5]
    told = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.5).fit(x[train], y[train])
    assert 0.5 < balanced_accuracy_score(y[test], told.predict(x[test])) < 0.999
    x = data.frames[:, 0].reshape(len(data), -1) / 1.0  # the first frame alone says nothing
    told = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.5).fit(x[train], y[train])
    assert balanced_accuracy_score(y[test], told.predict(x[test])) < 0.35


# --- scenes ----------------------------------------------------------------------------------


def test_a_shift_changes_one_number_of_the_scene_by_what_is_asked():
    people, amount = draw_people(6), np.linspace(0, 0.6, 6)
    plain, lit = shoot(people, {"anger": 6}), shoot(people, {"anger": 6}, shift={"light_x": amount})
    assert np.allclose(lit.start["light_x"] - plain.start["light_x"], amount)
    for name in drawing.SCENES:
        same = np.array_equal(lit.start[name], plain.start[name])
        assert same == (name != "light_x") and np.array_equal(lit.drift[name], plain.drift[name])
    assert (lit.person == plain.person).all() and (lit.effort == plain.effort).all()


@pytest.mark.parametrize(
    "name, value, moved",
    [
        ("move_x", 0.1, (10, 0)),  # a half height is 100 pixels
        ("move_y", 0.1, (0, 10)),
        ("turn", 0.1, (10, 0)),
        ("nod", 0.1, (0, 10)),
    ],
)
def test_a_pose_moves_the_face_as_it_is_said_to(name, value, moved):
    """The ridge of the nose is near the middle of the face, where a turn shifts it in full."""
    scene = plain_scene(1, **{name: value})
    there = drawing.landmarks(plain_look(1), contracted(), scene, (200, 200))[0].numpy()
    np.testing.assert_allclose(there[28] - REST[28], moved, atol=0.5)


def test_zoom_and_roll_are_a_factor_and_a_turn_clockwise():
    scene = plain_scene(1, zoom=0.5, roll=np.pi / 2)
    there = drawing.landmarks(plain_look(1), contracted(), scene, (200, 200))[0].numpy() - 99.5
    rest = REST - 99.5
    np.testing.assert_allclose(there, 0.5 * np.stack([-rest[:, 1], rest[:, 0]], axis=1), atol=0.01)


def test_each_frame_has_its_own_grain_of_its_videos_size():
    takes = shoot(draw_people(1), {"anger": 2}, pose=0, light=0)
    frames, plain = (
        film(replace(takes, grain=grain), np.zeros((2, 2)), 64).float()
        for grain in (takes.grain, 0 * takes.grain)
    )
    noise = (frames - plain).reshape(4, -1) / 255
    assert torch.corrcoef(noise).fill_diagonal_(0).abs().max() < 0.1
    assert np.allclose(noise.std(dim=1).reshape(2, 2).mean(dim=1), takes.grain, atol=0.0015)


def test_light_from_the_right_brightens_the_right():
    takes = shoot(draw_people(1), {"anger": 4}, light=0, shift={"light_x": np.linspace(0, 0.6, 4)})
    frames = film(takes, np.zeros((4, 1)), 32)[:, 0, 0].float()
    more = (frames[:, :8, -6:].mean(dim=(1, 2)) - frames[:, :8, :6].mean(dim=(1, 2))).diff()
    assert (more > 20).all()


def test_spreads_of_nothing_leave_the_scene_in_its_middle():
    takes = shoot(draw_people(3), {"fear": 3}, pose=0, light=0, noise=0)
    assert all(np.ptp(value) == 0 for value in takes.start.values())
    assert all((value == 0).all() for value in takes.drift.values()) and (takes.grain == 0).all()
    wide = shoot(draw_people(3), {"fear": 3}, pose=np.array([0.0, 1.0, 2.0]))
    usual = shoot(draw_people(3), {"fear": 3})
    assert np.allclose(wide.start["roll"], usual.start["roll"] * [0, 1, 2])
    assert (wide.start["light_x"] == usual.start["light_x"]).all()


def test_portraits_are_one_person_a_row():
    sheet = portraits(draw_people(2), 24)
    assert sheet.shape == (2, 8, 3, 24, 24) and sheet.dtype == torch.uint8
    assert (sheet[:, 0] != sheet[:, 7]).any() and (sheet == portraits(draw_people(2), 24)).all()


# --- splits ----------------------------------------------------------------------------------


def naive_overlap(videos: Videos, parts: tuple[np.ndarray, ...]) -> list[int]:
    """People who stand in more than one part."""
    seen: dict[int, set[int]] = {}
    for number, rows in enumerate(parts):
        for row in rows:
            seen.setdefault(int(videos.subject[row]), set()).add(number)
    return [person for person, numbers in seen.items() if len(numbers) > 1]


@pytest.mark.parametrize("fold", range(5))
def test_no_person_stands_on_two_sides(videos, fold):
    parts = split(videos, fold)
    assert naive_overlap(videos, parts) == []
    assert np.sort(np.concatenate(parts)).tolist() == list(range(327))
    assert len(parts.test) > 40 and len(parts.validation) > 40 and len(parts.train) > 150
    for rows in parts:
        assert set(videos.emotion[rows, 5].tolist()) == set(range(1, 8))


def test_each_video_is_tested_once_and_validates_once(videos):
    parts = [split(videos, fold) for fold in range(5)]
    for which in ("test", "validation"):
        rows = np.concatenate([getattr(part, which) for part in parts])
        assert np.sort(rows).tolist() == list(range(327))
    fold = folds(videos)
    for i, part in enumerate(parts):
        assert (fold[part.test] == i).all() and (fold[part.validation] == (i + 1) % 5).all()


def test_folds_have_about_the_same_emotions(videos):
    fold, emotion = folds(videos), videos.emotion[:, 5]
    for code, name in enumerate(CLASSES[1:], start=1):
        count = np.bincount(fold[emotion == code], minlength=5)
        assert np.ptp(count) <= 3 + COUNTS[name] / 15, name


def test_folds_are_those_of_the_records_whatever_scikit_learn_does(videos):
    """The deal that the records were made with, written down: 1.5 to 1.7 shuffled otherwise."""
    for seed, deal in ((0, "7ddc0059745db619"), (1, "b904168a383345b3")):
        assert sha256(folds(videos, seed=seed).tobytes())[:16] == deal


def test_folds_are_seeded(videos):
    assert (folds(videos, seed=3) == folds(videos, seed=3)).all()
    assert (folds(videos, seed=3) != folds(videos, seed=4)).any()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda v: split(v, 5), "fold is 5: it must be a whole number from 0 to 4"),
        (lambda v: split(v, 0, n_folds=2), "n_folds is 2"),
        (lambda v: split(v, -1), "fold is -1"),
        (lambda v: folds(v, 119), "n_folds is 119: it must be a whole number from 2 to 118"),
    ],
)
def test_folds_that_cannot_be(videos, call, message):
    with pytest.raises(ValueError, match=message):
        call(videos)
