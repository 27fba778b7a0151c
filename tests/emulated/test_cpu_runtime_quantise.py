# SPDX-License-Identifier: MIT
from __future__ import annotations

import numpy as np
import pytest
import torch
from cpu_probe import build_features
from golden import cases, floats, golden
from hypothesis import given, settings
from hypothesis import strategies as st

from aiter_moe.codegen.cpu import RUNTIME_BUILDS
from aiter_moe.enums import ScaleRounding
from aiter_moe.errors import ArgumentError, DtypeError
from aiter_moe.formats.mxfp4 import quantise_1x32
from aiter_moe.targets.cpu import CpuLauncher

DTYPES = [torch.bfloat16, torch.float16, torch.float32]
HALVES = [torch.bfloat16, torch.float16]


@pytest.fixture(scope="module", params=RUNTIME_BUILDS)
def launcher(request: pytest.FixtureRequest) -> CpuLauncher:
    return CpuLauncher(build_features(request.param))


def assert_equal_to_torch(launcher: CpuLauncher, x: torch.Tensor, mode: ScaleRounding) -> None:
    codes, scales = launcher.quantise(x, rounding=mode)
    want_codes, want_scales = quantise_1x32(x, mode)
    assert torch.equal(scales, want_scales)
    defined = (scales != 255).repeat_interleave(16, dim=1)
    assert torch.equal(codes[defined], want_codes[defined])
    assert not codes[~defined].any()


def every_pattern(dtype: torch.dtype) -> torch.Tensor:
    bits = np.arange(1 << 16, dtype=np.uint16).view(np.int16)
    return torch.from_numpy(bits.copy()).view(dtype)


@pytest.mark.parametrize("mode", ScaleRounding)
@pytest.mark.parametrize("dtype", HALVES)
def test_every_16_bit_pattern_beside_its_neighbours(
    launcher: CpuLauncher, dtype: torch.dtype, mode: ScaleRounding
) -> None:
    assert_equal_to_torch(launcher, every_pattern(dtype).view(-1, 64), mode)


@pytest.mark.parametrize("mode", ScaleRounding)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_finite_16_bit_value_in_random_company(
    launcher: CpuLauncher, dtype: torch.dtype, mode: ScaleRounding
) -> None:
    values = every_pattern(torch.float16 if dtype is torch.float16 else torch.bfloat16)
    values = values[torch.isfinite(values)].to(dtype)
    order = torch.randperm(values.numel(), generator=torch.Generator().manual_seed(int(mode)))
    used = values.numel() // 96 * 96
    assert_equal_to_torch(launcher, values[order][:used].view(-1, 96), mode)


@pytest.mark.parametrize("mode", ScaleRounding)
def test_random_f32_bits_with_infinities_nans_and_denormals(
    launcher: CpuLauncher, mode: ScaleRounding
) -> None:
    random = np.random.default_rng(7)
    bits = random.integers(0, 1 << 32, size=(400, 320), dtype=np.uint32)
    assert_equal_to_torch(launcher, torch.from_numpy(bits.view(np.float32)), mode)
    # Blocks whose values share an exponent, down to denormals and up to the largest.
    exponents = random.integers(0, 255, size=(400, 1), dtype=np.uint32) << 23
    near = exponents | (bits & np.uint32(0x807FFFFF))
    assert_equal_to_torch(launcher, torch.from_numpy(near.view(np.float32)), mode)


@pytest.mark.parametrize("mode", ScaleRounding)
@pytest.mark.parametrize("dtype", DTYPES)
def test_ties_and_their_neighbours_at_every_scale(
    launcher: CpuLauncher, dtype: torch.dtype, mode: ScaleRounding
) -> None:
    steps = torch.tensor([0.0, 0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 6.0, 7.0])
    nudge = torch.tensor([1 - 2**-7, 1.0, 1 + 2**-7])
    values = (steps[:, None] * nudge).flatten()  # 30 values
    values = torch.cat([values, torch.tensor([-0.0, 4.0])])
    sign = torch.where(torch.arange(32) % 3 == 0, -1.0, 1.0)
    top = 12 if dtype is torch.float16 else 124
    scale = 2.0 ** torch.arange(-top, top, dtype=torch.float32)
    assert_equal_to_torch(launcher, (scale[:, None] * (values * sign)).to(dtype), mode)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(0, 5), blocks=st.integers(1, 12), gap=st.integers(0, 40),
    dtype=st.sampled_from(DTYPES), mode=st.sampled_from(list(ScaleRounding)),
    exponent=st.integers(-14, 14), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_any_number_of_rows_and_blocks_in_rows_that_lie_apart(
    launcher: CpuLauncher, rows: int, blocks: int, gap: int, dtype: torch.dtype,
    mode: ScaleRounding, exponent: int, seed: int,
) -> None:  # fmt: skip
    generator = torch.Generator().manual_seed(seed)
    wide = torch.randn(rows, 32 * blocks + gap, generator=generator) * 2.0**exponent
    assert_equal_to_torch(launcher, wide.to(dtype)[:, : 32 * blocks], mode)


def test_columns_that_lie_apart(launcher: CpuLauncher) -> None:
    x = torch.randn(64, 3, dtype=torch.bfloat16).t()
    assert_equal_to_torch(launcher, x, ScaleRounding.RoundUp)


def test_many_rows_on_several_threads(
    launcher: CpuLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(700, 2880, generator=torch.Generator().manual_seed(1)).bfloat16()
    want = quantise_1x32(x)
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("AITER_MOE_THREADS", threads)
        codes, scales = launcher.quantise(x, rounding=ScaleRounding.RoundUp)
        assert torch.equal(codes, want[0])
        assert torch.equal(scales, want[1])


@pytest.mark.parametrize("threads", ["1", "13"])  # 13: workers start while the caller flushes
def test_a_caller_that_flushes_denormals_gets_the_same_bytes(
    launcher: CpuLauncher, threads: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AITER_MOE_THREADS", threads)
    bits = torch.randint(0, 1 << 23, (900, 512), generator=torch.Generator().manual_seed(2))
    x = bits.to(torch.int32).view(torch.float32)
    want = quantise_1x32(x, ScaleRounding.Ceil)
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU cannot flush denormals")
    try:
        codes, scales = launcher.quantise(x, rounding=ScaleRounding.Ceil)
    finally:
        torch.set_flush_denormal(False)
    assert torch.equal(scales, want[1])
    assert torch.equal(codes, want[0])


@pytest.mark.parametrize("mode", ScaleRounding)
def test_golden_random_rows(launcher: CpuLauncher, mode: ScaleRounding) -> None:
    data = golden("mxfp4_quant_random")
    names = cases(data, "xdtype")
    assert names
    for name in names:
        x = floats(data[f"{name}_x"], str(data[f"{name}_xdtype"]))
        codes, scales = launcher.quantise(x.reshape(-1, x.shape[-1]), rounding=mode)
        want = data[f"{name}_s_m{int(mode)}"]
        assert np.array_equal(scales.numpy(), want.reshape(scales.shape))
        defined = np.repeat(scales.numpy() != 255, 16, axis=1)
        want = data[f"{name}_q_m{int(mode)}"].reshape(codes.shape)
        assert np.array_equal(codes.numpy()[defined], want[defined])


@pytest.mark.parametrize("mode", ScaleRounding)
def test_golden_edge_rows(launcher: CpuLauncher, mode: ScaleRounding) -> None:
    data = golden("mxfp4_quant_edge")
    x = floats(data["edge_x"], str(data["edge_xdtype"]))
    codes, scales = launcher.quantise(x, rounding=mode)
    assert np.array_equal(scales.numpy().ravel(), data[f"edge_s_m{int(mode)}"].ravel())
    finite = scales.numpy().ravel() != 255
    assert (~finite[data["edge_nonfinite_rows"]]).all()
    want = data[f"edge_q_m{int(mode)}"].reshape(codes.shape)
    assert np.array_equal(codes.numpy()[finite], want[finite])


def test_unusable_inputs_are_named(launcher: CpuLauncher) -> None:
    with pytest.raises(DtypeError, match="float64"):
        launcher.quantise(torch.zeros(2, 32, dtype=torch.float64), rounding=ScaleRounding.RoundUp)
    with pytest.raises(ArgumentError, match="48"):
        launcher.quantise(torch.zeros(2, 48), rounding=ScaleRounding.RoundUp)
    with pytest.raises(ArgumentError, match="rows, K"):
        launcher.quantise(torch.zeros(32), rounding=ScaleRounding.RoundUp)
