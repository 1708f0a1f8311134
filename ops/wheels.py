"""Checks that installing the hub needs no compiler: for each platform there are wheels of all its dependencies.

Run `make wheels` (it queries PyPI for some minutes): pip resolves the extras `server` and `embedded` for each platform and
Python version from wheels alone, and downloads only what that requires. Environment markers of our own requirements are
evaluated for the target platform; because of a limitation of pip, those of the dependencies are evaluated for this machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

PYTHONS: Final = ("3.11", "3.12", "3.13", "3.14")
_GLIBCS: Final = ("2_28", "2_27", "2_26", "2_24", "2_17", "2_12", "2_5")
"""The glibc versions of wheel tags, newest first. A wheel for an older glibc runs on a newer one, but pip must be given each."""


def _linux(machine: str) -> tuple[str, ...]:
    return (*(f"manylinux_{glibc}_{machine}" for glibc in _GLIBCS), f"manylinux2014_{machine}")


PLATFORMS: Final[Mapping[str, tuple[str, str, tuple[str, ...]]]] = {
    "manylinux_2_28_x86_64": ("linux", "x86_64", _linux("x86_64")),
    "manylinux_2_28_aarch64": ("linux", "aarch64", _linux("aarch64")),
    "macosx_11_0_arm64": ("darwin", "arm64", ("macosx_11_0_arm64",)),
}
"""By platform: `sys_platform`, `platform_machine`, and the platform tags of wheels that run there."""


def requirements(platform: str, python: str) -> list[str]:
    """The requirements of a hub with an embedded server on this platform, without their markers."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    system, machine, _ = PLATFORMS[platform]
    target = {
        "sys_platform": system, "platform_machine": machine, "python_version": python, "python_full_version": f"{python}.0",
    }  # fmt: skip # a table
    wanted = []
    for text in (*project["dependencies"], *extras["server"], *extras["embedded"]):
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate(target):
            wanted.append(text.partition(";")[0].strip())
    return wanted


def resolve(platform: str, python: str) -> tuple[int, str]:
    """The number of wheels needed; 0 and pip's error if one is missing."""
    named = [f"--platform={name}" for name in PLATFORMS[platform][2]]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        asked = subprocess.run(
            [
                *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--dry-run"),
                *("--ignore-installed", "--only-binary=:all:", f"--python-version={python}", "--implementation=cp"),
                *(*named, f"--target={folder}", f"--report={report}", *requirements(platform, python)),
            ],
            capture_output=True, text=True, check=False,
        )  # fmt: skip # the command line, one subject per line
        if asked.returncode:
            return 0, asked.stderr.strip().splitlines()[-1]
        return len(json.loads(report.read_text())["install"]), ""


def main() -> int:
    """Check each platform and Python version; returns 1 if a wheel is missing."""
    missing = 0
    for platform in PLATFORMS:
        for python in PYTHONS:
            count, error = resolve(platform, python)
            print(f"{platform:<24} Python {python}: {error or f'{count} wheels, nothing to compile'}", flush=True)
            missing += bool(error)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
