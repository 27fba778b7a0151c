# SPDX-License-Identifier: MIT
"""The CPU kernels as the pip clang builds them, on a machine without any other compiler."""

from __future__ import annotations

import pytest
from cpu_kernels import (
    Shape,
    bound,
    every_kernel,
    instance_of,
    library,
    make_case,
    relative_l2,
)

from aiter_moe import env
from aiter_moe.codegen.compiler import pip_clang
from aiter_moe.codegen.host_compiler import host_compiler
from aiter_moe.enums import ActivationType


@pytest.fixture
def only_the_pip_clang(monkeypatch, tmp_path):
    if pip_clang() is None:
        pytest.skip("the pip clang is not installed (pip install aiter_moe[toolchain])")
    monkeypatch.delenv(env.HOST_CXX.name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "ziglang" in host_compiler().identity
    library.cache_clear()
    yield
    library.cache_clear()


@pytest.mark.parametrize("stage", [1, 2])
@every_kernel
@pytest.mark.usefixtures("only_the_pip_clang")
def test_the_pip_clang_builds_kernels_that_are_right(isa, kind, stage):
    fields = {"activation": ActivationType.Gelu, "split_k": False} if stage == 1 else {}
    instance = instance_of(isa, kind, stage, 64, **fields)
    for tokens in (1, 7, 40):
        shape = Shape(tokens, topk=2, experts=3, n=192, k=224)
        case = make_case(instance, shape, bias=True, doweight=True)
        assert relative_l2(case.run(), case.reference()) <= bound(instance)
