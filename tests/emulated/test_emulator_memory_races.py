# SPDX-License-Identifier: MIT
"""The LDS shadow: bytes never written, and races between waves, to the byte and the barrier."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import count

import numpy as np
import pytest
from gcn_asm import Snippet, run, run_one
from wave_lanes import LANES

from aiter_moe.targets.emulator_report import Fault, FaultKind

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

RACE, UNDEFINED = FaultKind.lds_race, FaultKind.undefined_lds
BARRIER = "s_waitcnt vmcnt(0) lgkmcnt(0)\ns_barrier\n"
BYTES = 4096


def snippet(name: str, body: str, waves: int = 2) -> Snippet:
    """Return code for a few waves: s20 is the wave, v1 = 4 * lane, v2 = 16 * lane, v[4:7] data."""
    lane = np.arange(LANES * waves, dtype=np.uint32) % LANES
    memory = np.zeros(BYTES // 4, np.uint32)
    resource = memory.ctypes.data | BYTES << 64 | 0x20000 << 96
    inputs = {
        "v0": np.arange(LANES * waves, dtype=np.uint32) // LANES, "v1": 4 * lane, "v2": 16 * lane,
        "v[4:7]": np.ones((4, LANES * waves), np.uint32), "s[8:11]": resource, "m0": 0,
    }  # fmt: skip
    return Snippet(
        name, f"v_readfirstlane_b32 s20, v0\n{body}", inputs, [], {"s[4:5]": memory},
        threads=LANES * waves, lds=BYTES,
    )  # fmt: skip


def faults_of(body: str, waves: int = 2, **options: int) -> list[Fault]:
    result = run_one(snippet("races", body, waves), raise_on_fault=False, **options)
    return list(result.report.faults)


LABELS = count()


def by_wave(*bodies: str) -> str:
    """Return code in which wave n runs the nth body."""
    parts = []
    for wave, body in enumerate(bodies):
        label = f"label{next(LABELS)}"
        parts += [f"s_cmp_lg_u32 s20, {wave}", f"s_cbranch_scc1 {label}", body, f"{label}:"]
    return "\n".join(parts) + "\n"


def kinds(faults: list[Fault]) -> set[FaultKind]:
    return {fault.kind for fault in faults}


@dataclass(frozen=True)
class Pair:
    """What two waves do to the LDS at the same time, after all of it was written."""

    name: str
    first: str
    second: str
    race: bool

    def __str__(self) -> str:
        return self.name


FILL = "ds_write_b128 v2, v[4:7]\nds_write_b128 v2, v[4:7] offset:1024\n"
PAIRS = [
    Pair("write_read", "ds_write_b32 v1, v4", "ds_read_b32 v8, v1", True),
    Pair("write_write", "ds_write_b32 v1, v4", "ds_write_b32 v1, v4", True),
    Pair("read_read", "ds_read_b32 v8, v1", "ds_read_b128 v[8:11], v2", False),
    Pair("apart", "ds_write_b128 v2, v[4:7]", "ds_write_b128 v2, v[4:7] offset:1024", False),
    Pair("one_dword", "ds_write_b32 v1, v4", "ds_read_b32 v8, v1 offset:252", True),
    Pair("next_dword", "ds_write_b32 v1, v4", "ds_read_b32 v8, v1 offset:256", False),
    Pair("bytes_of_a_dword", "ds_write_b8 v1, v4", "ds_write_b8 v1, v4 offset:1", False),
    Pair("same_byte", "ds_write_b8 v1, v4 offset:1", "ds_read_u8 v8, v1 offset:1", True),
    Pair("halves_of_a_dword", "ds_write_b16 v1, v4", "ds_read_u16 v8, v1 offset:2", False),
    Pair("byte_of_a_dword", "ds_write_b8 v1, v4 offset:3", "ds_read_b32 v8, v1", True),
    Pair("half_across_dwords", "ds_write_b16 v1, v4 offset:3", "ds_read_u8 v8, v1 offset:4", True),
    Pair("byte_behind_it", "ds_write_b16 v1, v4 offset:3", "ds_read_u8 v8, v1 offset:5", False),
    Pair("unaligned", "ds_write_b64 v2, v[4:5] offset:3", "ds_read_u8 v8, v2 offset:10", True),
    Pair("unaligned_apart", "ds_write_b64 v2, v[4:5] offset:3",
         "ds_read_u8 v8, v2 offset:11", False),
    Pair("three_dwords", "ds_write_b96 v2, v[4:6]", "ds_read_b32 v8, v2 offset:12", False),
    Pair("third_of_three", "ds_write_b96 v2, v[4:6]", "ds_read_b32 v8, v2 offset:8", True),
    Pair("second_of_two", "ds_write2_b32 v2, v4, v5 offset0:0 offset1:2",
         "ds_read_b32 v8, v2 offset:8", True),
    Pair("between_two", "ds_write2_b32 v2, v4, v5 offset0:0 offset1:2",
         "ds_read_b32 v8, v2 offset:4", False),
    Pair("atomics", "ds_add_u32 v1, v4", "ds_add_u32 v1, v4", False),
    Pair("atomic_read", "ds_add_u32 v1, v4", "ds_read_b32 v8, v1", True),
    Pair("atomic_write", "ds_write_b32 v1, v4", "ds_max_u32 v1, v4", True),
    Pair("own_write_then_others_atomic", "ds_add_u32 v1, v4\nds_write_b32 v1, v4",
         "ds_add_u32 v1, v4", True),
    Pair("dma_read", "buffer_load_dword v1, s[8:11], 0 offen lds\ns_waitcnt vmcnt(0)",
         "ds_read_b32 v8, v1", True),
    Pair("dma_dma", "buffer_load_dword v1, s[8:11], 0 offen lds\ns_waitcnt vmcnt(0)",
         "buffer_load_dword v1, s[8:11], 0 offen lds\ns_waitcnt vmcnt(0)", True),
    Pair("dma_apart", "buffer_load_dword v1, s[8:11], 0 offen lds",
         "ds_write_b32 v1, v4 offset:256", False),
    Pair("masked_lanes", "s_mov_b64 exec, 1\nds_write_b32 v1, v4",
         "s_mov_b64 exec, 2\nds_write_b32 v1, v4", False),
    Pair("one_lane", "s_mov_b64 exec, 0x8000\nds_write_b32 v1, v4",
         "s_mov_b64 exec, 0xc000\nds_read_b32 v8, v1", True),
]  # fmt: skip


SEEDS = range(6)


@cache
def faults_of_pairs() -> dict[str, tuple[list[set[FaultKind]], list[Fault]]]:
    """Return the kinds of each pair at once, by seed, and the faults with a barrier between."""
    at_once = [snippet(p.name, by_wave(FILL) + BARRIER + by_wave(p.first, p.second)) for p in PAIRS]
    apart = [
        snippet(
            p.name,
            by_wave(FILL) + BARRIER + by_wave(p.first) + "s_mov_b64 exec, -1\n" + BARRIER
            + by_wave("", p.second),
        )
        for p in PAIRS
    ]  # fmt: skip
    by_seed = [run(at_once, seed=seed, raise_on_fault=False) for seed in SEEDS]
    separated = run(apart, raise_on_fault=False)
    return {
        pair.name: (
            [kinds(list(results[n].report.faults)) for results in by_seed],
            list(separated[n].report.faults),
        )
        for n, pair in enumerate(PAIRS)
    }


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_two_waves_at_once(pair: Pair) -> None:
    """Whatever the order of the waves, and never with a barrier between them."""
    by_seed, separated = faults_of_pairs()[pair.name]
    racing = {RACE, FaultKind.in_flight_lds} if "dma" in pair.name else {RACE}
    for found in by_seed:
        assert bool(found) == pair.race
        assert found <= racing
    assert separated == []


@pytest.mark.parametrize("waves", [3, 4, 16])
def test_a_reader_among_many_is_found(waves: int) -> None:
    bodies = ["ds_read_b32 v8, v1", *["ds_read_b32 v8, v1 offset:256"] * (waves - 2)]
    writer = "ds_write_b32 v1, v4 offset:{}"
    for offset, race in ((0, True), (256, True), (512, False)):
        code = by_wave(FILL) + BARRIER + by_wave(*bodies, writer.format(offset))
        assert kinds(faults_of(code, waves)) == ({RACE} if race else set())


def test_waves_that_share_dwords_are_told_apart_by_byte() -> None:
    """Four waves, each a byte of every dword: fine, until one takes its neighbour's too."""
    own = [f"ds_write_b8 v1, v4 offset:{n}\nds_read_u8 v8, v1 offset:{n}" for n in range(4)]
    assert faults_of(by_wave(*own), 4) == []
    greedy = [*own[:2], own[2] + "\nds_read_u8 v8, v1 offset:1", own[3]]
    assert RACE in kinds(faults_of(by_wave(*greedy), 4))


@pytest.mark.parametrize("name", ["write", "read", "dma"])
def test_what_has_not_landed_at_a_barrier_is_not_separated_by_it(name: str) -> None:
    early, wait, other, kind = {
        "write": ("ds_write_b32 v1, v4", "lgkmcnt(0)", "ds_read_b32 v8, v1", RACE),
        "read": ("ds_read_b32 v8, v1", "lgkmcnt(0)", "ds_write_b32 v1, v4", RACE),
        "dma": ("buffer_load_dword v1, s[8:11], 0 offen lds", "vmcnt(0)", "ds_read_b32 v8, v1",
                FaultKind.in_flight_lds),
    }[name]  # fmt: skip
    fill = by_wave(FILL) + BARRIER
    hasty = fill + by_wave(early) + "s_barrier\n" + by_wave("", other)
    patient = fill + by_wave(f"{early}\ns_waitcnt {wait}") + "s_barrier\n" + by_wave("", other)
    twice = fill + by_wave(early) + "s_barrier\ns_barrier\n" + by_wave("", other)
    # A load lands when its wave ends, at the latest: then it is a race with the other's read.
    either = {kind, RACE} if name == "dma" else {kind}
    for seed in range(4):
        for code in (hasty, twice):
            found = kinds(faults_of(code, seed=seed))
            assert found and found <= either
        assert faults_of(patient, seed=seed) == []


def test_a_wait_behind_the_barrier_lands_behind_it() -> None:
    """The wave that issued the load must wait for it before the barrier, not after."""
    load = by_wave("buffer_load_dword v1, s[8:11], 0 offen lds")
    late = load + "s_barrier\ns_waitcnt vmcnt(0)\n" + by_wave("", "ds_read_b32 v8, v1")
    right = load + "s_waitcnt vmcnt(0)\ns_barrier\n" + by_wave("", "ds_read_b32 v8, v1")
    for seed in range(4):
        assert kinds(faults_of(late, seed=seed)) & {RACE, FaultKind.in_flight_lds}
        assert faults_of(right, seed=seed) == []


def test_loads_in_flight_across_barriers_are_no_race() -> None:
    """A ring of two stages: one is read while the other is filled."""
    body = """
    s_mov_b32 m0, 0
    buffer_load_dword v1, s[8:11], 0 offen lds
    s_mov_b32 m0, 512
    buffer_load_dword v1, s[8:11], 0 offen lds
    s_waitcnt vmcnt(1)
    s_barrier
    ds_read_b32 v8, v1
    s_waitcnt vmcnt({left}) lgkmcnt(0)
    s_barrier
    s_mov_b32 m0, {refill}
    buffer_load_dword v1, s[8:11], 0 offen lds
    ds_read_b32 v9, v1 offset:512
    """
    one = by_wave("s_nop 0", "s_endpgm") + body
    assert faults_of(one.format(left=0, refill=0)) == []
    assert kinds(faults_of(one.format(left=1, refill=0))) == {FaultKind.in_flight_lds}
    assert kinds(faults_of(one.format(left=0, refill=512))) == {FaultKind.in_flight_lds}


@pytest.mark.parametrize(
    ("writes", "reads", "lane"),
    [
        ("", "ds_read_b32 v8, v1", 0),
        ("ds_write_b32 v1, v4", "ds_read_b32 v8, v1 offset:4", 63),
        ("ds_write_b8 v1, v4", "ds_read_b32 v8, v1", 0),
        ("ds_write_b16 v1, v4\nds_write_b8 v1, v4 offset:2", "ds_read_u16 v8, v1 offset:2", 0),
        ("s_mov_b64 exec, 0x7\nds_write_b32 v1, v4\ns_mov_b64 exec, -1", "ds_read_b32 v8, v1", 3),
        ("ds_write_b96 v2, v[4:6]", "ds_read_b128 v[8:11], v2", 0),
        ("ds_write_b128 v2, v[4:7]", "ds_read_b128 v[8:11], v2 offset:512", 32),
        ("ds_write_b32 v1, v4", "ds_read2_b32 v[8:9], v1 offset0:0 offset1:60", 4),
        ("ds_write_b8 v1, v4", "ds_add_u32 v1, v4", 0),
        ("buffer_load_dword v1, s[8:11], 0 offen lds\ns_waitcnt vmcnt(0)",
         "ds_read_b64 v[8:9], v1", 63),
    ],
)  # fmt: skip
def test_bytes_never_written(writes: str, reads: str, lane: int) -> None:
    (fault,) = faults_of(f"{writes}\n{reads}", 1)
    assert (fault.kind, fault.lane) == (UNDEFINED, lane)
    assert faults_of(f"{FILL}s_waitcnt lgkmcnt(0)\n{writes}\n{reads}", 1) == []


def test_every_workgroup_starts_with_nothing_written() -> None:
    """Many on few threads, so that they reuse memory; the second half forgets to write."""
    memory = np.zeros(4, np.uint32)
    body = """
    s_cmp_lt_u32 s2, {first_forgetful}
    s_cbranch_scc0 skip
    ds_write_b32 v1, v4
    skip:
    s_waitcnt lgkmcnt(0)
    ds_read_b32 v8, v1
    """
    for first, wrong in ((100, 0), (50, 50)):
        groups = Snippet(
            "groups", body.format(first_forgetful=first), {"v1": 0, "v4": 1}, [],
            {"s[4:5]": memory}, grid=(100, 1, 1), lds=64,
        )  # fmt: skip
        faults = run_one(groups, raise_on_fault=False).report.faults
        assert sum(fault.occurrences for fault in faults) == wrong
        assert kinds(list(faults)) == ({UNDEFINED} if wrong else set())


def test_many_barriers() -> None:
    """More epochs than a tag counts: what is written stays written, races are still found."""
    body = by_wave(FILL) + BARRIER + """
    s_mov_b32 s21, 70000
    again:
    s_barrier
    s_sub_u32 s21, s21, 1
    s_cmp_lg_u32 s21, 0
    s_cbranch_scc1 again
    """ + "{}"  # fmt: skip
    read = "ds_read_b32 v8, v1\n"
    assert faults_of(body.format(read)) == []
    assert kinds(faults_of(body.format(read + by_wave("ds_write_b32 v1, v4")))) == {RACE}
    assert kinds(faults_of(body.format("ds_read_b32 v8, v1 offset:3072"))) == {UNDEFINED}
