"""The first cell of a chapter, in a kernel whose Python is not the one that PATH finds."""

from __future__ import annotations

import json
import os
import re
import site
import sys
import venv
import zipfile
from pathlib import Path

import nbformat
import notebook_checks as checks
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

INFO = "duetlib-0.dist-info"
WHEEL = {
    "duetbook/__init__.py": "",
    "duetbook/notebook.py": "def start(seed):\n    print('started')\n",
    f"{INFO}/METADATA": "Metadata-Version: 2.1\nName: duetlib\nVersion: 0\n",
    f"{INFO}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{INFO}/RECORD": "",
}


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A package of our name, in a file: what the cell installs in place of the repository."""
    path = tmp_path / "duetlib-0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in WHEEL.items():
            archive.writestr(name, text)
    return path


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Python with Jupyter's kernel and without our package: the folder of its packages."""
    venv.create(tmp_path / "kernel", symlinks=True)
    (found,) = (tmp_path / "kernel").glob("lib/python*/site-packages")
    bare = tmp_path / "bare"  # all that is installed here, but for what is ours
    bare.mkdir()
    for folder in site.getsitepackages():
        for entry in Path(folder).iterdir():
            if "duetlib" not in entry.name and entry.name not in ("duetbook", "data_prep"):
                (bare / entry.name).symlink_to(entry)
    (found / "bare.pth").write_text(f"{bare}\n")
    python = str(tmp_path / "kernel" / "bin" / "python")
    argv = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=40"]
    spec = tmp_path / "kernels" / "other" / "kernel.json"
    spec.parent.mkdir(parents=True)
    spec.write_text(json.dumps({"argv": argv, "display_name": "other", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # nothing is fetched
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return found


def first_cell(wheel: Path, folder: Path) -> str:
    """What chapter 1 prints when its first cell runs there, with the wheel for the repository."""
    chapter = nbformat.read(checks.ROOT / "book" / "01_one_model_many_devices.ipynb", as_version=4)
    source = re.sub(r'git\+https[^"]*', wheel.as_uri(), checks.code_cells(chapter)[0].source)
    run = new_notebook(cells=[new_code_cell(source)])
    NotebookClient(
        run, kernel_name="other", timeout=60, resources={"metadata": {"path": str(folder)}}
    ).execute()
    return "".join(output.get("text", "?") for output in run.cells[0].outputs)


def test_where_the_kernel_lacks_the_package_it_is_installed_there(
    packages: Path, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The PATH's Python has it, which is no help."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert first_cell(wheel, tmp_path).endswith("started\n")
    assert (packages / "duetbook" / "notebook.py").exists()


def test_where_the_kernel_has_the_package_nothing_is_asked_or_said(
    packages: Path, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The PATH's Python lacks it, which is no matter."""
    zipfile.ZipFile(wheel).extractall(packages)
    for name in ("python", "python3", "pip"):
        program = tmp_path / "path" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!/bin/sh\necho {name} was asked\ntouch {tmp_path}/asked\nexit 1\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}{os.pathsep}{os.environ['PATH']}")
    assert first_cell(wheel, tmp_path) == "started\n"
    assert not (tmp_path / "asked").exists()
