# SPDX-License-Identifier: MIT
"""The support library as the pip clang builds it, on a machine without any other compiler."""

from __future__ import annotations

import ctypes

import pytest
import torch
from cpu_probe import Recorder, build_features, probe_task

from aiter_moe import env
from aiter_moe.codegen.build import ensure
from aiter_moe.codegen.compiler import pip_clang
from aiter_moe.codegen.cpu import RUNTIME_BUILDS
from aiter_moe.codegen.render import runtime_unit
from aiter_moe.enums import ScaleRounding
from aiter_moe.formats.mxfp4 import quantise_1x32
from aiter_moe.targets import cpu
from aiter_moe.targets.base import RoutedTokens
from aiter_moe.targets.cpu import CpuLauncher
from aiter_moe.targets.cpu_runtime import Runtime


@pytest.fixture(params=RUNTIME_BUILDS)
def runtime(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path) -> Runtime:
    if pip_clang() is None:
        pytest.skip("the pip clang is not installed (pip install aiter_moe[toolchain])")
    features = build_features(request.param)
    probe_task()  # built by the usual compiler
    monkeypatch.delenv(env.HOST_CXX.name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    artifact = ensure(runtime_unit(features))
    assert "ziglang" in artifact.manifest["compiler"]
    return Runtime(artifact.path)


def test_the_pip_clang_builds_a_runtime_that_is_right(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "load_runtime", lambda features: runtime)
    monkeypatch.setenv("AITER_MOE_THREADS", "3")
    launcher = CpuLauncher(frozenset())
    x = torch.randn(300, 640, generator=torch.Generator().manual_seed(4)).half()
    for mode in ScaleRounding:
        assert all(map(torch.equal, launcher.quantise(x, rounding=mode), quantise_1x32(x, mode)))
    ids = torch.tensor([[2, 0], [1, 2], [2, 1]], dtype=torch.int32)
    result = launcher.sort(RoutedTokens(ids, torch.rand(3, 2), 3), 2)
    pad, one = 2 << 24 | 3, 1 << 24
    assert result.ids[:8].tolist() == [one, pad, 1, one | 2, 0, one | 1, 2, pad]
    rows = torch.randn(600, 640, generator=torch.Generator().manual_seed(5))
    out = torch.empty(300, 640, dtype=torch.float16)
    launcher.sum_slots(rows, 2, out, None)
    assert torch.equal(out, (rows[0::2] + rows[1::2]).half())


def test_its_pool_runs_every_item_once(runtime: Runtime) -> None:
    for _ in range(20):
        recorder = Recorder(items=50, phases=3)
        runtime.pool_run(ctypes.addressof(probe_task()), recorder.address, 4)
        assert recorder.complete
