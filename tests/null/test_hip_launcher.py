# SPDX-License-Identifier: MIT
"""The launcher of AMD GPUs over a fake HIP and a fake torch.cuda: what it loads and queues."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from aiter_moe.codegen.catalogue import catalogue
from aiter_moe.codegen.gfx9 import launches
from aiter_moe.codegen.instance import Instance
from aiter_moe.targets.arguments import StageArgs
from aiter_moe.targets.base import DeviceFacts
from aiter_moe.targets.hip_launcher import HipLauncher, Module


class FakeRuntime:
    """Notes what it is told; functions are (module, symbol), modules count up."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def function(self, module: int, symbol: str) -> tuple[int, str]:
        self.calls.append(("function", module, symbol))
        return module, symbol

    def launch(self, function, grid, threads, arguments, stream) -> None:
        self.calls.append(("launch", function, grid, threads, bytes(arguments), stream))

    def create_event(self) -> int:
        self.calls.append(("create",))
        return len(self.calls)

    def elapsed_ms(self, begin: int, end: int) -> float:
        return end - begin

    def __getattr__(self, name: str):
        return lambda *arguments: self.calls.append((name, *arguments))

    def named(self, name: str) -> list[tuple[object, ...]]:
        return [call for call in self.calls if call[0] == name]


class Launcher(HipLauncher):
    """Loads nothing from disk."""

    loaded = 0

    def _load(self, instance: Instance) -> Module:
        self.loaded += 1
        return Module(instance, b"code", 1000 + self.loaded)


@pytest.fixture
def devices(monkeypatch):
    """torch.cuda whose current stream on device n is 16 * n, and its null stream on device 0."""
    current = [0]

    @contextmanager
    def device(wanted):
        before, current[0] = current[0], wanted.index
        yield
        current[0] = before

    def stream():
        return SimpleNamespace(device=torch.device("cuda", current[0]), cuda_stream=16 * current[0])

    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "current_stream", stream)


def on(index: int) -> list[SimpleNamespace]:
    return [SimpleNamespace(device=torch.device("cuda", index))]


def instance(**fields: object) -> Instance:
    return next(
        i for i in catalogue("gfx950") if all(getattr(i, n) == v for n, v in fields.items())
    )


ARGS = StageArgs(
    tokens=16, topk=2, n=256, k=512, x_stride=512, out_stride=256, w_rows=512, w_k=512,
    w_scale_cols=16, sorted_rows=64, ksplit=2,
)  # fmt: skip


def test_a_split_stage_is_queued_with_its_finish_behind_it_on_torchs_stream(devices):
    launcher = Launcher(FakeRuntime(), DeviceFacts("gfx950", 256))
    split = instance(stage=1, split_k=True)
    launcher.run_stage(split, ARGS, on(2))
    steps = launches(split, ARGS)
    assert len(steps) == 2
    assert launcher._runtime.named("launch") == [
        ("launch", (1001, s.symbol), s.grid, s.threads, bytes(ARGS), 32) for s in steps
    ]


def test_modules_are_loaded_once_for_an_instance_and_device(devices):
    launcher = Launcher(FakeRuntime(), DeviceFacts("gfx950", 256))
    first, other = instance(stage=1, split_k=True), instance(stage=1, split_k=True, block_m=32)
    for used, device in ((first, 0), (first, 0), (first, 1), (other, 1), (first, 0)):
        launcher.run_stage(used, ARGS, on(device))
    assert launcher.loaded == 3
    runtime = launcher._runtime
    assert len(runtime.named("function")) == 2 * 3
    assert {call[-1] for call in runtime.named("launch")} == {None, 16}
    launcher.unload()
    assert runtime.calls[-9:] == [
        step
        for device, module in ((0, 1001), (1, 1002), (1, 1003))
        for step in (("set_device", device), ("synchronise",), ("unload_module", module))
    ]
    launcher.run_stage(first, ARGS, on(0))
    assert launcher.loaded == 4


def test_work_is_timed_between_two_events_of_its_stream_which_are_freed(devices, monkeypatch):
    launcher = Launcher(FakeRuntime(), DeviceFacts("gfx950", 256))
    monkeypatch.setattr(torch, "empty", lambda *_, device: on(device.index)[0])
    runtime = launcher._runtime

    def work():
        runtime.calls.append(("work",))

    assert launcher.elapsed_ms(work, torch.device("cuda", 3)) == 1
    assert runtime.calls == [
        ("create",), ("create",), ("record_event", 1, 48), ("work",), ("record_event", 2, 48),
        ("synchronise_event", 2), ("destroy_event", 1), ("destroy_event", 2),
    ]  # fmt: skip

    def failing():
        raise ValueError("a launch failed")

    with pytest.raises(ValueError, match="a launch failed"):
        launcher.elapsed_ms(failing, torch.device("cuda", 3))
    assert [call[0] for call in runtime.calls[-2:]] == ["destroy_event", "destroy_event"]
