# SPDX-License-Identifier: MIT
"""CPU kernels at the ends of the number formats: scale bytes, NaN, infinities, signed zeros."""

from __future__ import annotations

import pytest
import torch
from cpu_kernels import Shape, every_kernel, every_shape, instance_of, make_case

from aiter_moe.codegen.cpu import isas
from aiter_moe.enums import ActivationType, Kind

ONE_BLOCK = Shape(tokens=33, topk=2, experts=3, n=384, k=32)


def any_bytes(shape: torch.Size, seed: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, generator=g, dtype=torch.uint8)


@every_shape()
def test_a_block_is_rounded_once_whatever_its_scale_bytes(instance):
    case = make_case(instance, ONE_BLOCK)
    case.scales = any_bytes(case.scales.shape, 1)
    case.scales[0, :4, 0] = torch.tensor([0, 1, 254, 255], dtype=torch.uint8)
    if case.x_scale is not None:
        case.x_scale = any_bytes(case.x_scale.shape, 2)
        case.x_scale[:4, 0] = torch.tensor([0, 1, 254, 255], dtype=torch.uint8)
    else:
        # Sums whose terms f32 adds exactly, so that only the scale can round.
        case.x = (any_bytes(case.x.shape, 2).int() % 17 - 8).to(torch.bfloat16)
    got, exact = case.run()[:, : ONE_BLOCK.n], case.reference()
    want = exact.to(torch.float32)
    assert torch.equal(got.isnan(), want.isnan())
    assert torch.equal(got.nan_to_num(nan=0.0), want.nan_to_num(nan=0.0))
    assert want.isnan().any() and want.isinf().any() and (want.abs() < 2.0**-126).any()


# Uniform bytes of weights and activations around the sums at which a power leaves the normal
# numbers (130 and 383), and at the ends.
UNIFORM = [
    (0, 129), (0, 130), (130, 0), (100, 29), (100, 30), (0, 254), (254, 0), (254, 129),
    (254, 130), (200, 183), (200, 184), (200, 199), (254, 254), (0, 0),
]  # fmt: skip


@every_shape(Kind.A4W4)
def test_uniform_scales_are_exact_on_both_sides_of_the_normal_range(instance):
    case = make_case(instance, Shape(7, 1, 1, 32, 32))
    case.x[0] = 0  # a product of 0 stays 0 under any power
    for w_byte, x_byte in UNIFORM:
        case.scales[:], case.x_scale[:] = w_byte, x_byte
        got, want = case.run()[:, :32], case.reference().to(torch.float32)
        assert torch.equal(got, want), (w_byte, x_byte)


@every_shape(Kind.A4W4)
def test_opposite_extremes_of_both_scales_cancel(instance):
    case = make_case(instance, Shape(9, 1, 2, 64, 256))
    plain = case.run()
    g = torch.Generator().manual_seed(5)
    shift = torch.randint(-100, 101, (1, 8), generator=g)
    case.scales = (case.scales.int() + shift).to(torch.uint8)
    case.x_scale = (case.x_scale.int() - shift).to(torch.uint8)
    assert torch.equal(case.run().nan_to_num(), plain.nan_to_num())


@pytest.mark.parametrize("special", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("isa", isas(Kind.A16W4))
def test_a_special_activation_spoils_its_own_row_alone(isa, special):
    fields = {"activation": ActivationType.Swiglu, "split_k": False}
    instance = instance_of(isa, Kind.A16W4, 1, 16, **fields)
    case = make_case(instance, Shape(20, 1, 1, 64, 96), constants={"limit": 7.0})
    clean = case.run()
    case.x[11, 40] = special
    spoilt = case.run()
    others = torch.arange(20) != 11
    assert torch.equal(spoilt[others, :64], clean[others, :64])
    # inf * 0 is NaN, and columns with a non-zero weight end in a limit of the clamps.
    want = case.reference()[11]
    assert torch.equal(spoilt[11, :64].isnan(), want.isnan())


@every_kernel
def test_a_nan_weight_scale_spoils_its_own_column_alone(isa, kind):
    case = make_case(instance_of(isa, kind, 2, 16), Shape(5, 1, 1, 64, 96))
    case.scales[0, 21, 1] = 255
    nan = case.run()[:, :64].isnan()
    assert nan[:, 21].all() and nan.sum() == 5
