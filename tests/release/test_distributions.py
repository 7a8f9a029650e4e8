"""The parts of a release: the wheel, the source distribution, and what they say of themselves."""

from __future__ import annotations

import email
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.metadata import Metadata
from trove_classifiers import classifiers, deprecated_classifiers

import durableq
from tests.house.tree import tracked
from tests.support import scaled

ROOT = Path(__file__).parents[2]
BUILD = (
    "import hatchling.build as made, sys; "
    "print(made.build_wheel(sys.argv[1]), made.build_sdist(sys.argv[1]), sep='\\n')"
)
REPOSITORY = "https://github.com/durableq/durableq"
INFO = f"durableq-{durableq.__version__}.dist-info"
pytestmark = pytest.mark.xdist_group("distributions")
OURS = {path.relative_to(ROOT).as_posix() for path in tracked(ROOT)}


class Built(NamedTuple):
    wheel: Path
    sdist: Path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=scaled(120),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    wheel, sdist = done.stdout.split()[-2:]
    return Built(folder / wheel, folder / sdist)


@pytest.fixture(scope="module")
def wheel(built: Built) -> dict[str, str]:
    """The files of the wheel as text, by path."""
    with zipfile.ZipFile(built.wheel) as archive:
        return {name: archive.read(name).decode("utf-8", "replace") for name in archive.namelist()}


@pytest.fixture(scope="module")
def metadata(wheel: dict[str, str]) -> Metadata:
    # Raises for each field that the core metadata specification does not allow.
    return Metadata.from_email(wheel[f"{INFO}/METADATA"].encode(), validate=True)


def test_the_wheel_has_the_tracked_files_of_the_package_and_no_others(
    wheel: dict[str, str],
) -> None:
    there = {name for name in wheel if not name.startswith(f"{INFO}/")}
    package = {name for name in OURS if name.startswith("durableq/")}
    migrations = {f"durableq/{name}" for name in OURS if name.startswith("migrations/")}
    assert there == package | migrations
    assert {"durableq/py.typed", "durableq/migrations/env.py"} <= there
    for kind in ("templates", "static"):
        assert [name for name in there if name.startswith(f"durableq/dashboard/{kind}/")]


def test_the_information_in_the_wheel_is_complete(wheel: dict[str, str]) -> None:
    there = {name.removeprefix(f"{INFO}/") for name in wheel if name.startswith(f"{INFO}/")}
    assert there == {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}
    assert "Root-Is-Purelib: true\nTag: py3-none-any" in wheel[f"{INFO}/WHEEL"]
    points = wheel[f"{INFO}/entry_points.txt"]
    assert "[console_scripts]\ndurableq = durableq.cli:main\n" in points
    assert "[pytest11]\ndurableq.contrib.pytest = durableq.contrib.pytest\n" in points


def test_the_metadata_names_the_version_the_license_and_the_pythons(metadata: Metadata) -> None:
    assert str(metadata.version) == durableq.__version__
    assert (metadata.license_expression, metadata.license_files) == ("MIT", ["LICENSE"])
    assert str(metadata.requires_python) == ">=3.11"
    assert metadata.classifiers is not None
    assert set(metadata.classifiers) <= classifiers
    assert not set(metadata.classifiers) & set(deprecated_classifiers)
    given = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(metadata.provides_extra or ()) == set(given["optional-dependencies"])


def test_each_address_in_the_metadata_is_of_the_repository(metadata: Metadata) -> None:
    urls = metadata.project_urls
    assert urls is not None
    assert set(urls) == {"Changelog", "Documentation", "Issues", "Security", "Source"}
    assert urls["Source"] == REPOSITORY
    for url in urls.values():
        assert url.startswith(REPOSITORY)
        path = re.sub(r".*/(?:blob|tree)/main/", "", url)
        assert path == url or (ROOT / path).exists(), url


def test_the_description_is_the_readme_with_links_that_work_elsewhere(
    wheel: dict[str, str], metadata: Metadata
) -> None:
    assert metadata.description_content_type == "text/markdown"
    description = email.message_from_string(wheel[f"{INFO}/METADATA"]).get_payload()
    assert isinstance(description, str)
    assert description.startswith("# durableq\n")
    assert re.findall(r"\]\((?!https?://|#)[^)]*\)", description) == []
    ours = re.findall(rf"\]\({REPOSITORY}/(blob|raw)/main/([^)#]*)", description)
    assert {"blob", "raw"} == {kind for kind, _ in ours}
    for _, path in ours:
        assert (ROOT / path).exists(), path
    plain = re.sub(rf"{REPOSITORY}/(blob|raw)/main/", "", description)
    assert plain.split() == (ROOT / "README.md").read_text().split()


def test_the_source_distribution_has_all_that_git_tracks(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names == OURS | {"PKG-INFO"}, "a file that git neither tracks nor ignores would be in it"


def test_a_wheel_of_the_source_distribution_is_the_same(built: Built, tmp_path: Path) -> None:
    with tarfile.open(built.sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (tree,) = tmp_path.iterdir()
    subprocess.run(
        [sys.executable, "-c", BUILD, str(tmp_path)],
        cwd=tree,
        capture_output=True,
        timeout=scaled(120),
        check=True,
    )
    (again,) = tmp_path.glob("*.whl")
    assert again.read_bytes() == built.wheel.read_bytes()
