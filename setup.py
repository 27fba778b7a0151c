# SPDX-License-Identifier: MIT
"""Package map of the tree, and kernels built at install time when PREBUILD_KERNELS asks for it.

``PREBUILD_KERNELS=cpu,gfx950 pip install .`` compiles the catalogues of those targets into the
package, where the kernel cache finds them.
"""

from __future__ import annotations

import os
import re
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

# The targets with kernels, as in codegen/catalogue.py, which cannot be imported here.
TARGETS = ("cpu", "gfx950", "gfx942")


def package_directories() -> dict[str, str]:
    """Return import name -> folder for every package, sub-packages of aiter_moe included."""
    found = dict(PACKAGES)
    for init in sorted(Path("aiter_moe").rglob("__init__.py")):
        found[".".join(init.parent.parts)] = init.parent.as_posix()
    for folder in ("codegen", "tuning"):
        for init in sorted(Path(folder).rglob("__init__.py")):
            found[".".join(("aiter_moe", *init.parent.parts))] = init.parent.as_posix()
    data = [Path("tuning/shapes"), *Path("csrc").rglob("*")]
    for folder in sorted(path for path in data if path.is_dir() and path.name != "__pycache__"):
        found[".".join(("aiter_moe", *folder.parts))] = folder.as_posix()
    return found


def prebuild_targets() -> list[str]:
    """Return the targets PREBUILD_KERNELS names; end the build where it names another."""
    texts = os.environ.get("PREBUILD_KERNELS", "").split(",")
    names = [text.strip() for text in texts if text.strip()]
    for name in names:
        if name not in TARGETS:
            raise SystemExit(
                f"PREBUILD_KERNELS={name}: there is no such target; give one or more of "
                f"{', '.join(TARGETS)}, separated by commas, or unset it"
            )
    return names


def _environment_of_user(*extra: str) -> dict[str, str]:
    """Return the environment outside pip's build isolation, with `extra` import folders."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONNOUSERSITE")}
    return kept | {"PYTHONPATH": os.pathsep.join(extra)}


def prebuild_requirements() -> list[str]:
    """Return what building kernels needs beside setuptools.

    pip's isolated build hides the packages already installed, torch above all, which is too
    large to fetch a second time: only what the user's environment lacks is asked for.
    """
    if not prebuild_targets():
        return []
    text = Path("pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"^dependencies = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    wanted = [*re.findall(r'"([^"]+)"', block[1] if block else ""), "ziglang>=0.17.0"]
    probe = "import importlib.util,sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"
    environment = _environment_of_user()
    return [
        requirement
        for requirement in wanted
        if subprocess.run(
            [sys.executable, "-c", probe, re.split(r"[<>=~! ]", requirement)[0]],
            env=environment,
            check=False,
        ).returncode
    ]


class BuildWithKernels(build_py):
    """``build_py`` that afterwards compiles the targets named by PREBUILD_KERNELS."""

    def run(self) -> None:
        """Copy the packages, then compile kernels into ``aiter_moe/prebuilt``."""
        super().run()
        if self.editable_mode:
            return  # an editable install builds on demand; `aiter-moe build` fills its cache
        library = Path(self.build_lib).resolve()
        # what pip fetched for this build is importable from its own site-packages alone
        fetched = [path for path in sys.path if Path(path).name == "site-packages"]
        for target in prebuild_targets():
            self.announce(f"building the kernels of target {target}", level=2)
            done = subprocess.run(
                [sys.executable, "-m", "aiter_moe", "build", "--target", target,
                 "--cache-dir", str(library / "aiter_moe" / "prebuilt")],
                check=False,
                cwd=library,
                env=_environment_of_user(str(library), *fetched),
            )  # fmt: skip
            if done.returncode:
                raise SystemExit(
                    f"PREBUILD_KERNELS={target}: its kernels were not built, for the reason "
                    "printed above; correct it, or unset PREBUILD_KERNELS to build on first use"
                )


directories = package_directories()
setup(
    packages=sorted(directories),
    package_dir=directories,
    package_data={
        "aiter_moe": ["py.typed"],
        "aiter_moe.templates": ["*.j2"],
        "": ["*.h", "*.inc", "*.cpp", "*.csv"],
    },
    setup_requires=prebuild_requirements(),
    cmdclass={"build_py": BuildWithKernels},
)
