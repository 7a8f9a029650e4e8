"""Check that durableq's dependencies install without a compiler, for other machines than this one.

    python scripts/wheels.py

For each platform and Python, pip resolves the dependencies of pyproject.toml to wheels only, and
installs nothing. It needs a package index. Exit status 1 if one of them would have to be compiled.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PLATFORMS = {
    "linux x86_64": ("linux", "x86_64", ("manylinux_2_28_x86_64", "manylinux2014_x86_64")),
    "linux aarch64": ("linux", "aarch64", ("manylinux_2_28_aarch64", "manylinux2014_aarch64")),
    "musl x86_64": ("linux", "x86_64", ("musllinux_1_2_x86_64",)),
    "musl aarch64": ("linux", "aarch64", ("musllinux_1_2_aarch64",)),
    "macos arm64": ("darwin", "arm64", ("macosx_11_0_arm64", "macosx_14_0_arm64")),
    # 10_9 to 10_15 are what wheels are tagged with for Intel; pip on a Mac takes all of them.
    "macos x86_64": ("darwin", "x86_64", tuple(f"macosx_10_{n}_x86_64" for n in range(9, 16))),
    "windows": ("win32", "AMD64", ("win_amd64",)),  # they install; durableq refuses to run there
}


def wanted(system: str, machine: str, python: str) -> list[str]:
    """Return the dependencies whose markers hold on a platform."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    environment = {
        "sys_platform": system,
        "platform_machine": machine,
        "python_version": python,
        "platform_python_implementation": "CPython",
    }
    found = []
    for text in project["dependencies"]:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            requirement.marker = None
            found.append(str(requirement))
    return found


def resolve(requirements: list[str], tags: tuple[str, ...], python: str) -> str:
    """Return pip's complaint; empty if there are wheels for everything."""
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet"]
        command += ["--only-binary=:all:", "--target", folder, "--python-version", python]
        command += [word for tag in tags for word in ("--platform", tag)]
        done = subprocess.run(
            [*command, *requirements], capture_output=True, text=True, check=False
        )
    return "" if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def main() -> int:
    """Print a line for each platform and Python."""
    failed = 0
    for name, (system, machine, tags) in PLATFORMS.items():
        for python in PYTHONS:
            requirements = wanted(system, machine, python)
            complaint = resolve(requirements, tags, python)
            library = "pysqlite3" if any("pysqlite3" in r for r in requirements) else "stdlib"
            print(f"{name:13}  {python}  {library:9}  {complaint or 'wheels only'}", flush=True)
            failed += bool(complaint)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
