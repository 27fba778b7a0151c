# SPDX-License-Identifier: MIT
"""Targets by name: their facts, and what is said where there is no such device."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from reference import random_problem

from aiter_moe import Layout, PackedWeight, fused_moe
from aiter_moe.codegen.catalogue import catalogue
from aiter_moe.errors import ArgumentError, ConfigError, LaunchError
from aiter_moe.targets import hip_launcher, registry
from aiter_moe.targets.arguments import StageArgs
from aiter_moe.targets.base import DeviceFacts
from aiter_moe.targets.hip import DeviceProperties
from aiter_moe.targets.hip_launcher import HipLauncher
from aiter_moe.targets.registry import TARGET_NAMES, running_target


@pytest.fixture(autouse=True)
def no_launcher_of_another_test():
    hip_launcher.hip_launcher.cache_clear()
    yield
    hip_launcher.hip_launcher.cache_clear()


def a_call(target):
    p = random_problem(3, 128, 64, 2, 1)
    return fused_moe(
        p.x, PackedWeight.pack(p.w1, p.s1, Layout.SHUFFLED), PackedWeight.pack(p.w2, p.s2),
        p.topk_weights, p.topk_ids, target=target,
    )  # fmt: skip


@pytest.mark.parametrize("gfx", ["gfx950", "gfx942"])
def test_an_emulated_target_has_the_facts_of_the_real_one_and_host_memory(gfx, monkeypatch):
    real, emulated = running_target(gfx), running_target(f"{gfx}:emulator")
    assert (real.name, real.device) == (gfx, "cuda")
    assert (emulated.name, emulated.device) == (f"{gfx}:emulator", "cpu")
    assert emulated.facts.gfx == gfx
    assert emulated.facts.cu_num == real.facts.cu_num == registry.GFX9_CUS[gfx]
    monkeypatch.setenv("CU_NUM", "80")
    assert running_target(f"{gfx}:emulator").facts.cu_num == 80
    monkeypatch.setenv("AITER_MOE_TARGET", f"{gfx}:emulator")
    assert running_target().name == f"{gfx}:emulator"


def test_the_device_torch_sees_is_the_default_with_its_own_units(monkeypatch):
    seen = DeviceFacts("gfx950", 32, product="a partition")
    monkeypatch.setattr(registry, "_device_facts", lambda: seen)
    target = running_target()
    assert (target.name, target.facts) == ("gfx950", seen)
    assert running_target("gfx942").facts.cu_num == registry.GFX9_CUS["gfx942"]


@pytest.mark.parametrize("name", ["gfx1250", "cpu:emulator", "gfx950:", "emulator"])
def test_an_unknown_target_is_answered_with_those_there_are(name):
    with pytest.raises(ConfigError) as caught:
        running_target(name)
    assert repr(name) in str(caught.value)
    assert all(known in str(caught.value) for known in TARGET_NAMES)


def devices(*arches):
    found = [DeviceProperties(arch, 64, "a product") for arch in arches]
    return SimpleNamespace(device_count=lambda: len(found), properties=found.__getitem__)


def test_without_a_hip_runtime_the_emulator_is_named(monkeypatch):
    def none():
        raise LaunchError("no HIP runtime is here; the target gfx950:emulator needs none")

    monkeypatch.setattr(hip_launcher, "hip_runtime", none)
    with pytest.raises(LaunchError, match="gfx950:emulator"):
        a_call("gfx950")


def test_torch_without_rocm_and_devices_of_other_kinds_are_named(monkeypatch):
    monkeypatch.setattr(hip_launcher, "hip_runtime", lambda: devices("gfx90a", "gfx942"))
    monkeypatch.setattr(torch.version, "hip", None)
    with pytest.raises(LaunchError, match=r"not built for ROCm.*gfx950:emulator"):
        a_call("gfx950")
    monkeypatch.setattr(torch.version, "hip", "6.4")
    with pytest.raises(LaunchError, match=r"devices: gfx90a, gfx942.*gfx950:emulator"):
        a_call("gfx950")
    facts = hip_launcher.hip_launcher("gfx942").facts
    assert facts == DeviceFacts("gfx942", 64, product="a product")


def test_tensors_in_other_memory_are_named_with_the_target(monkeypatch):
    monkeypatch.setattr(hip_launcher, "hip_runtime", lambda: devices("gfx950"))
    monkeypatch.setattr(torch.version, "hip", "6.4")
    with pytest.raises(ArgumentError, match=r"hidden_states is on cpu.*gfx950 runs on cuda"):
        a_call("gfx950")


def test_a_kernel_of_another_target_is_refused_before_anything_is_loaded():
    launcher = HipLauncher(SimpleNamespace(), DeviceFacts("gfx942", 304))
    instance = catalogue("gfx950")[0]
    with pytest.raises(LaunchError, match=rf"{instance.name}.*gfx950.*gfx942"):
        launcher.run_stage(instance, StageArgs(), ())
