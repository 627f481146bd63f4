"""The files around the code agree with each other, and the two commands do what they say."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import distributions, requires, version
from pathlib import Path

import address
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
CONDA_NAME = {"torch": "pytorch"}  # where conda-forge has another name than PyPI
LINUX = {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"}


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def requirements(project) -> dict[str, SpecifierSet]:
    """Everything that the project asks for, extras included: name -> range."""
    lines = [*project["dependencies"], *sum(project["optional-dependencies"].values(), [])]
    return ranges(lines)


@pytest.fixture(scope="module")
def constraints() -> dict[str, str]:
    return pins(ROOT / "constraints.txt")


@pytest.fixture(scope="module")
def colab() -> dict[str, str]:
    """What Colab has installed, as far as the package reaches."""
    return pins(ROOT / "tests/colab_versions.txt")


def pins(file: Path) -> dict[str, str]:
    """The names and the versions of a list such as `pip freeze` writes."""
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines), "a name and a version"
    names = [canonicalize_name(line.split("==")[0]) for line in lines]
    assert len(set(names)) == len(names), "a name stands twice"
    return dict(zip(names, (line.split("==")[1] for line in lines), strict=True))


def ranges(lines: list[str]) -> dict[str, SpecifierSet]:
    parsed = [Requirement(line) for line in lines]
    found = {canonicalize_name(each.name): each.specifier for each in parsed}
    assert len(found) == len(lines), "a name stands twice"
    return found


# --- what is asked for --------------------------------------------------------------------------


def test_environment_yml_says_the_same_as_pyproject(project, requirements):
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert set(environment) == {"name", "channels", "dependencies"}
    conda = [line for line in environment["dependencies"] if isinstance(line, str)]
    (by_pip,) = (entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    found = ranges(conda + by_pip)
    assert found.pop("python") == SpecifierSet(project["requires-python"])
    assert found.pop("pip") == SpecifierSet()
    expected = {CONDA_NAME.get(name, name): allowed for name, allowed in requirements.items()}
    assert found == expected


def test_pyproject_has_lower_bounds_alone_but_for_two(requirements):
    above = {
        name: {str(each) for each in allowed if each.operator != ">="}
        for name, allowed in requirements.items()
    }
    assert {n: found for n, found in above.items() if found} == {
        "jupyter-book": {"<2"},
        "onnx": {"<1.23"},
    }
    assert all(len(allowed) == len(above[name]) + 1 for name, allowed in requirements.items())


def test_every_lower_bound_was_tested(requirements):
    """constraints.lowest.txt, which tools/versions.py writes, has the very versions asked for."""
    lowest = pins(ROOT / "constraints.lowest.txt")
    for name, allowed in requirements.items():
        (bound,) = (Version(each.version) for each in allowed if each.operator == ">=")
        tested = Version(lowest[name])
        same = tested >= bound and (tested.major, tested.minor) == (bound.major, bound.minor)
        assert same, f"{name}>={bound} was tested with {tested}: run tools/versions.py"


# --- Colab --------------------------------------------------------------------------------------


def test_cloud_extra_keeps_colabs_own_versions(project, constraints, colab):
    """Into Colab pip adds what is missing; what is there it leaves alone if it is allowed."""
    linux = {"python_version": "3.13", "python_full_version": "3.13.0", "extra": "", **LINUX}
    wanted = [*project["dependencies"], *project["optional-dependencies"]["cloud"]]
    waiting, seen = [("duetlib[cloud]", line) for line in wanted], set()
    while waiting:
        by, line = waiting.pop()
        asked = Requirement(line)
        name = canonicalize_name(asked.name)
        if asked.marker and not asked.marker.evaluate(linux):
            continue
        if name in colab:
            told = f"{by} asks for {asked}, and Colab has {colab[name]}"
            assert asked.specifier.contains(colab[name]), told
        elif name not in seen:
            seen.add(name)
            if version(name) != constraints[name]:
                pytest.skip(f"{name} {version(name)} is installed, and not {constraints[name]}")
            waiting += [(f"{name} {version(name)}", line) for line in requires(name) or []]
    assert {"onnx", "onnxscript", "onnxruntime"} <= seen


@pytest.mark.stress
def test_newest_that_cloud_allows_keeps_colabs_own_versions_too(tmp_path, colab):
    """The same with what PyPI has today. `uv` takes what stands in its output as pip takes what is
    installed: it keeps each version that may stay."""
    uv = Path(sys.executable).with_name("uv")
    given = (ROOT / "tests/colab_versions.txt").read_text()
    (tmp_path / "out.txt").write_text(given)
    command = [uv, "pip", "compile", "pyproject.toml", "--extra", "cloud", "--python-version"]
    command += ["3.13", "--no-annotate", "--no-header", "--quiet", "--output-file"]
    tried = subprocess.run(
        [*command, tmp_path / "out.txt"], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    if tried.returncode and re.search(r"fetch|connect|dns|network", tried.stderr):
        pytest.skip(f"PyPI cannot be reached: {tried.stderr[:200]}")
    assert tried.returncode == 0, tried.stderr
    found = pins(tmp_path / "out.txt")
    moved = {name: found[name] for name in found.keys() & colab if found[name] != colab[name]}
    assert not moved, f"pip would change what Colab has: {moved}"
    assert found["protobuf"].startswith("5.29.")


# --- what is pinned -----------------------------------------------------------------------------


def test_constraints_satisfy_every_range(requirements, constraints):
    for name, allowed in requirements.items():
        assert name in constraints, f"constraints.txt has no version of {name}"
        assert allowed.contains(constraints[name]), f"{name}=={constraints[name]} is not {allowed}"
    assert "django-static-mathjax" in constraints, "make book installs it by name alone"
    assert "django" not in constraints, "MathJax is wanted without Django"


def test_tested_versions_install_on_the_oldest_python(project, constraints):
    oldest = str(project["requires-python"]).removeprefix(">=") + ".0"
    refused = [
        f"{each.name} {each.version} asks for Python {asked}"
        for each in distributions()
        if (asked := each.metadata["Requires-Python"])
        and canonicalize_name(each.name) in constraints
        and oldest not in SpecifierSet(asked)
    ]
    assert not refused, "; ".join(refused)


def test_no_file_names_a_local_path_or_another_registry():
    names = ("pyproject.toml", "constraints.txt", "constraints.lowest.txt", "environment.yml")
    for name in names:
        found = re.search(r"file://|index-url|find-links|\s/\w", (ROOT / name).read_text())
        assert not found, f"{name}: {found}"


def test_wheel_holds_the_three_packages_and_the_records(tmp_path):
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel"]
    subprocess.run([*build, "--directory", tmp_path], cwd=ROOT, check=True, timeout=60)
    (wheel,) = tmp_path.glob("duetlib-*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    rooms = ROOT / "duetlib", ROOT / "data_prep", ROOT / "book" / "duetbook"
    code = [path.relative_to(room.parent) for room in rooms for path in room.rglob("*.py")]
    records = [path for path in (ROOT / "results").rglob("*") if path.is_file()]
    assert {"duetlib/__init__.py", "data_prep/__init__.py"} <= held
    assert held >= {path.as_posix() for path in code}
    assert held >= {f"duetlib/{path.relative_to(ROOT).as_posix()}" for path in records}
    assert {name.split("/")[0] for name in held} == {"duetlib", "data_prep", "duetbook"}


# --- the address of the repository --------------------------------------------------------------


def test_address_agrees_everywhere(capsys):
    assert address.main(["--check"]) == 0, capsys.readouterr().out
    text = "".join(address.mentions(ROOT).values())
    assert set(address.OURS.findall(text)) == {address.configured(ROOT)}


@pytest.fixture
def moved(tmp_path) -> Path:
    """A small project whose address has just been changed in `_config.yml`."""
    old = "https://github.com/old/house"
    (tmp_path / "book").mkdir()
    (tmp_path / "_config.yml").write_text("repository: {url: 'https://github.com/new/home/'}\n")
    (tmp_path / "pyproject.toml").write_text(f'[project.urls]\nRepository = "{old}"\n')
    (tmp_path / "CITATION.cff").write_text(f'repository-code: "{old}"\n')
    (tmp_path / "README.md").write_text(
        f"git clone {old}\n<https://old.github.io/house/> [bugs]({old}/issues) {old}-keeper "
        "https://colab.research.google.com/github/old/house/blob/main/book/a.ipynb "
        "https://github.com/someone/else\n"
    )
    (tmp_path / "book/a.ipynb").write_text(rf'["pip install \"duetlib[book] @ git+{old}\"\n"]')
    return tmp_path


def test_address_check_names_each_file_and_changes_nothing(moved, capsys):
    before = address.mentions(moved)
    assert address.main(["--check"], root=moved) == 1
    printed = capsys.readouterr().out
    assert address.mentions(moved) == before
    for name in ("README.md", "pyproject.toml", "CITATION.cff", "book/a.ipynb"):
        assert f"{name}: does not name https://github.com/new/home" in printed


def test_address_is_written_into_every_form_and_nothing_else(moved):
    address.main([], root=moved)
    assert address.main(["--check"], root=moved) == 0
    assert (moved / "README.md").read_text() == (
        "git clone https://github.com/new/home\n<https://new.github.io/home/> "
        "[bugs](https://github.com/new/home/issues) https://github.com/old/house-keeper "
        "https://colab.research.google.com/github/new/home/blob/main/book/a.ipynb "
        "https://github.com/someone/else\n"
    )
    notebook = (moved / "book/a.ipynb").read_text()
    assert notebook == r'["pip install \"duetlib[book] @ git+https://github.com/new/home\"\n"]'


@pytest.mark.parametrize(
    "url", ["github.com/a/b", "https://github.com/a", "https://example.org/a/b"]
)
def test_address_that_is_none_is_refused(tmp_path, url):
    (tmp_path / "_config.yml").write_text(f"repository: {{url: '{url}'}}\n")
    with pytest.raises(ValueError, match=re.escape(repr(url))):
        address.configured(tmp_path)


# --- make, CI and the workflows -----------------------------------------------------------------


def make(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`make` in the repository, without what an outer make hands down."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments],
        cwd=ROOT,
        env={**inherited, **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture(scope="module")
def targets() -> set[str]:
    (phony,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M)
    return set(phony.split())


def test_make_help_lists_every_target(targets):
    helped = make("help")
    assert helped.returncode == 0, helped.stderr
    assert set(re.findall(r"^make (\w+) +\w", helped.stdout, re.M)) == targets
    assert targets == set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    assert make().stdout == helped.stdout, "make alone says the same"


def test_every_target_runs_what_exists(targets):
    for target in targets:
        tried = make("--dry-run", target)
        assert tried.returncode == 0, f"make {target}: {tried.stderr}"
        for script in re.findall(r"tools/\w+\.py", tried.stdout):
            assert (ROOT / script).is_file(), f"make {target} runs {script}, which is missing"
        for module in re.findall(r"-m ((?:duetlib|data_prep)[\w.]*)", tried.stdout):
            assert importlib.util.find_spec(module), f"make {target} runs {module}: missing"


def test_an_old_python_is_refused_by_its_version(tmp_path):
    pretend = "import sys; sys.version_info, sys.version = (3, 9), '3.9.2 (old)'; exec(sys.argv[1])"
    old = tmp_path / "old-python"  # make calls it as: old-python -c CODE
    old.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{pretend}" "$2"\n')
    old.chmod(0o755)
    tried = make(f"{tmp_path}/venv/.made", f"PYTHON={old}", f"VENV={tmp_path}/venv")
    assert tried.returncode != 0
    assert f"Python 3.11 or newer is needed, and {old} is 3.9.2" in tried.stderr
    assert not (tmp_path / "venv").exists()


def test_a_missing_python_is_named(tmp_path):
    tried = make(f"{tmp_path}/venv/.made", "PYTHON=no-such-python", f"VENV={tmp_path}/venv")
    assert tried.returncode != 0
    assert "no-such-python was not found" in tried.stderr


@pytest.mark.parametrize("sudo", [False, True])
def test_ci_installs_the_programs_by_the_readme_and_runs_the_two_commands(tmp_path, sudo):
    """Run .ci/run where apt-get, make and sudo only write down how they were called."""
    stubs = tmp_path / "bin"
    stubs.mkdir()
    for tool in ("bash", "sh", "sed", "dirname"):
        (stubs / tool).symlink_to(shutil.which(tool))
    says = {
        "apt-get": 'echo "apt-get $*" >>"$LOG"',
        "make": 'echo "make $* REQUIRE_PROGRAMS=$REQUIRE_PROGRAMS" >>"$LOG"',
    }
    if sudo:
        says["sudo"] = 'echo sudo >>"$LOG"; exec "$@"'
    for tool, line in says.items():
        (stubs / tool).write_text(f"#!/bin/sh\n{line}\n")
        (stubs / tool).chmod(0o755)
    log = tmp_path / "log"
    subprocess.run(
        [ROOT / ".ci/run"], env={"PATH": str(stubs), "LOG": str(log)}, check=True, timeout=60
    )
    called = log.read_text().splitlines()
    assert called[:-4] == (["sudo"] if sudo else [])
    assert called[-4] == "apt-get update"
    assert re.fullmatch(r"apt-get install -y .*\bchromium\b.*\bhaproxy\b.*", called[-3])
    assert called[-2:] == ["make book REQUIRE_PROGRAMS=1", "make test REQUIRE_PROGRAMS=1"]


def test_workflows_run_ci_or_a_target_that_exists(targets):
    commands = {}
    for path in sorted((ROOT / ".github/workflows").iterdir()):
        workflow = yaml.load(path.read_text(), yaml.BaseLoader)  # BaseLoader: "on" stays a word
        assert {"name", "on", "permissions", "jobs"} <= set(workflow), path.name
        assert workflow["on"]["push"] == {"branches": ["main"]}
        steps = sum((job["steps"] for job in workflow["jobs"].values()), [])
        assert all(("run" in step) != ("uses" in step) for step in steps), path.name
        assert all(re.fullmatch(r"actions/[\w-]+@v\d+", s["uses"]) for s in steps if "uses" in s)
        commands[path.name] = [step["run"] for step in steps if "run" in step]
        uploads = [s["with"]["path"] for s in steps if "upload-pages" in s.get("uses", "")]
        assert uploads == (["_build/html"] if path.name == "pages.yml" else [])
    assert commands == {"ci.yml": [".ci/run"], "pages.yml": ["make book"]}
    assert "book" in targets
    assert os.access(ROOT / ".ci/run", os.X_OK), ".ci/run can't be executed"


# --- licences and citation ----------------------------------------------------------------------


def test_licences_and_citation_say_the_same_as_pyproject(project):
    assert (ROOT / "LICENSE").read_text().startswith(f"{project['license']} License\n")
    text = (ROOT / "LICENSE-TEXT").read_text()
    assert "Attribution 4.0 International" in text and "creativecommons.org" in text
    assert all((ROOT / name).is_file() for name in project["license-files"])
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["license"] == project["license"]
    assert citation["repository-code"] == project["urls"]["Repository"]
    assert citation["url"] == project["urls"]["Documentation"]
    version = re.search(r'^__version__ = "(.*)"$', (ROOT / "duetlib/__init__.py").read_text(), re.M)
    assert citation["version"] == version.group(1)
