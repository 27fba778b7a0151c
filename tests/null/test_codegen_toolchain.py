# SPDX-License-Identifier: MIT
"""Which compiler is found, which is refused and why; the programs are scripts that record."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from codegen_fakes import fake_compiler

from aiter_moe.codegen import compiler, device_compiler, host_compiler
from aiter_moe.codegen.build import ensure
from aiter_moe.codegen.cache import ArtifactCache
from aiter_moe.codegen.compiler import PipClang, Program
from aiter_moe.codegen.toolchain import compiler_for
from aiter_moe.codegen.unit import BuildUnit
from aiter_moe.errors import LaunchError, ToolchainError

OLD_HIPCC = "HIP version: 5.2.21153-0\nDebian clang version 15.0.6\nTarget: x86_64-pc-linux-gnu"
NEW_HIPCC = (
    "HIP version: 7.0.51831-a3e329ad8\n"
    "AMD clang version 20.0.0git (https://github.com/RadeonOpenCompute/llvm-project)\n"
    "Target: x86_64-unknown-linux-gnu\nInstalledDir: /opt/rocm-7.0.0/lib/llvm/bin"
)
BACKPORT_HIPCC = "HIP version: 6.4.43482\nAMD clang version 19.0.0git\nTarget: x86_64"
UNKNOWN_ARCH = "clang: error: unsupported HIP gpu architecture: gfx950"
CLANG_22 = "Debian clang version 22.1.8\nTarget: x86_64-pc-linux-gnu"
CLANG_19 = "Debian clang version 19.1.7\nTarget: x86_64-pc-linux-gnu"
LLD_22 = "Debian LLD 22.1.8 (compatible with GNU linkers)"
PIP = PipClang(Program(("/pip/zig", "clang"), "clang version 22.1.8\nTarget: x"), Path("/pip/inc"))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a PATH folder to fill; nothing else is on PATH and no pip clang is installed."""
    for name in ("CXX", "HIPCC", "ROCM_PATH"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "bin"
    folder.mkdir()
    # The scripts need a shell and its tools.
    monkeypatch.setenv("PATH", f"{folder}")
    for tool in ("sh", "cat", "grep", "cp"):
        real = next(p for p in (Path("/bin") / tool, Path("/usr/bin") / tool) if p.exists())
        (folder / tool).symlink_to(real)
    set_pip(monkeypatch, None)
    return folder


def set_pip(monkeypatch: pytest.MonkeyPatch, pip: PipClang | None) -> None:
    for module in (host_compiler, device_compiler):
        monkeypatch.setattr(module, "pip_clang", lambda: pip)


def words(target: str) -> list[str]:
    """Return the words of the commands for a unit of `target`, as on this machine."""
    unit = BuildUnit("k", target, "k.hip", "x", ("-DFLAG",))
    return [word for c in compiler_for(target).commands(unit, Path("/csrc")) for word in c]


# Host


def test_host_order_is_cxx_then_gcc_then_clang_then_pip(
    machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_pip(monkeypatch, PIP)
    assert words("cpu")[:2] == ["/pip/zig", "clang"]
    fake_compiler(machine / "clang++", CLANG_22)
    assert words("cpu")[0] == str(machine / "clang++")
    fake_compiler(machine / "g++")
    assert words("cpu")[0] == str(machine / "g++")
    mine = fake_compiler(tmp_path / "mine" / "c++", "g++ (Mine) 14.2.0").path
    monkeypatch.setenv("CXX", str(mine))
    assert words("cpu")[0] == str(mine)


def test_the_pip_clang_is_called_below_its_drivers(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_pip(monkeypatch, PIP)
    compile_words, link = compiler_for("cpu").commands(
        BuildUnit("k", "cpu", "k.cpp", "x", ("-mfma",)), Path("/csrc")
    )
    assert compile_words[:4] == ["/pip/zig", "clang", "-x", "c++"]
    assert {"-ffreestanding", "-nostdinc", "-mfma", "-I/csrc"} <= set(compile_words)
    assert compile_words[compile_words.index("-isystem") + 1] == "/pip/inc"
    assert link == ["/pip/zig", "ld.lld", "-shared", "kernel.o", "-o", "kernel.so"]


def test_an_arm_host_gets_no_x86_flag(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_pip(monkeypatch, PIP)
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    got = words("cpu")
    assert "--target=aarch64-linux-gnu" in got
    assert "-mno-outline-atomics" in got
    assert not [word for word in got if "x86" in word or word.startswith("-mavx")]


def test_cxx_may_hold_a_launcher_and_options(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ccache = fake_compiler(machine / "ccache", "g++ (Fake) 13.1.0").path
    ccache.write_text(ccache.read_text().replace('"$1" = --version', '"$3" = --version'))
    monkeypatch.setenv("CXX", "ccache g++ -fno-inline")
    assert words("cpu")[:3] == [str(ccache), "g++", "-fno-inline"]


def test_cxx_that_names_nothing_is_an_error(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_compiler(machine / "g++")
    monkeypatch.setenv("CXX", "/nowhere/g++-99")
    with pytest.raises(ToolchainError, match="CXX='/nowhere/g\\+\\+-99' names no program"):
        compiler_for("cpu")


def test_cxx_that_cannot_say_its_version_is_an_error(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = machine / "broken"
    broken.write_text("#!/bin/sh\necho 'no licence' >&2; exit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", "broken")
    with pytest.raises(ToolchainError, match="exit status 3: no licence"):
        compiler_for("cpu")


def test_an_old_gcc_is_an_error_when_asked_for_and_passed_over_when_found(
    machine: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake_compiler(machine / "g++", "g++ (GCC) 8.5.0 20210514 (Red Hat 8.5.0-28)")
    set_pip(monkeypatch, PIP)
    with caplog.at_level(logging.WARNING, "aiter_moe"):
        assert words("cpu")[0] == "/pip/zig"
        compiler_for("cpu")
    assert len(caplog.messages) == 1
    assert "8.5.0" in caplog.messages[0] and "too old" in caplog.messages[0]
    monkeypatch.setenv("CXX", "g++")
    with pytest.raises(ToolchainError, match="too old"):
        compiler_for("cpu")


def test_a_compiler_is_asked_for_its_version_once_until_its_file_changes(
    machine: Path,
) -> None:
    path = machine / "g++"
    count = machine / "count"
    path.write_text(f"#!/bin/sh\necho x >> {count}\necho 'g++ (Fake) 13.1.0'\n")
    path.chmod(0o755)
    assert {compiler_for("cpu").identity for _ in range(3)} == {compiler_for("cpu").identity}
    assert count.read_text().split() == ["x"]
    path.write_text(f"#!/bin/sh\necho x >> {count}\necho 'g++ (Newer Fake) 14.1.0'\n")
    assert "14.1.0" in compiler_for("cpu").identity


@pytest.mark.parametrize(
    ("text", "major"),
    [
        ("g++ (Debian 12.2.0-14+deb12u1) 12.2.0", 12),
        ("g++ (GCC) 8.5.0 20210514 (Red Hat 8.5.0-28)", 8),
        ("g++-14 (Ubuntu 14.2.0-4ubuntu2) 14.2.0", 14),
        ("x86_64-conda-linux-gnu-g++ (conda-forge gcc 13.3.0-1) 13.3.0", 13),
        ("Ubuntu clang version 18.1.3 (1ubuntu1)", 18),
        (NEW_HIPCC, 20),
        (OLD_HIPCC, 15),
        ("something else", 0),
    ],
)
def test_versions_are_read_from_what_compilers_print(text: str, major: int) -> None:
    assert Program(("x",), text).major == major


# Device


def test_device_order_is_hipcc_by_variable_root_and_path_then_clang_then_pip(
    machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_pip(monkeypatch, PIP)
    assert words("gfx950")[:2] == ["/pip/zig", "clang"]
    fake_compiler(machine / "clang", CLANG_22)
    fake_compiler(machine / "ld.lld", LLD_22)
    assert words("gfx950")[0] == str(machine / "clang")
    fake_compiler(machine / "hipcc", NEW_HIPCC)
    assert words("gfx950")[0] == str(machine / "hipcc")
    root = fake_compiler(tmp_path / "rocm" / "bin" / "hipcc", NEW_HIPCC).path
    monkeypatch.setenv("ROCM_PATH", str(tmp_path / "rocm"))
    assert words("gfx950")[0] == str(root)
    mine = fake_compiler(tmp_path / "mine" / "hipcc", NEW_HIPCC).path
    monkeypatch.setenv("HIPCC", str(mine))
    assert words("gfx950")[0] == str(mine)


def test_hipcc_is_asked_for_a_bare_code_object(machine: Path, tmp_path: Path) -> None:
    hipcc = fake_compiler(machine / "hipcc", NEW_HIPCC)
    unit = BuildUnit("k", "gfx950", "k.hip", "int x;\n", ("-DONE=1",))
    # The fake's output is no code object, which the read-back must notice.
    with pytest.raises(LaunchError, match="no AMD GPU code object"):
        ensure(unit, ArtifactCache(tmp_path / "cache"), tmp_path)
    (call,) = hipcc.calls
    assert call == (
        "--offload-arch=gfx950 --genco --no-gpu-bundle-output -nogpulib -nogpuinc -O3 -std=c++20 "
        f"-fuse-cuid=none -ffile-prefix-map={tmp_path}=csrc -DONE=1 -I{tmp_path} k.hip "
        "-o kernel.co"
    )
    assert not list((tmp_path / "cache").glob("gfx950/??/*"))


def test_hipccs_identity_has_its_versions_and_no_path(machine: Path) -> None:
    fake_compiler(machine / "hipcc", NEW_HIPCC)
    identity = compiler_for("gfx950").identity
    assert "7.0.51831" in identity and "AMD clang version 20.0.0git" in identity
    assert "/opt" not in identity and str(machine) not in identity


def test_an_old_hipcc_asked_for_is_an_error_that_names_it(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = fake_compiler(machine / "hipcc-5.2", OLD_HIPCC, refuses=UNKNOWN_ARCH)
    set_pip(monkeypatch, PIP)
    monkeypatch.setenv("HIPCC", str(old.path))
    with pytest.raises(ToolchainError) as caught:
        compiler_for("gfx950")
    text = str(caught.value)
    for part in ("HIPCC=", "5.2.21153-0", "clang version 15.0.6", "too old for gfx950"):
        assert part in text
    assert "unsupported HIP gpu architecture: gfx950" in text


def test_an_old_hipcc_found_is_announced_once_and_passed_over(
    machine: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake_compiler(machine / "hipcc", OLD_HIPCC, refuses=UNKNOWN_ARCH)
    set_pip(monkeypatch, PIP)
    with caplog.at_level(logging.WARNING, "aiter_moe"):
        for _ in range(2):
            assert words("gfx950")[0] == "/pip/zig"
    assert len(caplog.messages) == 1
    assert "too old for gfx950" in caplog.messages[0]
    assert "using clang version 22.1.8" in caplog.messages[0]


def test_an_old_hipcc_alone_is_named_in_the_error(machine: Path) -> None:
    fake_compiler(machine / "hipcc", OLD_HIPCC, refuses=UNKNOWN_ARCH)
    with pytest.raises(ToolchainError, match=r"too old for gfx950.*aiter_moe\[toolchain\]"):
        compiler_for("gfx950")


def test_a_hipcc_with_the_arch_backported_is_used_after_a_trial(machine: Path) -> None:
    hipcc = fake_compiler(machine / "hipcc", BACKPORT_HIPCC)
    assert words("gfx950")[0] == str(hipcc.path)
    assert len(hipcc.calls) == 1
    compiler_for("gfx950")
    assert len(hipcc.calls) == 1


def test_a_rocm_folder_without_hipcc_is_no_evidence(
    machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rocm" / "bin").mkdir(parents=True)
    monkeypatch.setenv("ROCM_PATH", str(tmp_path / "rocm"))
    set_pip(monkeypatch, PIP)
    assert words("gfx950")[0] == "/pip/zig"


def test_hipcc_that_names_nothing_is_an_error(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_pip(monkeypatch, PIP)
    monkeypatch.setenv("HIPCC", "/nowhere/hipcc")
    with pytest.raises(ToolchainError, match="HIPCC='/nowhere/hipcc' names no program"):
        compiler_for("gfx950")


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"clang": CLANG_19, "ld.lld": LLD_22}, "older than clang 20"),
        ({"clang": CLANG_22}, "no ld.lld beside it or on PATH"),
    ],
)
def test_a_clang_that_cannot_do_it_is_named_and_passed_over(
    machine: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    files: dict[str, str],
    reason: str,
) -> None:
    for name, version in files.items():
        fake_compiler(machine / name, version)
    with pytest.raises(ToolchainError, match=reason):
        compiler_for("gfx950")
    set_pip(monkeypatch, PIP)
    with caplog.at_level(logging.WARNING, "aiter_moe"):
        assert words("gfx950")[0] == "/pip/zig"
    assert reason in caplog.text


def test_a_clang_with_its_version_in_its_name_finds_its_own_linker(machine: Path) -> None:
    fake_compiler(machine / "clang-22", CLANG_22)
    fake_compiler(machine / "ld.lld", "LLD 15.0.6")
    fake_compiler(machine / "ld.lld-22", LLD_22)
    unit = BuildUnit("k", "gfx950", "k.hip", "x")
    first, second, third = compiler_for("gfx950").commands(unit, Path("/csrc"))
    assert first[0] == second[0] == str(machine / "clang-22")
    assert "-fuse-cuid=none" in first and first[-4:] == ["-S", "k.hip", "-o", "kernel.s"]
    assert second[1:3] == ["--target=amdgcn-amd-amdhsa", "-mcpu=gfx950"]
    assert third == [str(machine / "ld.lld-22"), "-shared", "kernel.o", "-o", "kernel.co"]


def test_an_old_pip_clang_is_named(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = Program(("/pip/zig", "clang"), "clang version 18.1.8")
    set_pip(monkeypatch, PipClang(old, Path("/pip/inc")))
    with pytest.raises(ToolchainError, match=r"18\.1\.8 of ziglang is older than clang 20"):
        compiler_for("gfx950")


def test_an_unknown_architecture_is_refused(machine: Path) -> None:
    with pytest.raises(ToolchainError, match="no compiler recipe for gfx1250"):
        compiler_for("gfx1250")


def test_the_pip_clang_is_found_without_importing_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "ziglang"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    zig = package / "zig"
    zig.write_text("#!/bin/sh\necho 'clang version 22.1.8'\n")
    zig.chmod(0o755)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = compiler.pip_clang()
    assert found is not None
    assert found.binary == str(zig)
    assert found.include == package / "lib" / "include"
