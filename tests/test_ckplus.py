"""The reader of CK+, on folders in its layout: drawn faces, and tiny videos broken on purpose."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import DataError, ckplus
from data_prep import faces as drawn_faces
from data_prep.__main__ import main
from data_prep.ckplus import load_ckplus
from data_prep.faces import draw_people, shoot, write_ckplus
from data_prep.videos import CLASSES, COUNTS, DRAWN, LABELLED_SUBJECTS, SUBJECTS, Videos

SIZE = (40, 30)  # of a tiny frame: width, height
TINY = {"S005/001": 3, "S005/002": 7, "S010/004": 1, "S999/001": 2}  # place: emotion


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """A cache of its own, and no licensed copy."""
    monkeypatch.setenv("DUET_DATA", str(tmp_path / "cache"))
    monkeypatch.delenv("DUET_CKPLUS", raising=False)
    return tmp_path / "cache" / "ckplus"


def write_video(root: Path, place: str, emotion: int | None, grey: int = 0, n: int = 9) -> None:
    """A video whose frames are one grey each: 10, 20, 30, ... more than `grey`."""
    name = place.replace("/", "_")
    for folder in ("cohn-kanade-images", "Landmarks"):
        (root / folder / place).mkdir(parents=True)
    for i in range(1, n + 1):
        stem = f"{name}_{i:08d}"
        picture = Image.new("L", SIZE, grey + 10 * i)
        picture.save(root / "cohn-kanade-images" / place / f"{stem}.png")
        points = [(15 + k % 10, 8 + k % 13) for k in range(68)]
        text = "".join(f"   {x:.7e}   {y:.7e}\n" for x, y in points)
        (root / "Landmarks" / place / f"{stem}_landmarks.txt").write_text(text)
    (root / "Emotion" / place).mkdir(parents=True)  # CK+ has an empty one where there is no label
    if emotion:
        label = root / "Emotion" / place / f"{name}_{n:08d}_emotion.txt"
        label.write_text(f"   {emotion:.7e}\n")


@pytest.fixture
def tiny(tmp_path) -> Path:
    root = tmp_path / "ck"
    for number, (place, emotion) in enumerate(TINY.items()):
        write_video(root, place, emotion, grey=number)
    write_video(root, "S010/005", None)
    (root / "Emotion" / "S005" / ".DS_Store").write_text("as real copies have")
    (root / "cohn-kanade-images" / "S005" / "001" / ".DS_Store").write_text("too")
    return root


# --- drawn faces, written and read back ------------------------------------------------------

FEW = {"anger": 3, "contempt": 1, "fear": 2, "happiness": 3, "surprise": 4}


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "faces"
    return write_ckplus(
        folder, size=(49, 64), counts=FEW, unlabelled=4, n_subjects=6, n_labelled=5, colour=0.5
    )


def test_drawn_faces_come_back_with_their_emotions_and_subjects(written):
    takes = shoot(draw_people(6), FEW, unlabelled=4, n_labelled=5, shift={"zoom": -0.4})
    pairs = zip(takes.person.tolist(), takes.emotion.tolist(), strict=True)
    expected = sorted([pair for pair in pairs if pair[1]], key=lambda pair: pair[0])
    videos = load_ckplus(written, size=32)
    assert videos.frames.shape == (13, 6, 32, 32) and videos.frames.dtype == np.uint8
    assert (videos.emotion[:, :3] == 0).all() and (videos.emotion[:, 3:] > 0).all()
    read = zip(videos.subject.tolist(), videos.emotion[:, -1].tolist(), strict=True)
    assert list(read) == [(person + 1, emotion) for person, emotion in expected]
    assert videos.n_subjects == 5 and videos.skipped == {"without a label": 4}


def test_drawn_faces_say_that_they_are_drawn(written):
    videos = load_ckplus(written, size=32)
    assert videos.label.startswith("faces (drawn stand-in") and not videos.licensed
    assert videos.pictures() is videos.frames


def test_a_crop_by_landmarks_holds_the_face(written):
    """Faces fill 0.6 of the drawn frames: cut out, they look like those drawn to fill it."""
    videos = load_ckplus(written, size=32)
    assert videos.frames.std(axis=(-1, -2)).min() > 25
    with Image.open(next(written.glob("cohn-kanade-images/S001/001/*.png"))) as picture:
        whole = np.asarray(picture.convert("L").resize((32, 32)))
    corner = np.ptp(whole[8:20, :3])
    assert corner < 40 < np.ptp(videos.frames[0, 0, 8:20, :6])  # ground there, face or hair here


def test_the_written_layout_is_that_of_ck_plus(written):
    assert (written / DRAWN).is_file()
    frames = sorted(written.glob("cohn-kanade-images/S001/001/S001_001_0*.png"))
    label = next(written.glob("Emotion/S001/001/*"))
    assert frames[0].name == "S001_001_00000001.png" and 10 <= len(frames) <= 28
    assert label.name == f"{frames[-1].stem}_emotion.txt"
    assert label.read_text() in [f"   {code}.0000000e+00\n" for code in range(1, 8)]
    points = np.loadtxt(next(written.glob("Landmarks/S001/001/*")))
    assert points.shape == (68, 2)
    modes = {Image.open(file).mode for file in written.glob("cohn-kanade-images/*/*/*.png")}
    assert modes == {"L", "RGB"}


def test_ck_plus_as_a_whole_is_cast_to_its_counts():
    takes = shoot(draw_people(SUBJECTS), unlabelled=593 - 327, n_labelled=LABELLED_SUBJECTS)
    assert len(takes) == 593 and len(np.unique(takes.person)) == 123
    assert len(np.unique(takes.person[takes.emotion > 0])) == 118
    count = np.bincount(takes.emotion, minlength=8).tolist()
    assert count == [266, *COUNTS.values()] and sum(count[1:]) == 327


def test_writing_needs_an_empty_folder(tiny):
    with pytest.raises(DataError, match="is not empty"):
        write_ckplus(tiny)


# --- which frames, which part, which grey ----------------------------------------------------


def test_the_first_and_last_three_frames_are_kept(tiny):
    videos = load_ckplus(tiny, size=16)
    assert videos.emotion.tolist() == [[0, 0, 0, code, code, code] for code in TINY.values()]
    assert videos.subject.tolist() == [1, 1, 2, 3] and videos.n_subjects == 3
    for number, frames in enumerate(videos.frames):
        assert (frames == frames[:, :1, :1]).all()
        assert frames[:, 0, 0].tolist() == [number + value for value in (10, 20, 30, 70, 80, 90)]
    assert videos.skipped == {"without a label": 1}


def test_a_crop_is_the_square_of_the_landmarks_widened_and_raised(tiny):
    """By hand: points from 15 to 24 and 8 to 20; side 1.3 · 12, its middle 0.1 sides higher."""
    columns, rows = np.meshgrid(np.arange(40), np.arange(30))
    for file in tiny.glob("cohn-kanade-images/S005/001/*.png"):
        Image.fromarray((5 * columns).astype(np.uint8)).save(file)
    for file in tiny.glob("cohn-kanade-images/S005/002/*.png"):
        Image.fromarray((5 * rows).astype(np.uint8)).save(file)
    side = 1.3 * 12
    left, top = 20 - side / 2, 14.5 - 0.1 * side - side / 2
    middles = (np.arange(52) + 0.5) * side / 52
    videos = load_ckplus(tiny, size=52)
    across, down = videos.frames[0, 0, 26], videos.frames[1, 0, :, 26]
    inner = slice(3, -3)
    np.testing.assert_allclose(across[inner], 5 * (left + middles - 0.5)[inner], atol=1.5)
    np.testing.assert_allclose(down[inner], 5 * (top + middles - 0.5)[inner], atol=1.5)


def test_without_landmarks_the_middle_is_cut_and_that_is_said(tiny):
    columns = np.tile(5 * np.arange(40, dtype=np.uint8), (30, 1))
    for file in tiny.glob("cohn-kanade-images/S005/001/*.png"):
        Image.fromarray(columns).save(file)
    shutil.rmtree(tiny / "Landmarks" / "S005" / "001")
    videos = load_ckplus(tiny, size=30)
    assert (videos.frames[0, 0] == columns[:, 5:35]).all()
    assert "(1 cut in the middle, without landmarks)" in videos.label
    shutil.rmtree(tiny / "Landmarks")
    assert "(4 cut in the middle, without landmarks)" in load_ckplus(tiny, size=30).label


def test_colour_becomes_luminance_and_grey_may_be_stored_as_colour(tiny):
    folder = tiny / "cohn-kanade-images" / "S005"
    for file in folder.glob("001/*.png"):
        Image.new("RGB", SIZE, (200, 100, 50)).save(file)
    for file in sorted(folder.glob("002/*.png"))[:4]:
        Image.new("RGB", SIZE, (90, 90, 90)).save(file)
    videos = load_ckplus(tiny, size=16)
    assert len(videos) == 4
    assert (videos.frames[0] == round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)).all()
    assert (videos.frames[1, :3] == 90).all()


@pytest.mark.parametrize("name", ["Emotion_labels", "Emotion_labels/Emotion"])
def test_both_names_of_the_label_folder(tiny, name):
    expected = load_ckplus(tiny, size=16)
    (tiny / "Emotion").rename(tiny / "aside")
    (tiny / name).parent.mkdir(exist_ok=True)
    (tiny / "aside").rename(tiny / name)
    videos = load_ckplus(tiny, size=16)
    assert (videos.frames == expected.frames).all() and videos.sha256 == expected.sha256


def test_all_labels_and_people_there_is_ck_plus_and_less_is_said(tiny, monkeypatch):
    assert load_ckplus(tiny).label == "ckplus (not whole: 4 of 327 videos, 3 people)"
    counts = {CLASSES[code]: 1 for code in TINY.values()}
    monkeypatch.setattr(ckplus, "COUNTS", counts)
    monkeypatch.setattr(ckplus, "LABELLED_SUBJECTS", 3)
    assert load_ckplus(tiny).label == "ckplus"


def test_ck_plus_is_not_to_be_drawn(tiny):
    videos = load_ckplus(tiny, size=16)
    assert videos.licensed
    with pytest.raises(DataError, match="ckplus .*its licence lets nobody show a frame"):
        videos.pictures()


# --- what is broken is named, counted and left out -------------------------------------------

IN_005 = "S005_001_00000002"


def frame(root: Path, number: int = 2) -> Path:
    return root / f"cohn-kanade-images/S005/001/S005_001_{number:08d}.png"


def label(root: Path) -> Path:
    return root / "Emotion/S005/001/S005_001_00000009_emotion.txt"


def landmarks(root: Path) -> Path:
    return root / f"Landmarks/S005/001/{IN_005}_landmarks.txt"


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:60])


def keep_frames(root: Path, n: int) -> None:
    for number in range(n + 1, 10):
        frame(root, number).unlink()
    label(root).rename(label(root).with_name(f"S005_001_{n:08d}_emotion.txt"))


BROKEN: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "no label": (lambda r: label(r).unlink(), "without a label", ""),
    "empty label": (lambda r: label(r).write_text(""), "unreadable label", "says ''"),
    "label in words": (lambda r: label(r).write_text("happy"), "unreadable label", "'happy'"),
    "binary label": (lambda r: label(r).write_bytes(b"\xff\xfe\0"), "unreadable label", "says"),
    "neutral label": (lambda r: label(r).write_text("0.0"), "unknown emotion", "says 0.0"),
    "label between": (lambda r: label(r).write_text("2.5"), "unknown emotion", "says 2.5"),
    "label not a number": (lambda r: label(r).write_text("nan"), "unknown emotion", "says nan"),
    "label of another scheme": (lambda r: label(r).write_text("8"), "unknown emotion", "says 8"),
    "two labels": (
        lambda r: label(r).with_name("S005_001_00000008_emotion.txt").write_text("1"),
        "more than one label",
        "00000008_emotion.txt, S005_001_00000009_emotion.txt",
    ),
    "label of another": (
        lambda r: label(r).rename(label(r).with_name("S006_001_00000009_emotion.txt")),
        "label of another sequence",
        "S006_001",
    ),
    "label of a missing frame": (
        lambda r: frame(r, 9).unlink(),
        "labelled frame missing",
        "S005_001_00000009.png",
    ),
    "label of an early frame": (
        lambda r: label(r).rename(label(r).with_name("S005_001_00000004_emotion.txt")),
        "label not on the last frame",
        "4, and the last is 9",
    ),
    "a folder cut short": (lambda r: keep_frames(r, 5), "too short", "5 frames"),
    "no frames": (
        lambda r: shutil.rmtree(frame(r).parent),
        "without frames",
        "no S005_001_",
    ),
    "a gap at the start": (
        lambda r: frame(r, 1).unlink(),
        "frame missing at an end",
        "S005_001_00000001.png",
    ),
    "frame of another": (
        lambda r: frame(r).rename(frame(r).with_name("S005_002_00000002.png")),
        "frame of another sequence",
        "S005_002_00000002.png",
    ),
    "truncated frame": (lambda r: truncate(frame(r)), "unreadable frame", IN_005),
    "empty frame": (lambda r: frame(r).write_bytes(b""), "unreadable frame", IN_005),
    "JPEG by another name": (
        lambda r: Image.new("L", SIZE).save(frame(r), format="JPEG"),
        "unreadable frame",
        IN_005,
    ),
    "sixteen bits": (
        lambda r: Image.fromarray(np.full((30, 40), 5000, np.uint16)).save(frame(r)),
        "unreadable frame",
        "mode I",  # or I;16, by Pillow's version
    ),
    "a folder for a frame": (
        lambda r: (frame(r).unlink(), frame(r).mkdir()),
        "file that cannot be opened",
        IN_005,
    ),
    "a link to nowhere": (
        lambda r: (frame(r).unlink(), frame(r).symlink_to(r / "gone")),
        "file that cannot be opened",
        IN_005,
    ),
    "another size": (
        lambda r: Image.new("L", (44, 30)).save(frame(r)),
        "frames of several sizes",
        "40×30, 44×30",
    ),
    "colour beside grey": (
        lambda r: Image.new("RGB", SIZE, (9, 8, 7)).save(frame(r)),
        "colour beside grey",
        "",
    ),
    "landmarks in words": (
        lambda r: landmarks(r).write_text("68 points\n"),
        "unreadable landmarks",
        IN_005,
    ),
    "too few landmarks": (
        lambda r: landmarks(r).write_text("1.0 2.0\n" * 67),
        "unreadable landmarks",
        "(67, 2)",
    ),
    "landmarks elsewhere": (
        lambda r: landmarks(r).write_text("900.0 2.0\n20.0 20.0\n" * 34),
        "landmarks off the face",
        IN_005,
    ),
    "landmarks not numbers": (
        lambda r: landmarks(r).write_text("nan nan\n" * 68),
        "landmarks off the face",
        IN_005,
    ),
    "some landmarks": (lambda r: landmarks(r).unlink(), "landmarks missing", IN_005),
    "folder of another name": (
        lambda r: [(r / f / "S005/001").rename(r / f / "S005/1") for f in ("Emotion", "Landmarks")],
        "folder of another name",
        "S and 3 digits",
    ),
}


@pytest.mark.parametrize("how", BROKEN)
def test_broken_sequence(tiny, how):
    whole = load_ckplus(tiny, size=16)
    damage, kind, seen = BROKEN[how]
    damage(tiny)
    if kind == "without a label":
        videos = load_ckplus(tiny, size=16)
        assert videos.skipped == {kind: 2}
    else:
        with pytest.warns(UserWarning) as said:
            videos = load_ckplus(tiny, size=16)
        lines = [line for line in str(said[0].message).splitlines() if kind in line]
        assert len(said) == len(lines) == 1 and lines[0].startswith("  S005/"), said[0].message
        assert seen in lines[0]
        assert videos.skipped[kind] == 1
    check_others(videos, whole)


def check_others(videos: Videos, whole: Videos) -> None:
    """The other three videos are as they were, and the label says that one is missing."""
    assert len(videos) == 3 and videos.n_subjects == 3
    assert (videos.frames == whole.frames[1:]).all()
    assert (videos.emotion == whole.emotion[1:]).all()
    assert "not whole: 3 of 327" in videos.label and videos.sha256 != whole.sha256
    assert "left out: " in repr(videos)


def test_several_flaws_are_all_named(tiny):
    truncate(frame(tiny))
    (tiny / "Emotion/S999/001/S999_001_00000009_emotion.txt").write_text("x")
    with pytest.warns(UserWarning, match=r"that are left out: 2\n  S005/001.*\n  S999/001"):
        videos = load_ckplus(tiny, size=16)
    assert len(videos) == 2 and videos.n_subjects == 2 and videos.subject.tolist() == [1, 2]
    assert sum(videos.skipped.values()) == 3


# --- what is no CK+ at all is refused --------------------------------------------------------


def test_without_a_folder_the_way_to_one_is_said():
    with pytest.raises(DataError, match="signed agreement.*DUET_CKPLUS.*load_faces"):
        load_ckplus()


def test_the_variable_names_the_folder_and_the_path_comes_first(tiny, monkeypatch):
    monkeypatch.setenv("DUET_CKPLUS", str(tiny))
    assert len(load_ckplus(size=16)) == 4
    with pytest.raises(DataError, match="nowhere is no folder"):
        load_ckplus("nowhere")


@pytest.mark.parametrize(
    "where, message",
    [
        ("S005/001/S005_001_00000001.png", "is no folder"),
        ("S005", "holds no subjects under cohn-kanade-images"),
        ("", r"but subjects themselves: did you mean .*ck\?"),
        ("../..", r"they are under .*ck: did you mean that\?"),
        ("../Emotion", "but subjects themselves"),
    ],
)
def test_a_wrong_folder(tiny, where, message):
    with pytest.raises(DataError, match=message):
        load_ckplus((tiny / "cohn-kanade-images" / where).resolve())


def test_a_folder_without_labels_and_one_with_both(tiny):
    shutil.copytree(tiny / "Emotion", tiny / "Emotion_labels")
    with pytest.raises(DataError, match="holds both Emotion and Emotion_labels"):
        load_ckplus(tiny)
    shutil.rmtree(tiny / "Emotion")
    shutil.rmtree(tiny / "Emotion_labels")
    with pytest.raises(DataError, match="no subjects under Emotion or Emotion_labels"):
        load_ckplus(tiny)


def test_nothing_usable(tiny):
    for file in tiny.glob("Emotion/*/*/*.txt"):
        file.write_text("?")
    with pytest.raises(DataError, match="no labelled video that can be used:\n  S005/001: unread"):
        load_ckplus(tiny)
    with pytest.raises(ValueError, match="size is .*, 8 or more"):
        load_ckplus(tiny, size=4)


# --- the cache -------------------------------------------------------------------------------


def no_cutting(*_: object) -> None:
    raise AssertionError("a picture was opened")


def same(one: Videos, other: Videos) -> bool:
    arrays = ("frames", "emotion", "subject")
    equal = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays)
    return equal and repr(one) == repr(other) and one.sha256 == other.sha256


def test_the_second_time_no_picture_is_opened(tiny, cache, monkeypatch):
    truncate(frame(tiny))
    with pytest.warns(UserWarning, match="unreadable frame"):
        first = load_ckplus(tiny, size=16)
    monkeypatch.setattr(ckplus, "cut_video", no_cutting)
    with pytest.warns(UserWarning, match=f"S005/001: unreadable frame: {IN_005}"):
        assert same(load_ckplus(tiny, size=16), first)
    (file,) = cache.iterdir()
    assert file.name == f"{first.sha256}.npz"
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700  # for the holder of the licence alone
    with np.load(file, allow_pickle=False) as kept:
        assert set(kept) == {"frames", "kept", "flaws"}  # and no subject's id


def test_another_byte_another_size_another_name_is_another_key(tiny, cache):
    keys = [load_ckplus(tiny, size=16).sha256, load_ckplus(tiny, size=17).sha256]
    Image.new("L", SIZE, 77).save(frame(tiny, 5))  # a frame that is not kept
    assert load_ckplus(tiny, size=16).sha256 == keys[0]
    Image.new("L", SIZE, 77).save(frame(tiny))
    keys.append(load_ckplus(tiny, size=16).sha256)
    landmarks(tiny).write_text(landmarks(tiny).read_text().replace("1.5000000e+01", "1.4e+01"))
    keys.append(load_ckplus(tiny, size=16).sha256)
    label(tiny).write_text("4")
    keys.append(load_ckplus(tiny, size=16).sha256)
    assert len(set(keys)) == 5 == len(list(cache.iterdir()))


class Trap:
    """Whoever unpickles it makes a file."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.file,)


@pytest.mark.parametrize("how", ["cut", "flipped", "pickle", "of another", "empty"])
def test_a_damaged_cache_is_made_again_and_said(tiny, cache, how):
    first = load_ckplus(tiny, size=16)
    (file,) = cache.iterdir()
    good = bytearray(file.read_bytes())
    if how == "flipped":
        good[400] ^= 255
    file.write_bytes(good[: len(good) // 2] if how == "cut" else good)
    if how == "pickle":
        things = np.array([Trap(cache / "sprung")], dtype=object)
        np.savez(file, frames=things, kept=things, flaws=things)
    if how == "of another":
        np.savez(file, frames=first.frames[:2], kept=np.arange(2), flaws=np.array("[]"))
    if how == "empty":
        file.write_bytes(b"")
    with pytest.warns(UserWarning, match="is damaged .*cut again"):
        assert same(load_ckplus(tiny, size=16), first)
    assert same(load_ckplus(tiny, size=16), first)  # without a warning: it is whole again
    assert list(cache.iterdir()) == [file]  # the trap was not sprung


def test_writing_stops_half_way(tiny, cache, monkeypatch):
    def full(source, target):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("data_prep.sources.os.replace", full)
        with pytest.warns(UserWarning, match="cannot be written to .No space.*DUET_DATA"):
            load_ckplus(tiny, size=16)
    assert list(cache.iterdir()) == []
    assert len(load_ckplus(tiny, size=16)) == 4


# --- by hand ---------------------------------------------------------------------------------


def test_the_command_for_ck_plus(tiny, capsys):
    assert main(["ckplus", "--path", str(tiny), "--size", "16"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("ckplus (not whole: 4 of 327 videos, 3 people): 4 videos of 3 people")
    assert said.endswith("left out: 1 without a label\n")
    truncate(frame(tiny))
    assert main(["ckplus", "--path", str(tiny), "--size", "16"]) == 0
    assert "S005/001: unreadable frame" in capsys.readouterr().err
    assert main(["ckplus", "--path", "nowhere"]) == 1
    assert "nowhere is no folder" in capsys.readouterr().err


def test_the_command_for_faces(tmp_path, capsys, monkeypatch):
    small = {"anger": 1, "fear": 1}
    for name in ("load_faces", "write_ckplus"):
        function = getattr(drawn_faces, name)
        few = {"counts": small, "n_subjects": 2}
        few |= {"unlabelled": 0} if name == "write_ckplus" else {}
        monkeypatch.setattr(drawn_faces, name, partial(function, **few))
    assert main(["faces", "--size", "16", "--strength", "2"]) == 0
    assert capsys.readouterr().out.startswith(
        "faces (drawn stand-in, personal strength 2): 2 videos of 2 people, 6 frames of 16 × 16"
    )
    assert main(["faces", "--size", "30", "--write", str(tmp_path / "drawn")]) == 0
    assert len(load_ckplus(tmp_path / "drawn", size=16)) == 2
    assert main(["faces", "--write", str(tmp_path)]) == 1
    assert "is not empty" in capsys.readouterr().err
