# SPDX-License-Identifier: MIT
"""The emulator by each compiler, with AVX-512 and without: all builds give the same bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cpu_kernels import Shape, make_case
from gcn_asm import Snippet, run_one
from gfx9_kernels import gfx950, run

from aiter_moe import env
from aiter_moe.codegen.build import ensure
from aiter_moe.codegen.compiler import pip_clang
from aiter_moe.codegen.render import EMULATOR_FEATURES, emulator_unit
from aiter_moe.enums import ActivationType, Kind
from aiter_moe.targets import emulator_library
from aiter_moe.targets.cpu_features import read_cpuinfo
from aiter_moe.targets.emulator_library import Emulator, Library

pytestmark = [pytest.mark.usefixtures("gfx950_compiler"), pytest.mark.slow]

SHAPE = Shape(tokens=19, topk=2, experts=3, n=96, k=352)
FLOATS = """
v_exp_f32 v3, v1
v_log_f32 v4, v2
v_rcp_f32 v5, v2
v_sqrt_f32 v6, v2
v_cvt_pk_bf16_f32 v7, v1, v2
v_fma_f32 v8, v1, v2, v3
v_med3_f32 v9, v1, v2, v3
v_pk_fma_f32 v[10:11], v[2:3], v[4:5], v[6:7]
v_sin_f32 v12, v1
v_div_fixup_f32 v13, v1, v2, v1
"""
WRITTEN = [f"v{n}" for n in range(3, 14)]


def use(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulator_library, "emulator", lambda arch="gfx950": Emulator(library, arch))
    for user in ("gcn_asm", "gfx9_kernels"):
        monkeypatch.setattr(f"{user}.emulator", emulator_library.emulator)


def cases():
    for kind in Kind:
        yield make_case(gfx950(kind, 1, 32, ActivationType.Gelu), SHAPE, bias=True, doweight=True)
        yield make_case(gfx950(kind, 2, 16), SHAPE)


def results() -> list[torch.Tensor]:
    generator = np.random.default_rng(8)
    one, two = generator.standard_normal((2, 64), np.float32)
    floats = run_one(Snippet("floats", FLOATS, {"v1": one, "v2": np.abs(two)}, WRITTEN))
    registers = [torch.from_numpy(floats[name].view(np.int32).copy()) for name in WRITTEN]
    return registers + [run(case, seed=4).view(torch.int16) for case in cases()]


@pytest.mark.parametrize("features", ["portable", "avx512"])
@pytest.mark.parametrize("compiler", ["usual", "pip clang"])
def test_every_build_gives_the_same_bits(compiler, features, monkeypatch, tmp_path):
    cpu = read_cpuinfo().features
    wanted = cpu if features == "avx512" else frozenset()
    if features == "avx512" and not cpu >= EMULATOR_FEATURES:
        pytest.skip("this CPU has no AVX-512")
    expected = results()
    if compiler == "pip clang":
        if pip_clang() is None:
            pytest.skip("the pip clang is not installed (pip install aiter_moe[toolchain])")
        monkeypatch.delenv(env.HOST_CXX.name, raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
    artifact = ensure(emulator_unit(wanted))
    assert ("ziglang" in artifact.manifest["compiler"]) >= (compiler == "pip clang")
    monkeypatch.undo()
    use(Library(artifact.path), monkeypatch)
    for found, known in zip(results(), expected, strict=True):
        assert torch.equal(found, known)
