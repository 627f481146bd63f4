"""What training keeps on disk: whole files with a hash in them, under a key that names the code."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pooch
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from data_prep.places import CacheWarning, named, optional


def cache_dir() -> Path:
    """Where trained models are kept: `DUET_CACHE`, or the user's cache folder."""
    return named("DUET_CACHE") or Path(pooch.os_cache("duet-by-hand")) / "models"


def code_hash(modules: Iterable[str]) -> str:
    """SHA-256 over the code of modules, without comments and docstrings.

    Args:
        modules: names within `duetlib`, such as `vision.network`.
    """
    root, found = Path(__file__).parent, hashlib.sha256()
    for name in modules:
        tree = ast.parse((root / f"{name.replace('.', '/')}.py").read_bytes())
        for node in ast.walk(tree):
            if _begins_with_text(node):
                node.body = node.body[1:]  # type: ignore[attr-defined]
        found.update(f"{name} {ast.dump(tree)}\0".encode())
    return found.hexdigest()


def _begins_with_text(node: ast.AST) -> bool:
    """Whether a block's first statement is a string alone: a docstring."""
    body = getattr(node, "body", None)
    first = body[0] if isinstance(body, list) and body else None
    return isinstance(first, ast.Expr) and isinstance(getattr(first.value, "value", None), str)


class Damaged(ValueError):
    """A file that is not as it was written: cut, empty, or changed."""


def write_safetensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write aside, then rename: the file is there whole, or not at all. A hash goes with it.

    Raises:
        OSError: if it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}.part")
    tensors = {k: v.contiguous() for k, v in tensors.items()}
    try:
        save_file(tensors, aside, {**metadata, "sha256": _digest(tensors, metadata)})
        os.replace(aside, path)
    except SafetensorError as error:
        raise OSError(f"{error}: {aside}") from error
    finally:
        aside.unlink(missing_ok=True)  # there only if it was not moved


def read_safetensors(path: Path, device: Any) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a file that `write_safetensors` has written.

    Raises:
        Damaged: if the file is not as it was written.
    """
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise Damaged(f"{path} is damaged, or not one of ours ({error})") from error
    if metadata.pop("sha256", None) != _digest(tensors, metadata):
        raise Damaged(f"{path} is damaged, or not one of ours (it is not what was written)")
    return metadata, tensors


def _digest(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(sorted(metadata.items())).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)} ".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def kept(path: Path, device: Any) -> tuple[dict[str, str], dict[str, Tensor]] | None:
    """What the cache holds in a file of its own; None where there is none that can be used.

    Warns of one that is damaged, and takes it away: what was in it is made anew.
    """
    try:
        return read_safetensors(path, device)
    except (FileNotFoundError, NotADirectoryError):
        if os.path.lexists(path):  # safetensors says so of what it may not read
            warnings.warn(f"{path} cannot be read: made anew", CacheWarning, stacklevel=3)
        return None
    except Damaged as error:
        warnings.warn(f"{error}: made anew", CacheWarning, stacklevel=3)
        with optional(path, "DUET_CACHE"):
            path.unlink()
    except OSError as error:
        warnings.warn(f"{path} cannot be read ({error}): made anew", CacheWarning, stacklevel=3)
    return None


def usable(path: Path, device: Any) -> Path | None:
    """A checkpoint's place, or None where something lies that can be neither read nor removed."""
    return path if kept(path, device) is not None or not os.path.lexists(path) else None
