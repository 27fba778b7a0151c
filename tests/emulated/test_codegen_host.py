# SPDX-License-Identifier: MIT
"""Real compilers of the CPU target: each one that is here builds what the others build."""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from aiter_moe.codegen import host_compiler
from aiter_moe.codegen.build import build_many, ensure
from aiter_moe.codegen.cache import ArtifactCache
from aiter_moe.codegen.compiler import pip_clang
from aiter_moe.codegen.includes import csrc_root
from aiter_moe.codegen.render import render
from aiter_moe.codegen.unit import BuildUnit
from aiter_moe.errors import BuildError
from aiter_moe.targets.arguments import StageArgs

SOURCE = """
#include <stdint.h>
#include "common/stage_args.h"

extern "C" {
void* memcpy(void*, const void*, unsigned long);
float expf(float);

int args_size() { return sizeof(aiter_moe::StageArgs); }
float sum(const float* x, long n) {
  float total = 0;
  for (long i = 0; i < n; ++i) total += x[i];
  return total;
}
void copy(void* to, const void* from, unsigned long n) { memcpy(to, from, n); }
float exponential(float x) { return expf(x); }
}
"""

WIDE = """
#include <immintrin.h>
extern "C" void twice(float* x) {
  __m512 v = _mm512_loadu_ps(x);
  _mm512_storeu_ps(x, _mm512_add_ps(v, v));
}
"""


def unit(source: str = SOURCE, flags: tuple[str, ...] = (), name: str = "k") -> BuildUnit:
    return BuildUnit(name, "cpu", f"{name}.cpp", source, flags)


@pytest.fixture(params=["g++", "clang++", "pip clang"])
def toolchain(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make one of the host toolchains the one that is found; skip it where it is absent."""
    name = request.param
    monkeypatch.delenv("CXX", raising=False)
    if name == "pip clang":
        if pip_clang() is None:
            pytest.skip("ziglang is not installed")
        monkeypatch.setattr(host_compiler, "which", lambda _: None)
    elif shutil.which(name) is None:
        pytest.skip(f"no {name} on PATH")
    else:
        monkeypatch.setenv("CXX", name)
    return name


def test_the_library_runs_with_functions_of_the_process(
    toolchain: str, cache: ArtifactCache
) -> None:
    library = ctypes.CDLL(str(ensure(unit(), cache).path))
    assert library.args_size() == ctypes.sizeof(StageArgs)
    values = (ctypes.c_float * 5)(1, 2, 3, 4, 5)
    library.sum.restype = ctypes.c_float
    assert library.sum(values, ctypes.c_long(5)) == 15.0
    copied = ctypes.create_string_buffer(4)
    library.copy(copied, b"abcd", ctypes.c_ulong(4))
    assert copied.raw == b"abcd"
    library.exponential.restype = ctypes.c_float
    assert library.exponential(ctypes.c_float(0)) == 1.0


def test_the_library_needs_no_other_library(toolchain: str, cache: ArtifactCache) -> None:
    path = ensure(unit(), cache).path
    data = path.read_bytes()
    for needed in (b"libc.so", b"libm.so", b"libstdc++", b"libgcc"):
        assert needed not in data


def test_flags_of_a_tile_reach_the_compiler(toolchain: str, cache: ArtifactCache) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("the source is for x86-64")
    assert ensure(unit(WIDE, ("-mavx512f",)), cache).path.exists()
    with pytest.raises(BuildError, match="error"):
        ensure(unit(WIDE), cache)


def test_the_artifact_does_not_depend_on_where_anything_lies(
    toolchain: str, tmp_path: Path
) -> None:
    other = tmp_path / "elsewhere" / "csrc"
    shutil.copytree(csrc_root(), other)
    (other / "probe.h").write_text("inline const char* where() { return __FILE__; }\n")
    source = '#include "probe.h"\nextern "C" const char* file() { return where(); }\n'
    third = tmp_path / "third"
    shutil.copytree(other, third)
    one = ensure(unit(source), ArtifactCache(tmp_path / "a"), other)
    two = ensure(unit(source), ArtifactCache(tmp_path / "b" / "c"), third)
    assert one.key == two.key
    assert one.path.read_bytes() == two.path.read_bytes()
    assert b"csrc/probe.h" in one.path.read_bytes()


def test_a_rejected_source_shows_the_compilers_first_error(
    toolchain: str, cache: ArtifactCache
) -> None:
    with pytest.raises(BuildError) as caught:
        ensure(unit('#include "common/stage_args.h"\nint f() { return nothing; }\n'), cache)
    text = str(caught.value)
    assert "k.cpp:2:18: error: " in text and "nothing" in text
    assert "command: cd " in text and "whole log: " in text


def test_toolchains_have_keys_of_their_own(
    cache: ArtifactCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    if pip_clang() is None or shutil.which("g++") is None:
        pytest.skip("needs g++ and ziglang")
    monkeypatch.setenv("CXX", "g++")
    one = ensure(unit(), cache)
    monkeypatch.delenv("CXX")
    monkeypatch.setattr(host_compiler, "which", lambda _: None)
    two = ensure(unit(), cache)
    assert one.key != two.key
    assert one.manifest["compiler"] != two.manifest["compiler"]


def test_parallel_builds_report_each_unit(toolchain: str, cache: ArtifactCache) -> None:
    units = [unit(SOURCE + f"int extra{i};\n", name=f"k{i}") for i in range(4)]
    reports = list(build_many(units, 2, cache))
    assert sorted(report.unit.name for report in reports) == ["k0", "k1", "k2", "k3"]
    assert all(report.error is None and report.seconds > 0 for report in reports)
    assert all(report.cached for report in build_many(units, 2, cache))


def test_the_command_in_a_rendered_header_compiles_the_file_by_itself(tmp_path: Path) -> None:
    if shutil.which("g++") is None or os.uname().machine != "x86_64":
        pytest.skip("the command is one of g++ on x86-64")
    from aiter_moe.codegen.catalogue import catalogue

    rendered = render(catalogue("cpu")[0])
    (tmp_path / rendered.file_name).write_text(rendered.source)
    (tmp_path / "csrc").symlink_to(csrc_root())
    command = shlex.split(rendered.source.splitlines()[3].removeprefix("//"))
    subprocess.run(command, cwd=tmp_path, check=True)
    library = ctypes.CDLL(str(tmp_path / f"{rendered.name}.so"))
    assert library.aiter_moe_args_size() == ctypes.sizeof(StageArgs)
