"""Run the chapters and the unit tests with other versions than those of constraints.txt.

python tools/versions.py                 the lowest that pyproject.toml allows, on the oldest Python
python tools/versions.py --newest        the newest that PyPI has
python tools/versions.py --python 3.13   on another Python: a version, or the path of one

What Colab has, as far as it is known:

UV_CONSTRAINT=tests/colab_versions.txt python tools/versions.py --newest --python 3.13

Run it with .venv/bin/python, which has uv. It takes about 8 GB of disk, and some minutes more than
`make book`. What is installed and trained, and what each step says, stays in a folder of its own,
and another run goes on from there. Once all is green with the lowest versions, they are written to
constraints.lowest.txt. Style and types are checked with constraints.txt alone.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from datetime import date
from pathlib import Path

from execute import digest, write_if_changed

from data_prep.command import run_command

ROOT = Path(__file__).resolve().parent.parent
LOWEST = ROOT / "constraints.lowest.txt"
CHAPTERS = """
import sys
from pathlib import Path
from build_book import BuildError, ROOT, run_chapters, sources
try:
    run_chapters([p for p in sources(ROOT / "book") if p.suffix == ".ipynb"], Path(sys.argv[1]))
except BuildError as error:
    sys.exit(str(error))
"""
# No browser and no site; test_packaging compares files, and installs of its own, with each other.
TESTS = ["tests", "--ignore=tests/test_site.py", "--ignore=tests/test_packaging.py"]
TESTS += ["-q", "-m", "not browser and not stress", "-p", "no:cacheprovider"]


def oldest_python() -> str:
    """The Python that `requires-python` begins with."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return str(project["requires-python"]).removeprefix(">=")


def find_uv() -> str:
    """Where `uv` is: beside this Python, or on the PATH."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        sys.exit("uv was not found, and the lowest versions are its to find: pip install uv")
    return found


def step(name: str, command: list[str | Path], folder: Path, models: Path | None = None) -> bool:
    """Run one command, its output in a log, and say how it went and how long it took."""
    log, started = folder / f"{name}.log", time.perf_counter()
    print(f"{name:<10} running; what it says is in {log}", flush=True)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "tools"),
        "DUET_CACHE": str(models or folder),
        "DUET_PROGRESS": "0",
        "OMP_NUM_THREADS": "1",
        "UV_NO_PROGRESS": "1",
    }
    with log.open("w") as output:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    went = "FAILED" if done.returncode else "ok"
    print(f"{name:<10} {went} after {time.perf_counter() - started:.0f} s", flush=True)
    if done.returncode:
        print("\n".join(log.read_text(errors="replace").splitlines()[-40:]), flush=True)
    return done.returncode == 0


def listing(frozen: str, python: str, minutes: float) -> str:
    """constraints.lowest.txt: `uv pip freeze`, and when it was last green."""
    pins = re.sub(r"\+\S+", "", frozen)  # a build's local label: torch==2.7.0+cpu
    return (
        "# The lowest versions that pyproject.toml allows, and what comes with them, as installed\n"
        f"# by tools/versions.py, which wrote this on {date.today()}, when all chapters and unit "
        f"tests\n# had been green with them: {python}, {sys.platform}, {minutes:.0f} minutes.\n"
        f"{pins}"
    )


def main(arguments: list[str] | None = None) -> int:
    """Install, run the chapters, run the tests; 1 if anything failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--newest", action="store_true", help="the newest, not the lowest versions")
    parser.add_argument("--python", default=oldest_python(), help="%(default)s")
    parser.add_argument("--folder", type=Path, default=ROOT / "_build/versions", help="%(default)s")
    given = parser.parse_args(arguments)

    uv, started = find_uv(), time.perf_counter()
    resolution = "highest" if given.newest else "lowest-direct"
    python = re.sub(r"\W+", "-", given.python).strip("-")
    folder = given.folder.expanduser().absolute() / f"{resolution}-{python}"
    folder.mkdir(parents=True, exist_ok=True)
    run = folder / "venv/bin/python"
    if not run.exists() and not step(
        "venv", [uv, "venv", "-p", given.python, run.parents[1]], folder
    ):
        return 1
    install: list[str | Path] = [uv, "pip", "install", "--python", run, "--resolution", resolution]
    wanted = ["--editable", ".[book,cloud,test]", "pip>=24"]  # `data_prep.sources` calls pip
    if not step("install", [*install, "--exact", *wanted], folder):
        return 1
    asked: list[str | Path] = [uv, "pip", "freeze", "--exclude-editable", "--python", run]
    frozen = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
    (folder / "installed.txt").write_text(frozen)
    kept = folder / digest([frozen])[:8]  # models and chapters: other versions begin anew
    green = [
        step("chapters", [run, "-c", CHAPTERS, kept / "executed"], folder, kept / "models"),
        step("tests", [run, "-m", "pytest", *TESTS], folder, kept / "models"),
    ]
    minutes = (time.perf_counter() - started) / 60
    print(f"{minutes:.0f} minutes in all; {folder / 'installed.txt'} lists what was installed")
    if not all(green):
        return 1
    if not given.newest and given.python == oldest_python():
        asked = [run, "--version"]
        version = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
        write_if_changed(LOWEST, listing(frozen, version, minutes))
        print(f"{LOWEST.name} is written")
    return 0


if __name__ == "__main__":
    run_command(main)
