# SPDX-License-Identifier: MIT
"""The four activations of csrc/cpu/activation.h in f32, and bf16 rounding, by themselves."""

from __future__ import annotations

import ctypes
from functools import cache

import pytest
import torch
from cpu_kernels import ACTIVATION_CONSTANTS
from reference import activate

from aiter_moe.codegen.build import ensure
from aiter_moe.codegen.cpu import COMMON_FLAGS, REQUIRES, feature_flags
from aiter_moe.codegen.instance import ACTIVATIONS
from aiter_moe.codegen.unit import BuildUnit
from aiter_moe.enums import ActivationType
from aiter_moe.targets.arguments import StageArgs
from aiter_moe.targets.cpu_features import read_cpuinfo

SOURCE = """
#include "cpu/activation.h"
#include "cpu/bf16.h"
#include "cpu/entry.h"
using namespace aiter_moe;
using namespace aiter_moe::cpu;
template <class A>
static void apply(const float* g, const float* u, float* out, long n, const StageArgs* args) {
  for (long i = 0; i < n; i += kVectorLanes) {
    store(out + i, A::apply(load(g + i), load(u + i), *args));
  }
}
#define PROBE(A) AITER_MOE_EXPORT void A##_of(const float* g, const float* u, float* out, long n, \\
    const StageArgs* args) { apply<A>(g, u, out, n, args); }
PROBE(Silu) PROBE(Gelu) PROBE(Swiglu) PROBE(Situv2)
AITER_MOE_EXPORT void round_to_bf16(const float* from, uint16_t* to, long n) {
  for (long i = 0; i < n; i += kVectorLanes) store_bf16(to + i, load(from + i));
}
"""


@cache
def library(isa: str) -> ctypes.CDLL:
    if not REQUIRES[isa] <= read_cpuinfo().features:
        pytest.skip(f"this CPU lacks part of {isa}")
    flags = (*COMMON_FLAGS, *feature_flags(REQUIRES[isa]))
    unit = BuildUnit(f"activations_{isa}", "cpu", "activations.cpp", SOURCE, flags)
    return ctypes.CDLL(str(ensure(unit).path))


def apply(isa: str, activation: ActivationType, gate: torch.Tensor, up: torch.Tensor, **constants):
    out = torch.full_like(gate, torch.nan)
    args = StageArgs(**constants)
    pointers = [ctypes.c_void_p(t.data_ptr()) for t in (gate, up, out)]
    function = getattr(library(isa), f"{activation.name}_of")
    function(*pointers, ctypes.c_long(gate.numel()), ctypes.byref(args))
    return out


def signed_grid(largest: float, points: int) -> torch.Tensor:
    half = torch.logspace(-30, torch.log2(torch.tensor(largest)).item(), points // 2, base=2.0)
    return torch.cat([-half.flip(0), half])


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: a.name)
@pytest.mark.parametrize("isa", REQUIRES)
def test_activations_are_good_to_f32_over_their_range(isa, activation):
    constants = ACTIVATION_CONSTANTS[activation]
    g = torch.Generator().manual_seed(2)
    gate = signed_grid(9.0, 1 << 14)
    up = signed_grid(30.0, 1 << 14)[torch.randperm(1 << 14, generator=g)].contiguous()
    want = activate(gate.double(), up.double(), activation, **constants)
    if activation is ActivationType.Gelu:  # 1 + erf would cancel in float64 too
        want = 0.5 * gate.double() * torch.special.erfc(gate.double() * -(0.5**0.5)) * up.double()
    got = apply(isa, activation, gate, up, **constants)
    assert ((got - want).abs() / want.abs()).max() < 1e-6
    assert ((got - want).norm() / want.norm()) < 3e-7


@pytest.mark.parametrize("isa", REQUIRES)
def test_silu_clamps_when_asked_and_only_then(isa):
    gate, up = signed_grid(40.0, 4096), -signed_grid(40.0, 4096)
    for limit in (0.0, 7.0):
        want = activate(gate.double(), up.double(), ActivationType.Silu, limit=limit)
        got = apply(isa, ActivationType.Silu, gate, up, limit=limit)
        assert ((got - want).abs() <= 2e-6 * want.abs() + 1e-36).all()


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: a.name)
@pytest.mark.parametrize("isa", REQUIRES)
def test_large_arguments_saturate_and_nan_stays(isa, activation):
    nan = float("nan")
    gate = torch.tensor([1e4, -1e4, 3e38, -3e38, 0.0, -0.0, nan, 1.0] * 2)
    up = torch.tensor([1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 1.0, nan] * 2)
    constants = ACTIVATION_CONSTANTS[activation]
    want = activate(gate.double(), up.double(), activation, **constants)
    got = apply(isa, activation, gate, up, **constants)
    assert torch.equal(got.isnan(), want.isnan())
    assert torch.allclose(got.double(), want, rtol=1e-5, atol=1e-30, equal_nan=True)


@pytest.mark.parametrize("isa", REQUIRES)
def test_bf16_rounds_to_nearest_even_and_keeps_nan_and_denormals(isa):
    g = torch.Generator().manual_seed(1)
    bits = torch.randint(-(2**31), 2**31, (1 << 16,), generator=g).to(torch.int32)
    ties = (torch.arange(1 << 16, dtype=torch.int32) << 16) | 0x8000
    edge = torch.tensor([0x7F800001, 0x7FFFFFFF, 0x7F7FFFFF, 1] * 4, dtype=torch.int32)
    values = torch.cat([bits, ties, edge]).view(torch.float32)
    got = torch.zeros(values.numel(), dtype=torch.bfloat16)
    library(isa).round_to_bf16(
        ctypes.c_void_p(values.data_ptr()),
        ctypes.c_void_p(got.data_ptr()),
        ctypes.c_long(values.numel()),
    )
    want = values.to(torch.bfloat16)
    assert torch.equal(got.isnan(), values.isnan())
    same = got.view(torch.int16) == want.view(torch.int16)
    assert (same | values.isnan()).all()
