"""Shared by all tests: the environment that notebooks run in, the built site, and one browser."""

from __future__ import annotations

import functools
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NoReturn

import pytest

from data_prep.places import resolved

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()

# Kernels started by nbval inherit this: no progress bars, and `!python` is the kernel's own.
os.environ["DUET_PROGRESS"] = "0"
# One thread, before torch is imported: small tensors gain nothing by two, and lose much when busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
os.environ.update(resolved())  # kernels run in the chapters' folder, not in this one


def missing(what: str) -> NoReturn:
    """Skip, saying why; where REQUIRE_PROGRAMS=1, fail."""
    if os.environ.get("REQUIRE_PROGRAMS") == "1":
        pytest.fail(f"{what} (REQUIRE_PROGRAMS=1 makes this a failure)")
    pytest.skip(what)


@pytest.fixture(scope="session")
def html() -> Path:
    """The folder of the built site."""
    folder = ROOT / "_build" / "html"
    if not (folder / "index.html").exists():
        missing("the site is not built: run `make book` first")
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """One Chromium for all tests that need it."""
    found = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    if found is None:
        missing("no Chromium on this machine: the README says how to install it")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright is not installed: pip install 'duetlib[test]'")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield running
        running.close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        """Say nothing: the tests tell what is wrong."""


@pytest.fixture(scope="session")
def serve() -> Iterator[Any]:
    """A function that serves a folder on this machine, and gives its address."""
    servers = []

    def start(folder: Path) -> str:
        server = ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder))
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test marked `cuda` is skipped, with a line that says so, where there is no CUDA device."""
    if item.get_closest_marker("cuda"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device on this machine")
