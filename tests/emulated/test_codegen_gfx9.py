# SPDX-License-Identifier: MIT
"""Real code objects for gfx950 and gfx942, made without ROCm, and their figures read back."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from codegen_fakes import SPILLING, fake_compiler

from aiter_moe.codegen.build import build_many, ensure
from aiter_moe.codegen.cache import ArtifactCache, entry_path
from aiter_moe.codegen.codeobject import read_code_object
from aiter_moe.codegen.compiler import pip_clang
from aiter_moe.codegen.includes import csrc_root
from aiter_moe.codegen.render import render
from aiter_moe.codegen.unit import BuildUnit
from aiter_moe.errors import BuildError, LaunchError

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

TINY = """
extern "C" __attribute__((global)) __attribute__((amdgpu_flat_work_group_size(256, 256)))
void tiny(float* x, int n) {
  __attribute__((shared)) float shared[300];
  int t = __builtin_amdgcn_workitem_id_x();
  shared[t] = x[t];
  __builtin_amdgcn_s_barrier();
  x[t] = shared[(t + n) % 300];
}
"""


def unit(source: str = TINY, arch: str = "gfx950", name: str = "k") -> BuildUnit:
    return BuildUnit(name, arch, f"{name}.hip", source)


@pytest.mark.parametrize("arch", ["gfx950", "gfx942"])
def test_figures_of_a_tiny_kernel_are_read_back(cache: ArtifactCache, arch: str) -> None:
    made = ensure(unit(arch=arch), cache)
    resources = made.manifest["resources"]
    assert resources["arch"] == arch
    (kernel,) = resources["kernels"]
    assert kernel["name"] == "tiny"
    assert kernel["lds_bytes"] == 1200
    assert kernel["max_workgroup"] == 256
    assert kernel["kernarg_bytes"] == 12
    assert (kernel["vgpr_spills"], kernel["scratch_bytes"]) == (0, 0)
    assert 1 <= kernel["vgprs"] <= 64 and kernel["waves_per_simd"] == 8
    assert read_code_object(made.path).resources() == resources


def test_figures_agree_with_what_the_compiler_wrote_in_its_assembly(cache: ArtifactCache) -> None:
    made = ensure(unit(), cache)
    assembly = made.path.with_name("kernel.s").read_text()
    (kernel,) = made.manifest["resources"]["kernels"]
    for name, field in ((".vgpr_count:", "vgprs"), (".sgpr_count:", "sgprs")):
        (line,) = [li for li in assembly.splitlines() if name in li]
        assert int(line.split()[-1]) == kernel[field]
    (occupancy,) = [li for li in assembly.splitlines() if "; Occupancy:" in li]
    assert int(occupancy.split()[-1]) == kernel["waves_per_simd"]


def test_spills_and_scratch_are_read_back(cache: ArtifactCache) -> None:
    (kernel,) = ensure(unit(SPILLING), cache).manifest["resources"]["kernels"]
    assert kernel["vgpr_spills"] > 0
    assert kernel["scratch_bytes"] >= 4 * kernel["vgpr_spills"]


def test_the_code_object_does_not_depend_on_where_anything_lies(tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "csrc"
    shutil.copytree(csrc_root(), other)
    one = ensure(unit(), ArtifactCache(tmp_path / "a"))
    two = ensure(unit(), ArtifactCache(tmp_path / "b" / "c"), other)
    assert one.key == two.key
    assert one.path.read_bytes() == two.path.read_bytes()


def test_parallel_builds_are_reproducible(tmp_path: Path) -> None:
    made = []
    for name in "ab":
        units = [unit(TINY.replace("300", str(n)), name=f"k{n}") for n in (300, 301, 302)]
        reports = build_many(units, 2, ArtifactCache(tmp_path / name))
        made.append({r.unit.name: r.artifact.path.read_bytes() for r in reports if r.artifact})
    assert made[0] == made[1]
    assert len(set(made[0].values())) == 3


def test_a_code_object_of_another_architecture_is_never_handed_out(cache: ArtifactCache) -> None:
    right, wrong = ensure(unit(), cache), ensure(unit(arch="gfx942"), cache)
    entry = entry_path(cache.root, "gfx950", right.key)
    manifest = (entry / "manifest.json").read_text()
    swapped = manifest.replace(right.manifest["sha256"], wrong.manifest["sha256"])
    (entry / "manifest.json").write_text(swapped)
    (entry / "kernel.co").write_bytes(wrong.path.read_bytes())
    with pytest.raises(LaunchError, match="compiled for gfx942, asked for was gfx950"):
        ensure(unit(), cache)


def test_an_old_hipcc_on_path_gives_way_to_the_next_compiler_with_one_announcement(
    cache: ArtifactCache,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    old = fake_compiler(
        tmp_path / "bin" / "hipcc",
        "HIP version: 5.2.21153-0\nDebian clang version 15.0.6",
        refuses="unsupported HIP gpu architecture: gfx950",
    )
    monkeypatch.setenv("PATH", f"{old.path.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("HIPCC", raising=False)
    with caplog.at_level(logging.WARNING, "aiter_moe"):
        made = ensure(unit(), cache)
        ensure(unit(SPILLING), cache)
    assert "hipcc" not in made.manifest["compiler"]
    assert len(caplog.messages) == 1
    assert "5.2.21153-0" in caplog.messages[0] and "too old for gfx950" in caplog.messages[0]


def hipcc_like(folder: Path) -> Path:
    """Write a hipcc that is the pip clang behind hipcc's own options, as hipcc itself is."""
    pip = pip_clang()
    if pip is None:
        pytest.skip("ziglang is not installed")
    folder.mkdir(parents=True)
    linker = folder / "lld"
    linker.write_text(f'#!/bin/sh\n[ "$1" = -flavor ] && shift 2\nexec {pip.binary} ld.lld "$@"\n')
    hipcc = folder / "hipcc"
    hipcc.write_text(
        '#!/bin/sh\nif [ "$1" = --version ]; then echo "HIP version: 7.0.1"; fi\n'
        'for word; do shift; case "$word" in --genco) word=--cuda-device-only;; esac; '
        'set -- "$@" "$word"; done\n'
        f'PATH={folder}:$PATH exec {pip.binary} clang -x hip "$@"\n'
    )
    for script in (linker, hipcc):
        script.chmod(0o755)
    shutil.copy(linker, folder / "ld.lld")
    shutil.copy(hipcc, folder / "clang++")
    return hipcc


def test_the_hipcc_recipe_makes_the_code_of_the_three_step_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = ensure(unit(), ArtifactCache(tmp_path / "a"))
    monkeypatch.setenv("HIPCC", str(hipcc_like(tmp_path / "rocm" / "bin")))
    one = ensure(unit(), ArtifactCache(tmp_path / "b"))
    assert one.manifest["compiler"].startswith("hipcc (HIP version: 7.0.1")
    assert one.key != steps.key
    assert one.manifest["resources"] == steps.manifest["resources"]


def test_the_command_in_a_rendered_header_compiles_the_file_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aiter_moe.codegen.catalogue import catalogue

    tools = hipcc_like(tmp_path / "tools").parent
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    rendered = render(catalogue("gfx950")[0])
    (tmp_path / rendered.file_name).write_text(rendered.source)
    (tmp_path / "csrc").symlink_to(csrc_root())
    command = shlex.split(rendered.source.splitlines()[3].removeprefix("//"))
    subprocess.run(command, cwd=tmp_path, check=True)
    assert read_code_object(tmp_path / f"{rendered.name}.co").arch == "gfx950"


def test_a_rejected_kernel_shows_the_compilers_first_error(cache: ArtifactCache) -> None:
    with pytest.raises(BuildError, match=r"k\.hip:1:9: error: expected expression"):
        ensure(unit("int f({ return 1; }\n"), cache)


def test_more_lds_than_the_chip_has_is_a_build_error(cache: ArtifactCache) -> None:
    with pytest.raises(BuildError, match="163844"):
        ensure(unit(TINY.replace("shared[300]", "shared[40961]")), cache)
