# SPDX-License-Identifier: MIT
"""Weights become what a target's kernels read: once, again when they change, and copies go."""

from __future__ import annotations

import gc
import logging
import threading
import weakref

import pytest
import torch
from packed_weights import LAYOUTS, packed, plain

from aiter_moe import GateMode, Layout, PackedWeight, e8m0_shuffle, prepare_weights, shuffle_weight
from aiter_moe.errors import ArgumentError, LayoutError, UnsupportedProblemError
from aiter_moe.pipeline import Experts
from aiter_moe.targets.registry import running_target
from aiter_moe.weights import given_weight, kernel_experts, row_order

CPU, GPU = running_target("cpu"), running_target("gfx950:emulator")
INTERLEAVED = (Layout.SHUFFLED_GATE_UP, None, GateMode.INTERLEAVE)


def experts_of(w1, w2=None, gate_mode=None):
    w2 = packed(seed=1) if w2 is None else w2
    return Experts(w1, w2, gate_mode=row_order(w1.layout, gate_mode))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_cpu_reads_panels_whatever_it_is_given(layout):
    w1, w2 = packed(layout), packed(Layout.SHUFFLED, seed=1)
    found = kernel_experts(experts_of(w1, w2), CPU)
    assert (found.w1.layout, found.w2.layout) == (Layout.PANEL_GATE_UP, Layout.PANEL)
    assert torch.equal(found.w1.unpack()[0], w1.unpack()[0])
    assert torch.equal(found.w2.unpack()[1], w2.unpack()[1])


@pytest.mark.parametrize(
    ("given", "gate_mode", "order", "wanted"),
    [
        (Layout.PLAIN, None, GateMode.SEPARATED, Layout.SHUFFLED),
        (Layout.SHUFFLED, None, GateMode.SEPARATED, Layout.SHUFFLED),
        (*INTERLEAVED, Layout.SHUFFLED_GATE_UP),
        (Layout.PANEL_GATE_UP, None, GateMode.SEPARATED, Layout.SHUFFLED),
        (Layout.PANEL_GATE_UP, "interleave", GateMode.INTERLEAVE, Layout.SHUFFLED_GATE_UP),
        (Layout.PANEL, GateMode.INTERLEAVE, GateMode.INTERLEAVE, Layout.SHUFFLED_GATE_UP),
    ],
)
def test_gpus_read_shuffled_rows_in_the_order_the_caller_holds(given, gate_mode, order, wanted):
    gate_mode = None if gate_mode is None else GateMode(gate_mode)
    weight = given_weight(packed(given), None, gate_mode, "w1")
    experts = experts_of(weight, gate_mode=gate_mode)
    assert experts.gate_mode is order
    found = kernel_experts(experts, GPU)
    assert (found.w1.layout, found.w2.layout) == (wanted, Layout.SHUFFLED)
    assert torch.equal(found.w1.unpack()[0], weight.unpack()[0])


def test_a_weight_that_kernels_read_is_not_touched():
    experts = experts_of(packed(Layout.PANEL_GATE_UP), packed(Layout.PANEL))
    found = kernel_experts(experts, CPU)
    assert found.w1 is experts.w1
    assert found.w2 is experts.w2


def test_weights_elsewhere_are_left_to_the_check_of_devices():
    experts = experts_of(packed().to("meta"), packed().to("meta"))
    assert kernel_experts(experts, CPU) is experts


@pytest.mark.parametrize("layout", [Layout.PLAIN, Layout.SHUFFLED, Layout.SHUFFLED_GATE_UP])
@pytest.mark.parametrize("view", [lambda w: w, lambda w: w.data, lambda w: w[:], lambda w: w[0:3]])
def test_a_copy_is_made_once_for_all_views_of_a_weight(layout, view):
    weight = packed(layout)
    first = kernel_experts(experts_of(weight), CPU).w1
    assert kernel_experts(experts_of(view(weight)), CPU).w1 is first
    assert kernel_experts(experts_of(torch.nn.Parameter(weight, False)), CPU).w1 is first


CHANGES = {
    "codes": lambda w: w.codes.zero_(),
    "scales": lambda w: w.scales.fill_(3),
    "a view of codes": lambda w: w.codes[1].fill_(1),
    "an expert": lambda w: w[1:2].copy_(packed(w.layout, seed=9)[1:2]),
    "a parameter": lambda w: torch.nn.Parameter(w, False).copy_(packed(w.layout, seed=9)),
    "data": lambda w: w.data.copy_(packed(w.layout, seed=9)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("layout", [Layout.PLAIN, Layout.SHUFFLED, Layout.SHUFFLED_GATE_UP])
@torch.no_grad()
def test_a_change_in_place_is_seen(layout, change):
    weight = packed(layout)
    held = torch.nn.Parameter(weight, requires_grad=False)
    before = kernel_experts(experts_of(held), CPU).w1
    change(weight)
    after = kernel_experts(experts_of(held), CPU).w1
    assert after is not before
    assert torch.equal(after.unpack()[0], weight.unpack()[0])
    assert torch.equal(after.unpack()[1], weight.unpack()[1])
    assert kernel_experts(experts_of(weight), CPU).w1 is after


def test_each_window_of_experts_has_its_copy_and_stale_ones_go():
    weight = packed(experts=6)
    windows = [kernel_experts(experts_of(weight[a : a + 2]), CPU).w1 for a in (0, 2, 4)]
    for a, window in zip((0, 2, 4), windows, strict=True):
        assert torch.equal(window.unpack()[0], weight[a : a + 2].unpack()[0])
    gone = [weakref.ref(window.codes.untyped_storage()) for window in windows]
    del windows, window
    gc.collect()
    assert all(ref() is not None for ref in gone)
    weight.codes.zero_()
    kernel_experts(experts_of(weight[0:2]), CPU)
    gc.collect()
    assert all(ref() is None for ref in gone)


def test_a_copy_goes_with_the_callers_memory():
    weight = packed()
    copy = weakref.ref(kernel_experts(experts_of(weight), CPU).w1.codes.untyped_storage())
    gc.collect()
    assert copy() is not None
    del weight
    gc.collect()
    assert copy() is None


def test_inference_tensors_are_converted_on_every_call_and_changes_seen():
    with torch.inference_mode():
        weight = packed()
        assert weight.codes.is_inference()
        first = kernel_experts(experts_of(weight), CPU).w1
        assert kernel_experts(experts_of(weight), CPU).w1 is not first
        weight.codes.zero_()
        assert not kernel_experts(experts_of(weight), CPU).w1.unpack()[0].any()


def test_threads_that_call_first_together_get_one_copy(monkeypatch):
    weight, made = packed(), []
    to_layout, gate = PackedWeight.to_layout, threading.Barrier(4)
    monkeypatch.setattr(
        PackedWeight, "to_layout", lambda w, layout: made.append(layout) or to_layout(w, layout)
    )
    found = []

    def call():
        experts = experts_of(weight)
        gate.wait()
        found.append(kernel_experts(experts, CPU).w1)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(w) for w in found}) == 1
    assert made.count(Layout.PANEL_GATE_UP) == 1


def test_a_copy_is_announced_once_with_what_to_do_instead(caplog, monkeypatch):
    monkeypatch.setattr("aiter_moe.log._announced", set())
    with caplog.at_level(logging.WARNING, "aiter_moe"):
        for seed in range(3):
            kernel_experts(experts_of(packed(seed=seed)), CPU)
    text = [r.message for r in caplog.records if r.message.startswith("w1")]
    assert len(text) == 1
    assert "w1 lies in layout SHUFFLED, the kernels here read PANEL_GATE_UP" in text[0]
    assert "doubles its memory" in text[0]
    assert "prepare_weights" in text[0]


@pytest.mark.parametrize("form", ["packed", "raw", "shuffled"])
@pytest.mark.parametrize("target", ["cpu", "gfx950:emulator", None])
def test_prepared_weights_need_no_copy(form, target):
    (c1, s1), (c2, s2) = plain(rows=128, cols=64), plain(rows=64, cols=64, seed=1)
    if form == "packed":
        given = (PackedWeight.pack(c1, s1), PackedWeight.pack(c2, s2))
    elif form == "raw":
        given = (c1, c2, s1, s2)
    else:
        scales = [e8m0_shuffle(s.flatten(0, 1)) for s in (s1, s2)]
        given = (shuffle_weight(c1), shuffle_weight(c2), *scales)
    w1, w2 = prepare_weights(*given, target=target)
    experts = Experts(w1, w2)
    found = kernel_experts(experts, running_target(target))
    assert found.w1 is w1
    assert found.w2 is w2
    assert torch.equal(w1.unpack()[0], c1)
    assert torch.equal(w2.unpack()[1], s2)
    again = prepare_weights(w1, w2, target=target)
    assert again[0] is w1
    assert again[1] is w2


def test_what_cannot_be_prepared_is_refused():
    w1, w2 = packed(), packed(Layout.PANEL_GATE_UP)
    with pytest.raises(LayoutError, match="w2 lies in layout PANEL_GATE_UP"):
        prepare_weights(w1, w2)
    with pytest.raises(LayoutError, match="SHUFFLED, but gate_mode='interleave'"):
        prepare_weights(w1, packed(), gate_mode="interleave")
    with pytest.raises(ArgumentError, match="w2 has no scales"):
        prepare_weights(w1, plain()[0])
    with pytest.raises(UnsupportedProblemError, match="gate_mode"):
        prepare_weights(w1, packed(), gate_mode="mock_gate_only")
    with pytest.raises(LayoutError, match="N % 32"):
        prepare_weights(*(PackedWeight.pack(*plain(rows=48), Layout.PLAIN),) * 2, target="cpu")
