"""Ctrl-C ends a command line in one line, with the status that shells know."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from data_prep.command import run_command
from data_prep.sources import DataError

ROOT = Path(__file__).resolve().parent.parent


def test_a_command_exits_with_what_main_returns() -> None:
    for status in (0, 1, None):
        with pytest.raises(SystemExit) as ended:
            run_command(lambda status=status: status)
        assert ended.value.code == status


@pytest.mark.parametrize("kind", [DataError, NotADirectoryError])
def test_what_is_wrong_with_a_file_is_said_in_a_line(
    kind: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    def main() -> None:
        raise kind("no file at x")

    with pytest.raises(SystemExit) as ended:
        run_command(main)
    assert ended.value.code == 1 and capsys.readouterr().err == "no file at x\n"


def test_every_command_line_ends_so() -> None:
    """Whatever runs as a program does; link.py alone starts without the package."""
    for path in [
        p for room in ("duetlib", "data_prep", "tools") for p in (ROOT / room).rglob("*.py")
    ]:
        _, runs, last = path.read_text().partition('if __name__ == "__main__":')
        if runs and path.name != "link.py":
            assert "run_command(" in last, path


def test_ctrl_c_leaves_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "data_prep", "faces", "--size", "224"]
    command += ["--write", str(tmp_path / "faces")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "faces").exists() and process.poll() is None:
            pass  # until it draws
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        written = process.stderr.read()
    assert process.returncode == 130
    assert re.fullmatch(r"\s*stopped by Ctrl-C\s*", written), written
