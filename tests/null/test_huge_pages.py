# SPDX-License-Identifier: MIT
"""Memory in huge pages is ordinary memory; weights get it, and conversions little more."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from packed_weights import assert_same, packed

from aiter_moe import huge_pages
from aiter_moe.huge_pages import empty_bytes
from aiter_moe.layouts import Layout, load_packed, save_packed

CPU = torch.device("cpu")
MODES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
LARGE = 40 << 20


def advised_bytes(tensor):
    """Return the bytes of the mapping that holds the middle of a tensor, if huge pages are asked
    for there. How many there are then is up to the system."""
    size, middle = 0, tensor.data_ptr() + tensor.numel() // 2
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if span := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            begin, end = int(span[1], 16), int(span[2], 16)
            size = end - begin if begin <= middle < end else 0
        elif size and line.startswith("VmFlags:"):
            return size if "hg" in line.split() else 0
    return 0


@pytest.fixture
def large():
    """Return a weight in panels, as large as gets huge pages."""
    weight = packed(Layout.PANEL, experts=2, rows=4096, cols=8192)
    assert weight.codes.numel() > huge_pages._WHOLE_MAPPING
    return weight


@pytest.mark.skipif(not MODES.exists(), reason="a system without huge pages on request")
def test_huge_pages_are_asked_for_large_memory_as_far_as_it_fills_them(large):
    assert advised_bytes(torch.ones(LARGE, dtype=torch.uint8)) == 0
    assert advised_bytes(empty_bytes((LARGE,), CPU)) >= LARGE - (2 << 21)
    for weight in (large, large.clone(), large.to("cpu", copy=True)):
        assert advised_bytes(weight.codes) >= weight.codes.numel() - (2 << 21)


@pytest.mark.parametrize("shape", [(0, 0), (3, 5), (LARGE,), (2, LARGE // 2)])
def test_it_is_an_ordinary_tensor(shape):
    memory = empty_bytes(shape, CPU)
    assert (memory.shape, memory.dtype, memory.is_contiguous()) == (shape, torch.uint8, True)
    memory.fill_(7)
    assert memory.numel() * 7 == int(memory.sum())


def test_other_devices_are_not_advised(monkeypatch):
    monkeypatch.setattr(huge_pages, "advise", pytest.fail)
    assert empty_bytes((LARGE,), torch.device("meta")).is_meta
    assert empty_bytes((1000,), CPU).numel() == 1000


def test_where_there_is_no_advice_memory_is_as_ever(monkeypatch):
    huge_pages._madvise.cache_clear()
    monkeypatch.setattr(sys, "platform", "darwin")
    try:
        assert huge_pages._madvise() is None
        assert empty_bytes((LARGE,), CPU).fill_(1).all()
    finally:
        huge_pages._madvise.cache_clear()


def test_large_panels_are_saved_and_shared_like_any(large, tmp_path):
    file = io.BytesIO()
    torch.save(large, file)
    assert file.tell() < large.codes.numel() + (1 << 16)
    file.seek(0)
    assert_same(torch.load(file, weights_only=True), large)
    pytest.importorskip("safetensors")
    save_packed({"w": large}, tmp_path / "w.safetensors")
    assert_same(load_packed(tmp_path / "w.safetensors")["w"], large)
    wanted = large.clone()
    assert large.share_memory_().is_shared()
    assert_same(large, wanted)


PEAK = """
import sys, torch
from aiter_moe.layouts import Layout, PackedWeight
source, wanted = (Layout[name] for name in sys.argv[1:])

def kilobytes(field):
    line = next(l for l in open("/proc/self/status") if l.startswith(field))
    return int(line.split()[1])

def weight(experts):
    codes = torch.randint(0, 256, (experts, 2048, 1024), dtype=torch.uint8)
    return PackedWeight.pack(codes, codes[:, :, :64].contiguous(), source)

weight(1).to_layout(wanted)
given = weight(24)
open("/proc/self/clear_refs", "w").write("5")
before = kilobytes("VmRSS")
made = given.to_layout(wanted)
print((kilobytes("VmHWM") - before) / (kilobytes("VmRSS") - before))
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("PLAIN", "PANEL_GATE_UP"),
        ("SHUFFLED", "PANEL_GATE_UP"),
        ("SHUFFLED_GATE_UP", "PANEL"),
        ("PANEL_GATE_UP", "SHUFFLED"),
    ],
)
def test_a_conversion_takes_a_few_experts_beside_its_result(source, wanted):
    ran = subprocess.run(
        [sys.executable, "-c", PEAK, source, wanted], check=True, capture_output=True, text=True
    )
    assert float(ran.stdout) < 1.25  # of 24 experts
