# SPDX-License-Identifier: MIT
from __future__ import annotations

import ctypes
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from cpu_probe import Probe, Recorder, probe_path

from aiter_moe.codegen.catalogue import catalogue
from aiter_moe.codegen.cpu import REQUIRES
from aiter_moe.codegen.instance import Instance
from aiter_moe.errors import ConfigError, LaunchError
from aiter_moe.targets import cpu
from aiter_moe.targets.arguments import StageArgs
from aiter_moe.targets.cpu import CpuLauncher, cpu_facts, cpu_launcher
from aiter_moe.targets.cpu_features import CpuInfo, parse_cpuinfo, read_cpuinfo, usable_features
from aiter_moe.targets.cpu_runtime import Kernel

CPUINFO = """processor\t: 0
model name\t: Some CPU @ 2.40GHz
flags\t\t: fpu sse2 avx avx2 fma avx512f avx512_bf16 hypervisor

processor\t: 1
model name\t: Another CPU
flags\t\t: fpu sse2 avx avx2 fma avx_vnni hypervisor
"""


def portable_instance() -> Instance:
    return next(i for i in catalogue("cpu") if not i.tile.requires)


def test_cpuinfo_gives_the_first_name_and_the_vector_features_that_all_processors_have() -> None:
    info = parse_cpuinfo(CPUINFO)
    assert info.product == "Some CPU @ 2.40GHz"
    assert info.features == {"avx", "avx2", "fma"}
    first = parse_cpuinfo(CPUINFO.partition("processor\t: 1")[0])
    assert first.features == {"avx", "avx2", "fma", "avx512f", "avx512_bf16"}
    assert parse_cpuinfo("") == CpuInfo("", frozenset())


def test_a_system_without_cpuinfo_is_portable(tmp_path: Path) -> None:
    assert read_cpuinfo(tmp_path / "absent") == CpuInfo("", frozenset())


EVERY = frozenset[str]().union(*REQUIRES.values())


def test_the_instruction_set_can_be_capped() -> None:
    full = CpuInfo("big", EVERY | {"avx512cd"})
    assert usable_features("", full) == full.features
    levels = [usable_features(isa, full) for isa in REQUIRES]
    assert all(more > less for more, less in pairwise(levels))
    assert all(REQUIRES[isa] <= level for isa, level in zip(REQUIRES, levels, strict=True))
    assert levels[0] == EVERY
    assert usable_features("avx2_vnni", full) == REQUIRES["avx2_vnni"]
    assert usable_features("portable", full) == frozenset()


def test_a_cap_leaves_out_what_the_cpu_lacks_below_it() -> None:
    server = CpuInfo("server", REQUIRES["avx512_vnni"])
    assert usable_features("avx512", server) == REQUIRES["avx512"]
    assert usable_features("avx512_vnni", server) == server.features


def test_an_instruction_set_that_cannot_be_used_is_refused_with_what_can() -> None:
    server = CpuInfo("server", REQUIRES["avx512_vnni"])
    with pytest.raises(ConfigError, match=r"server\) lacks avx512_bf16; .*set it to avx512_vnni"):
        usable_features("avx512_bf16", server)
    with pytest.raises(ConfigError, match=r"unknown\) lacks avx2, f16c, fma; .* to portable"):
        usable_features("avx2", CpuInfo("", frozenset()))
    with pytest.raises(ConfigError, match=r"AITER_MOE_CPU_ISA='sse': give one of avx512_bf16, "):
        usable_features("sse", server)


def test_facts_follow_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AITER_MOE_THREADS", raising=False)
    monkeypatch.setenv("AITER_MOE_CPU_ISA", "portable")
    assert cpu_facts().cu_num == torch.get_num_threads()
    monkeypatch.setenv("AITER_MOE_THREADS", "3")
    facts = cpu_facts()
    assert (facts.gfx, facts.cu_num, facts.features) == ("cpu", 3, frozenset())
    assert cpu_launcher().facts == facts


@pytest.mark.parametrize("text", ["many", "-1", "1.5", "1025"])
def test_an_unusable_number_of_threads_is_named(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AITER_MOE_THREADS", text)
    with pytest.raises(ConfigError, match=f"AITER_MOE_THREADS='{text}'"):
        cpu_facts()


def test_there_is_one_launcher_per_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    first = cpu_launcher()
    assert cpu_launcher() is first
    monkeypatch.setenv("AITER_MOE_CPU_ISA", "portable")
    assert cpu_launcher() is cpu_launcher()
    assert cpu_launcher().facts.features == frozenset()


def test_facts_and_launcher_start_no_process_and_no_thread_and_load_no_library() -> None:
    script = """
import sys, threading
from pathlib import Path
import torch
events = []
sys.addaudithook(lambda name, args: events.append(name))
before = len(list(Path("/proc/self/task").iterdir()))
from aiter_moe.targets.cpu import cpu_facts, cpu_launcher
assert cpu_facts().gfx == "cpu" and cpu_launcher().facts.cu_num > 0
assert len(list(Path("/proc/self/task").iterdir())) == before
forbidden = ("ctypes.dlopen", "subprocess.Popen", "os.posix_spawn", "os.fork", "os.mkdir")
assert not set(forbidden) & set(events), set(forbidden) & set(events)
assert not {"pandas", "jinja2", "typer", "filelock"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_library_of_other_sources_is_refused_by_size() -> None:
    with pytest.raises(LaunchError, match="StageArgs of 12 bytes"):
        Kernel(probe_path(12))


def test_a_library_without_an_entry_point_is_refused_by_name() -> None:
    path = probe_path(ctypes.sizeof(StageArgs), without="aiter_moe_items")
    with pytest.raises(LaunchError, match="no symbol aiter_moe_items"):
        Kernel(path)


def test_a_file_that_is_no_library_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kernel.so"
    path.write_bytes(b"not an ELF file")
    with pytest.raises(LaunchError, match=str(path)):
        Kernel(path)


def test_a_kernel_beyond_the_cpus_features_is_refused() -> None:
    instance = portable_instance()
    wide = next(i for i in catalogue("cpu") if i.tile.requires)
    with pytest.raises(LaunchError, match=r"needs avx2.*missing"):
        CpuLauncher(frozenset()).run_stage(wide, StageArgs(), ())
    with pytest.raises(LaunchError, match="for target gfx950"):
        CpuLauncher(frozenset()).run_stage(replace(instance, target="gfx950"), StageArgs(), ())


class Stage(StageArgs):
    """StageArgs whose leading bytes a probe kernel reads as its own arguments."""

    def recorder(self, items: int, phases: int) -> Recorder:
        recorder = Recorder(items, phases)
        ctypes.memmove(ctypes.addressof(self), recorder.address, ctypes.sizeof(Probe))
        return recorder


def test_a_stage_runs_all_phases_in_aligned_scratch_that_only_grows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert ctypes.sizeof(Probe) <= StageArgs.scratch.offset
    loaded = []

    def load(instance: Instance) -> Kernel:
        loaded.append(instance)
        return Kernel(probe_path(ctypes.sizeof(StageArgs)))

    monkeypatch.setattr(cpu, "load_kernel", load)
    monkeypatch.setenv("AITER_MOE_THREADS", "3")
    launcher = CpuLauncher(frozenset())
    instance = portable_instance()
    addresses = []
    for items in (100, 4000, 50, 4000):
        args = Stage()
        recorder = args.recorder(items, phases=2)
        launcher.run_stage(instance, args, ())
        assert recorder.complete
        addresses.append(args.scratch)
    assert loaded == [instance]
    assert all(address % 64 == 0 for address in addresses)
    assert len(set(addresses[1:])) == 1
