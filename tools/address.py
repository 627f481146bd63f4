"""Make every mention of the repository's address agree with `_config.yml`.

The address stands in `_config.yml` (`repository: url:`). A notebook that runs alone in Colab, a
README and a package's metadata can't read that file, so they repeat it: this writes it into them.

    python tools/address.py            # rewrite what differs
    python tools/address.py --check    # change nothing; name what differs, and fail
"""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

import yaml

from data_prep.command import run_command

ROOT = Path(__file__).resolve().parent.parent
FILES = ("*.md", "*.cff", "pyproject.toml", "book/*.md", "book/*.ipynb")
ADDRESS = r"https://github\.com/[\w-]+/[\w-]+"
# Whatever address stands at one of these places is meant to be the repository's own.
OURS = re.compile(rf'(?:duetlib(?:\[\w+\])? @ git\+|repository-code: "?|Repository = ")({ADDRESS})')


def configured(root: Path) -> str:
    """The address in `_config.yml` under `root`; ValueError where there is no usable one."""
    url = yaml.safe_load((root / "_config.yml").read_text())["repository"]["url"].rstrip("/")
    if not re.fullmatch(ADDRESS, url):
        raise ValueError(
            f"_config.yml: repository.url is {url!r}, not of the form https://github.com/owner/name"
        )
    return url


def forms(address: str) -> tuple[str, str, str]:
    """An address as it is written in a link, in a Colab link, and for its Pages site."""
    owner, name = address.rsplit("/", 2)[1:]
    return address, f"research.google.com/github/{owner}/{name}", f"{owner}.github.io/{name}"


def mentions(root: Path) -> dict[Path, str]:
    """The files that may name the address, with their text."""
    paths = sorted({path for pattern in FILES for path in root.glob(pattern)})
    return {path: path.read_text(encoding="utf-8") for path in paths}


def agreed(texts: dict[Path, str], address: str) -> dict[Path, str]:
    """The same texts with the address, wherever an earlier one of ours stands."""
    earlier = {old for text in texts.values() for old in OURS.findall(text)} - {address}
    agreed = {}
    for path, text in texts.items():
        for old in earlier:
            for before, after in zip(forms(old), forms(address), strict=True):
                text = re.sub(rf"{re.escape(before)}(?![\w-])", after, text)
        agreed[path] = text
    return agreed


def write(path: Path, text: str) -> None:
    """Replace a file by `text`, whole or not at all."""
    aside = path.with_name(path.name + ".part")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)


def main(argv: list[str] | None = None, root: Path = ROOT) -> int:
    """Rewrite, or with `--check` name, the files that differ; 1 where a check found any."""
    parser = argparse.ArgumentParser(description="Make every mention of the address agree.")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if any differs")
    check = parser.parse_args(argv).check
    address, texts = configured(root), mentions(root)
    changed = {path: text for path, text in agreed(texts, address).items() if text != texts[path]}
    for path, text in changed.items():
        print(f"{path.relative_to(root)}: {'does not name' if check else 'now names'} {address}")
        if not check:
            write(path, text)
    return int(check and bool(changed))


if __name__ == "__main__":
    run_command(main)
