# SPDX-License-Identifier: MIT
"""Programs that play compilers in tests: shell scripts that record what they are asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aiter_moe.codegen.unit import BuildUnit

GCC_VERSION = "g++ (Fake) 13.1.0"

# A GPU kernel that keeps 64 values a lane in 16 registers.
SPILLING = """
extern "C" __attribute__((global)) __attribute__((amdgpu_flat_work_group_size(64, 64)))
__attribute__((amdgpu_num_vgpr(16))) void spilling(float* p) {
  float v[64];
  int t = __builtin_amdgcn_workitem_id_x();
  for (int i = 0; i < 64; ++i) v[i] = p[i * 64 + t];
  __builtin_amdgcn_s_barrier();
  for (int i = 0; i < 64; ++i) p[(63 - i) * 64 + t] = v[i] * v[(i * 7) % 64];
}
"""


@dataclass(frozen=True)
class FakeCompiler:
    """A script with a version text; `calls` lists the arguments of every run but --version."""

    path: Path
    log: Path

    @property
    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


def fake_compiler(path: Path, version: str = GCC_VERSION, refuses: str = "") -> FakeCompiler:
    """Write a compiler that copies its source to its output, with headers left out.

    A source line that contains BAD is an error; one that contains SLEEP makes it sleep. With
    `refuses`, it prints that text as an error and fails whatever it is asked to compile.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    log = path.with_name(path.name + ".calls")
    refusal = f"echo 'error: {refuses}' >&2; exit 1" if refuses else ":"
    path.write_text(
        f"""#!/bin/sh
if [ "$1" = --version ]; then
cat <<'TEXT'
{version}
TEXT
exit 0
fi
echo "$*" >> '{log}'
{refusal}
while [ $# -gt 0 ]; do
  case "$1" in
    -o) out=$2; shift;;
    *.cpp|*.hip|*.s|*.o) source=$1;;
  esac
  shift
done
if grep -q BAD "$source"; then
  echo "$source:3:1: error: BAD is not a type" >&2
  echo "    3 | BAD x;" >&2
  exit 1
fi
if grep -q SLEEP "$source"; then echo $$ > '{log}.pid'; sleep 60; fi
cp "$source" "$out"
"""
    )
    path.chmod(0o755)
    return FakeCompiler(path, log)


def unit(source: str = "int x;\n", flags: tuple[str, ...] = (), name: str = "k") -> BuildUnit:
    """Return a CPU build unit of a source text."""
    return BuildUnit(name, "cpu", f"{name}.cpp", source, flags)


def leftovers(root: Path) -> list[Path]:
    """Return what private build folders still hold under a cache root."""
    return [path for folder in root.glob("*/building") for path in folder.iterdir()]
