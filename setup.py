# SPDX-License-Identifier: MIT
"""Package map of the tree, and kernels built at install time when PREBUILD_KERNELS asks for it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PACKAGES = {
    "aiter_moe": "aiter_moe",
    "aiter_moe.codegen": "codegen",
    "aiter_moe.tuning": "tuning",
    "aiter_moe.templates": "templates",
    "aiter_moe.csrc": "csrc",
}


def package_directories() -> dict[str, str]:
    """Return import name -> folder for every package, sub-packages of aiter_moe included."""
    found = dict(PACKAGES)
    for init in sorted(Path("aiter_moe").rglob("__init__.py")):
        found[".".join(init.parent.parts)] = init.parent.as_posix()
    return found


class BuildWithKernels(build_py):
    """``build_py`` that afterwards compiles the targets named by PREBUILD_KERNELS."""

    def run(self) -> None:
        """Copy the packages, then compile kernels into ``aiter_moe/prebuilt``."""
        super().run()
        targets = [t for t in os.environ.get("PREBUILD_KERNELS", "").split(",") if t.strip()]
        if not targets:
            return
        library = Path("." if self.editable_mode else self.build_lib).resolve()
        out = library / "aiter_moe" / "prebuilt"
        for target in targets:
            self.announce(f"building the kernels of target {target.strip()}", level=2)
            subprocess.run(
                [sys.executable, "-m", "aiter_moe", "build", "--target", target.strip(),
                 "--cache-dir", str(out)],
                check=True,
                cwd=library,
                env=self.kernel_environment(library),
            )  # fmt: skip

    def kernel_environment(self, library: Path) -> dict[str, str]:
        """Return the environment in which the freshly copied package is the one imported."""
        path = [str(library), *filter(None, [os.environ.get("PYTHONPATH")])]
        return os.environ | {"PYTHONPATH": os.pathsep.join(path)}


directories = package_directories()
setup(
    packages=sorted(directories),
    package_dir=directories,
    package_data={
        "aiter_moe": ["py.typed"],
        "aiter_moe.templates": ["*.j2"],
        "aiter_moe.csrc": ["**/*.h", "**/*.cpp", "**/*.hip"],
        "aiter_moe.tuning": ["shapes/*.csv"],
    },
    cmdclass={"build_py": BuildWithKernels},
)
