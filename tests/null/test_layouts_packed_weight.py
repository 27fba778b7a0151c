# SPDX-License-Identifier: MIT
"""PackedWeight keeps its layout through what a model does to its weights, and refuses the rest."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from packed_weights import LAYOUTS, SHUFFLED, Holder, assert_same, packed, plain

from aiter_moe import dtypes
from aiter_moe.errors import ArgumentError, DtypeError, LayoutError
from aiter_moe.layouts import (
    Layout,
    PackedWeight,
    shuffle_scale,
    shuffle_scale_a16w4,
    shuffle_weight,
    shuffle_weight_a16w4,
)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 4),
    st.integers(1, 4),
    st.sampled_from([1, 2, 3, 6, 12, 20, 90]),
    st.sampled_from(LAYOUTS),
    st.sampled_from(LAYOUTS),
)
def test_packing_undoes_itself_for_odd_sizes(experts, blocks, groups, layout, other):
    codes, scales = plain(experts, blocks * 32, groups * 32)
    weight = PackedWeight.pack(codes, scales, layout).to_layout(other)
    assert (weight.layout, weight.experts, weight.rows, weight.cols) == (
        other,
        experts,
        blocks * 32,
        groups * 32,
    )
    back_codes, back_scales = weight.unpack()
    assert torch.equal(back_codes, codes)
    assert torch.equal(back_scales, scales)
    assert back_codes.is_contiguous()


@pytest.mark.parametrize("inter", [128, 192, 384, 640, 2880])
def test_physical_sizes_are_what_kernels_read(inter):
    weight = packed(rows=64, cols=inter)
    assert weight.physical_rows == 64
    assert weight.physical_cols == -(-inter // 64) * 64
    assert weight.scale_cols == -(-inter // 256) * 8
    assert weight.codes.shape == (3, 64, weight.physical_cols // 2)
    assert weight.scales.shape == (3 * 64, weight.scale_cols)
    assert weight.shape == (3, 64, inter // 2)


def test_padding_is_code_zero_and_scale_one():
    codes, scales = plain(1, 32, 96)
    weight = PackedWeight.pack(codes | 0x11, scales & 0x3F)
    wide = PackedWeight(weight.codes, weight.scales, Layout.SHUFFLED, 32, 128)
    all_codes, all_scales = wide.unpack()
    assert (all_codes[..., 48:] == 0).all()
    assert (all_scales[..., 3:] == 0x7F).all()
    assert int((weight.scales == 0x7F).sum()) == 32 * (8 - 3)


def test_packed_bytes_are_those_of_aiters_functions():
    codes, scales = plain(3, 96, 256)
    flat = scales.flatten(0, 1)
    weight = PackedWeight.pack(codes, scales, Layout.SHUFFLED)
    assert torch.equal(weight.codes, shuffle_weight(codes))
    assert torch.equal(weight.scales, shuffle_scale(flat)[: 3 * 96])
    weight = PackedWeight.pack(codes.view(dtypes.fp4x2), flat.view(dtypes.fp8_e8m0), SHUFFLED[1])
    assert torch.equal(weight.codes, shuffle_weight_a16w4(codes, 16, True))
    assert torch.equal(weight.scales, shuffle_scale_a16w4(flat, 3, True))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "survive",
    [
        lambda w: w.clone(),
        lambda w: w.detach(),
        lambda w: w.data,
        lambda w: w.contiguous(),
        lambda w: w.to("cpu"),
        lambda w: w.to(torch.uint8),
        lambda w: w.to("cpu", copy=True),
        lambda w: w.cpu(),
        lambda w: w.requires_grad_(False),
        lambda w: w[:],
        lambda w: w[...],
        lambda w: w[:, :, :],
        copy.copy,
        copy.deepcopy,
        lambda w: pickle.loads(pickle.dumps(w)),
    ],
)
def test_the_layout_survives(layout, survive):
    weight = packed(layout)
    assert_same(survive(weight), weight)


def test_another_device_holds_codes_and_scales():
    moved = packed(Layout.SHUFFLED_GATE_UP).to("meta")
    assert (moved.layout, moved.rows, moved.cols) == (Layout.SHUFFLED_GATE_UP, 64, 96)
    assert moved.is_meta
    assert moved.codes.is_meta
    assert moved.scales.is_meta


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("part", [slice(2, 5), slice(3, 4), slice(-2, None), slice(0, 6)])
def test_slicing_by_expert_gives_views_of_those_experts(layout, part):
    codes, scales = plain(experts=6)
    weight = PackedWeight.pack(codes, scales, layout)
    sliced = weight[part]
    assert (sliced.layout, sliced.experts) == (layout, len(range(6)[part]))
    assert torch.equal(sliced.unpack()[0], codes[part])
    assert torch.equal(sliced.unpack()[1], scales[part])
    assert sliced.codes.untyped_storage().data_ptr() == weight.codes.untyped_storage().data_ptr()
    assert sliced[0:1].experts == 1
    assert weight[4:2].unpack()[0].shape == (0, 64, 48)


def test_copying_clones_and_slices_does_not_touch_the_original():
    weight = packed()
    other = weight[1:2].clone()
    other.codes.zero_()
    other.scales.zero_()
    assert_same(weight, packed())


def test_a_parameter_is_a_packed_weight_and_stays_one_in_a_module():
    weight = packed(Layout.SHUFFLED_GATE_UP)
    module = Holder(weight)
    assert isinstance(module.w, torch.nn.Parameter)
    assert not module.w.requires_grad
    module.to("cpu").to(torch.bfloat16).eval()
    assert module.bias.dtype == torch.bfloat16
    assert_same(module.w, weight)
    twin = copy.deepcopy(module)
    assert isinstance(twin.w, torch.nn.Parameter)
    assert_same(twin.w, weight)
    assert twin.w.codes.data_ptr() != weight.codes.data_ptr()
    assert [name for name, _ in module.named_parameters()] == ["w", "bias"]


@pytest.mark.parametrize(
    "other",
    [packed(Layout.SHUFFLED_GATE_UP), packed(Layout.PLAIN), plain()[0]],
    ids=["gate_up", "plain", "tensor"],
)
def test_loading_another_layout_into_a_weight_is_refused(other):
    target = packed()
    with pytest.raises(LayoutError, match=r"SHUFFLED.*one layout"):
        target.copy_(other)
    with pytest.raises(RuntimeError, match="one layout"):
        Holder(target).load_state_dict({"w": other, "bias": torch.zeros(4)})
    assert_same(target, packed())
    with pytest.raises(LayoutError, match="not packed"):
        plain()[0].copy_(target)


@pytest.mark.parametrize(
    "operation",
    [
        lambda w: w.view(-1),
        lambda w: w.view(dtypes.fp4x2),
        lambda w: w.reshape(3, -1),
        lambda w: w.flatten(),
        lambda w: w.transpose(1, 2),
        lambda w: w[0],
        lambda w: w[::2],
        lambda w: w[:, 0:32],
        lambda w: w[:, :, 1:],
        lambda w: w[torch.tensor([0, 1])],
        lambda w: next(iter(w)),
        lambda w: w + 1,
        lambda w: w == 1,
        lambda w: w.zero_(),
        lambda w: torch.cat([w, w]),
        lambda w: torch.equal(w, w),
        lambda w: w.float(),
        lambda w: w.to(torch.bfloat16),
        lambda w: w.clone(memory_format=torch.channels_last_3d),
        lambda w: w.numpy(),
        lambda w: w.__array__(),
        lambda w: w.tolist(),
        lambda w: w.data_ptr(),
        lambda w: w.apply_(abs),
        torch.from_dlpack,
        lambda w: setattr(w, "data", torch.zeros(3)),
        lambda w: setattr(w, "is_shuffled", False),
        lambda w: setattr(torch.nn.Parameter(w, requires_grad=False), "data", w.clone()),
    ],
)
def test_every_other_operation_is_refused_and_changes_nothing(operation):
    weight = packed()
    with pytest.raises(LayoutError, match=r"packed weight|SHUFFLED"):
        operation(weight)
    assert_same(weight, packed())


def test_the_refusal_names_the_operation_and_the_way_out():
    with pytest.raises(LayoutError, match=r"aten\.view\.default.*\.codes and \.scales"):
        packed().view(-1)


def test_is_shuffled_answers_from_the_layout():
    assert [packed(layout).is_shuffled for layout in LAYOUTS] == [False, True, True, True, True]
    weight = packed()
    weight.is_shuffled = True
    assert repr(weight) == "PackedWeight(SHUFFLED, experts=3, rows=64, cols=96, device=cpu)"


def test_shared_memory_holds_codes_and_scales():
    weight = packed()
    assert not weight.is_shared()
    assert weight.share_memory_() is weight
    assert weight.is_shared()
    assert_same(weight, packed())


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_torch_compile_traces_through_a_packed_weight(backend):
    def bytes_of(weight, x):
        part = weight[1:3]
        total = part.codes.sum() + part.scales.sum() + part.rows
        return x + total if part.layout is Layout.SHUFFLED else x

    weight, x = packed(), torch.ones(3)
    compiled = torch.compile(bytes_of, backend=backend, fullgraph=True)
    assert torch.equal(compiled(weight, x), bytes_of(weight, x))
    other = weight.to_layout(Layout.SHUFFLED_GATE_UP)
    assert torch.equal(compiled(other, x), x)


C, SC = plain()


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: PackedWeight.pack(C.float(), SC), DtypeError, "float32"),
        (lambda: PackedWeight.pack(C, SC.float()), DtypeError, "float32"),
        (lambda: PackedWeight.pack(C, SC[:, :, :2]), ArgumentError, r"need scales \[3, 64, 3\]"),
        (lambda: PackedWeight.pack(C[0], SC[0]), ArgumentError, r"\[experts, rows, K/2\]"),
        (lambda: PackedWeight.pack(C[..., :40], SC), ArgumentError, "K % 32"),
        (lambda: PackedWeight.pack(*plain(rows=48)), LayoutError, "N = 48; pad the rows"),
        (lambda: PackedWeight.pack(shuffle_weight(plain(cols=64)[0]), SC), LayoutError, "already"),
        (lambda: PackedWeight.pack(packed(), SC), LayoutError, "already shuffled"),
        (lambda: PackedWeight(C, SC.flatten(0, 1), Layout.SHUFFLED, 64, 96), LayoutError, "64, 64"),
        (lambda: PackedWeight(C, SC, Layout.PLAIN, 64, 96), LayoutError, "matrix"),
        (
            lambda: PackedWeight(C, SC.flatten(0, 1), Layout.PLAIN, 64, 64),
            LayoutError,
            r"codes \[E, 64, 32\]",
        ),
        (
            lambda: PackedWeight(C, SC.flatten(0, 1)[:-1], Layout.PLAIN, 64, 96),
            LayoutError,
            r"scales \[192, 3\]",
        ),
        (
            lambda: PackedWeight(C, SC.flatten(0, 1).to("meta"), Layout.PLAIN, 64, 96),
            LayoutError,
            "scales on meta",
        ),
        (
            lambda: PackedWeight(C.mT.contiguous().mT, SC.flatten(0, 1), Layout.PLAIN, 64, 96),
            LayoutError,
            "contiguous",
        ),
    ],
)
def test_tensors_that_cannot_be_the_weight_are_refused(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_a_plain_weight_may_have_any_number_of_rows():
    codes, scales = plain(rows=17)
    weight = PackedWeight.pack(codes, scales, Layout.PLAIN)
    assert weight.codes.data_ptr() == codes.data_ptr()
    assert torch.equal(weight[1:2].unpack()[1], scales[1:2])
    with pytest.raises(LayoutError, match="N = 17"):
        weight.to_layout(Layout.SHUFFLED)
