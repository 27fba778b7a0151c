# SPDX-License-Identifier: MIT
"""A saved PackedWeight comes back in its layout: state dicts, pickles and safetensors files."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
import torch
from packed_weights import LAYOUTS, Holder, assert_same, packed

from aiter_moe.errors import LayoutError
from aiter_moe.layouts import Layout, PackedWeight, load_packed, save_packed


@pytest.mark.parametrize("assign", [False, True])
def test_state_dicts_carry_the_layout(assign):
    source, target = Holder(packed(seed=1)), Holder(packed(seed=2))
    state = source.state_dict()
    assert_same(state["w"], source.w)
    target.load_state_dict(state, assign=assign)
    assert isinstance(target.w, torch.nn.Parameter)
    assert_same(target.w, source.w)


def test_a_module_built_on_the_meta_device_can_be_loaded():
    source = Holder(packed())
    target = Holder(packed(seed=5)).to("meta")
    assert target.w.codes.is_meta
    target.to_empty(device="cpu").load_state_dict(source.state_dict())
    assert_same(target.w, source.w)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("parameter", [False, True])
def test_torch_save_and_weights_only_load_carry_the_layout(layout, parameter):
    weight = packed(layout)
    if parameter:
        weight = torch.nn.Parameter(weight, requires_grad=False)
    file = io.BytesIO()
    torch.save({"w": weight, "sliced": weight[1:2]}, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    assert_same(loaded["w"], weight)
    assert_same(loaded["sliced"], weight[1:2])
    assert isinstance(loaded["w"], torch.nn.Parameter) == parameter


def test_a_new_process_loads_with_weights_only_after_importing_layouts(tmp_path):
    path = tmp_path / "w.pt"
    torch.save({"w": packed()}, path)
    script = (
        "import sys, torch, aiter_moe.layouts\n"
        "w = torch.load(sys.argv[1], weights_only=True)['w']\n"
        "assert type(w).__name__ == 'PackedWeight' and w.layout.name == 'SHUFFLED'\n"
        "assert not any(m in sys.modules for m in ('safetensors', 'pandas', 'jinja2'))\n"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)


def test_safetensors_files_carry_the_layout(tmp_path):
    pytest.importorskip("safetensors")
    weight = packed(Layout.SHUFFLED_GATE_UP)
    stored = {"layers.0.w1": weight, "layers.0.w1_first": weight[0:1], "w2": packed(seed=3)}
    path = tmp_path / "model.safetensors"
    save_packed(stored, path)
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]
    loaded = load_packed(path)
    assert loaded.keys() == stored.keys()
    for name, wanted in stored.items():
        assert_same(loaded[name], wanted)


def test_safetensors_saves_nothing_half_written(tmp_path):
    pytest.importorskip("safetensors")
    path = tmp_path / "model.safetensors"
    path.mkdir()
    with pytest.raises(OSError):
        save_packed({"w": packed()}, path)
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("prefix", ["", "w1"])
def test_tensors_and_metadata_undo_themselves(prefix):
    weight = packed(Layout.SHUFFLED_GATE_UP)
    tensors, metadata = weight.to_tensors(prefix), weight.metadata(prefix)
    assert all(type(t) is torch.Tensor for t in tensors.values())
    assert all(isinstance(text, str) for text in metadata.values())
    assert_same(PackedWeight.from_tensors(tensors, metadata, prefix), weight)
    for broken in ({}, {next(iter(metadata)): "{}"}, {next(iter(metadata)): "no json"}):
        with pytest.raises(LayoutError, match="no packed weight"):
            PackedWeight.from_tensors(tensors, broken, prefix)
    with pytest.raises(LayoutError, match="no packed weight"):
        PackedWeight.from_tensors({}, metadata, prefix)
