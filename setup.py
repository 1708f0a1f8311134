"""Builds the wheel: pure Python, or with HUB_COMPILED=1 the modules of ops/compiled.py compiled by mypyc (`make wheel`)."""

from __future__ import annotations

import os
import runpy
import shlex
import shutil
import sys
import sysconfig
from typing import Any

from setuptools import setup


def extensions() -> list[Any]:
    """The compiled modules; none in an editable install, where they were not asked for, and on a machine without a compiler."""
    if os.environ.get("HUB_COMPILED") != "1" or "bdist_wheel" not in sys.argv:
        return []
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    if shutil.which(compiler) is None:
        print(f"no {compiler} on PATH: the wheel is pure Python", file=sys.stderr)  # noqa: T201
        return []
    from mypyc.build import mypycify

    files = [f"{name.replace('.', '/')}.py" for name in runpy.run_path("ops/compiled.py")["MODULES"]]
    return list(
        mypycify(
            files, group_name="realtime_hub", target_dir="build/mypyc", multi_file=True, opt_level="2", debug_level="0"
        )
    )


setup(ext_modules=extensions())
