# SPDX-License-Identifier: MIT
"""What encodings add to an instruction: signs, clamping and scaling of floats, half registers,
sub-dword addressing, and sources taken from other lanes."""

import numpy as np
import pytest
from gcn_asm import UNTOUCHED, Snippet, run, run_one
from vector_cases import KEEP_DENORMALS, Case, assert_same, check, values
from wave_lanes import active_lanes, random_mask

from aiter_moe.targets.emulator_report import FaultKind

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

LANES = np.arange(64)


def unit(f):
    """Return f clamped to 0 and 1; NaN gives 0."""

    def apply(*sources):
        out = f(*sources)
        return np.where(np.isnan(out), 0, np.where(out > 0, np.where(out < 1, out, 1), 0))

    return apply


@pytest.mark.parametrize("kind", ["f16", "f32", "f64"])
def test_signs_and_clamping_of_floats(kind):
    two, three = f"{kind} {kind} {kind}", f"{kind} {kind} {kind} {kind}"
    middle = (lambda a, b, c: np.sort([a, np.abs(b), -c], 0)[1]) if kind != "f64" else None
    cases = [
        Case(f"v_add_{kind}_e64 {{d}}, -{{a}}, {{b}}", two, lambda a, b: -a + b),
        Case(f"v_mul_{kind}_e64 {{d}}, |{{a}}|, -|{{b}}|", two, lambda a, b: -np.abs(a * b)),
        Case(f"v_add_{kind}_e64 {{d}}, {{a}}, {{b}} clamp", two, unit(np.add)),
        Case(f"v_mul_{kind}_e64 {{d}}, {{a}}, -{{b}} clamp", two, unit(lambda a, b: a * -b)),
        Case(f"v_floor_{kind}_e64 {{d}}, -{{a}}", f"{kind} {kind}", lambda a: np.floor(-a)),
        Case(f"v_max_{kind}_e64 {{d}}, {{a}}, {{a}} clamp", f"{kind} {kind}", unit(lambda a: a)),
    ]  # fmt: skip
    check(cases, seed=50)
    if middle:
        check([Case(f"v_med3_{kind} {{d}}, {{a}}, |{{b}}|, -{{c}}", three, middle,
                    keeps_high_half=True)], seed=51, sources=distinct)  # fmt: skip


def distinct(kind, rng, count=256):
    """Return numbers without NaN and zeros, which a sort orders otherwise."""
    return rng.normal(0, 10, count).astype(f"f{int(kind[1:]) // 8}")


def test_clamped_nan_stays_without_dx10_clamp():
    nan_kept = Case(
        "v_max_f32_e64 {d}, {a}, {a} clamp", "f32 f32",
        lambda a: np.where(np.isnan(a), np.nan, np.where(a > 0, np.where(a < 1, a, 1), 0)),
    )  # fmt: skip
    check([nan_kept], directives={"dx10_clamp": 0})


def test_output_scaling_needs_neither_ieee_rules_nor_denormals():
    scale = {"mul:2": 2, "mul:4": 4, "div:2": 0.5}
    tame = {"ieee_mode": 0, "float_denorm_mode_32": 0}

    def cases(on):
        return [
            Case(f"v_add_f32_e64 {{d}}, {{a}}, {{b}} {name}", "f32 f32 f32",
                 lambda a, b, f=f: (a + b) * np.float32(f if on else 1))
            for name, f in scale.items()
        ]  # fmt: skip

    check(cases(True), directives=tame, sources=distinct)
    check(cases(False), sources=distinct)
    clamped = Case("v_add_f32_e64 {d}, {a}, {b} clamp mul:2", "f32 f32 f32",
                   unit(lambda a, b: 2 * (a + b)))  # fmt: skip
    check([clamped], directives=tame, sources=distinct)


def half_of(word, high):
    return (word >> np.uint32(16 if high else 0)).astype(np.uint16)


@pytest.mark.parametrize("select", range(16))
def test_half_registers_of_three_sources(select):
    rng = np.random.default_rng(52)
    sources = [rng.integers(0, 1 << 32, 64, np.uint32) for _ in range(3)]
    flags = [select >> n & 1 for n in range(4)]
    text = ",".join(map(str, flags))
    mask = random_mask(rng)
    names = {
        "v_mad_u16": lambda a, b, c: a * b + c,
        "v_min3_u16": lambda a, b, c: np.min([a, b, c], 0),
        "v_max3_i16": lambda a, b, c: np.max([a, b, c], 0),
        "v_fma_f16": None,
    }
    inputs = {f"v{2 + n}": s for n, s in enumerate(sources)}
    snippets = [
        Snippet(f"half{n}", f"{name} v10, v2, v3, v4 op_sel:[{text}]", {**inputs, "exec": mask},
                ["v10"], directives=KEEP_DENORMALS)
        for n, name in enumerate(names)
    ]  # fmt: skip
    on = active_lanes(mask)
    for result, (name, f) in zip(run(snippets), names.items(), strict=True):
        parts = [half_of(s, flag) for s, flag in zip(sources, flags, strict=False)]
        parts = [p.view(np.int16) if "i16" in name else p for p in parts]
        got = result["v10"]
        keeps = flags[3] or name.startswith(("v_min3", "v_max3"))
        other = half_of(got, not flags[3])[on]
        assert (other == (0xA5A5 if keeps else 0)).all(), name
        if f:
            np.testing.assert_array_equal(half_of(got, flags[3])[on], f(*parts).view(np.uint16)[on])
        assert (got[~on] == UNTOUCHED).all()


FIELDS = {
    "BYTE_0": (0, 8), "BYTE_1": (8, 8), "BYTE_2": (16, 8), "BYTE_3": (24, 8), "WORD_0": (0, 16),
    "WORD_1": (16, 16), "DWORD": (0, 32),
}  # fmt: skip


def selected(word, name, signed=False):
    shift, bits = FIELDS[name]
    part = word.astype(np.int64) >> shift & (1 << bits) - 1
    return np.where(part >> bits - 1, part - (1 << bits), part) if signed else part


def placed(value, old, name, unused):
    shift, bits = FIELDS[name]
    mask = (1 << bits) - 1 << shift
    part = value.astype(np.int64) << shift & mask
    if unused == "UNUSED_PRESERVE":
        return part | old & ~mask & 0xFFFFFFFF
    above = 0xFFFFFFFF & ~((1 << shift + bits) - 1)
    if unused == "UNUSED_SEXT":
        return np.where(part >> shift + bits - 1 & 1, part | above, part)
    return part


def test_bytes_and_words_of_sources_and_results():
    rng = np.random.default_rng(53)
    snippets, wants = [], []
    unused = ["UNUSED_PAD", "UNUSED_SEXT", "UNUSED_PRESERVE"]
    for number in range(60):
        a, b, old = (rng.integers(0, 1 << 32, 64, np.uint32) for _ in range(3))
        to, first, second = rng.choice(list(FIELDS), 3)
        signed = rng.integers(0, 2, 2)
        rest = unused[number % 3]
        mask = random_mask(rng)
        texts = [f"sext({r})" if s else r for r, s in zip(("v2", "v3"), signed, strict=True)]
        body = (
            f"v_add_u32_sdwa v10, {texts[0]}, {texts[1]} dst_sel:{to} dst_unused:{rest} "
            f"src0_sel:{first} src1_sel:{second}"
        )
        snippets.append(Snippet(f"sdwa{number}", body,
                                {"v2": a, "v3": b, "v10": old, "exec": mask}, ["v10"]))  # fmt: skip
        total = selected(a, first, signed[0]) + selected(b, second, signed[1])
        on = active_lanes(mask)
        wants.append(np.where(on, placed(total, old.astype(np.int64), to, rest), old))
    for snippet, result, want in zip(snippets, run(snippets), wants, strict=True):
        np.testing.assert_array_equal(result["v10"], want & 0xFFFFFFFF, snippet.body)


def test_halves_of_float_sources_by_sdwa():
    rng = np.random.default_rng(54)
    a, b = (rng.normal(0, 3, (64, 2)).astype(np.float16) for _ in range(2))
    inputs = {"v2": a.view(np.uint32)[:, 0], "v3": b.view(np.uint32)[:, 0],
              "s4": np.array([0x40004400], np.uint32)}  # fmt: skip
    tail = "dst_sel:DWORD dst_unused:UNUSED_PAD"
    rows = [
        (f"v_add_f16_sdwa v10, -v2, |v3| {tail} src0_sel:WORD_1 src1_sel:WORD_0",
         -a[:, 1] + np.abs(b[:, 0])),
        (f"v_mul_f16_sdwa v10, v2, s4 {tail} src0_sel:WORD_0 src1_sel:WORD_1",
         a[:, 0] * np.float16(2)),
        (f"v_mul_f16_sdwa v10, v2, v3 clamp {tail} src0_sel:WORD_1 src1_sel:WORD_1",
         np.clip(a[:, 1] * b[:, 1], 0, 1)),
        (f"v_cvt_f32_f16_sdwa v10, v2 {tail} src0_sel:WORD_1", a[:, 1].astype(np.float32)),
        (f"v_cvt_f32_ubyte0_sdwa v10, v2 {tail} src0_sel:BYTE_3",
         (inputs["v2"] >> 24).astype(np.float32)),
    ]  # fmt: skip
    snippets = [Snippet(f"row{n}", text, inputs, ["v10"]) for n, (text, _) in enumerate(rows)]
    for result, (text, want) in zip(run(snippets), rows, strict=True):
        assert_same(result["v10"], want, 0, text)
    high = run_one(
        Snippet("high", "v_add_f16_sdwa v10, v2, v3 dst_sel:WORD_1 dst_unused:UNUSED_PRESERVE "
                "src0_sel:WORD_0 src1_sel:WORD_1", inputs, ["v10"])
    )["v10"]  # fmt: skip
    assert_same(high >> 16, a[:, 0] + b[:, 1], 0, "high half")
    assert (high & 0xFFFF == 0xA5A5).all()


def in_row(column):
    """Return the lane of a column of each lane's row, -1 outside."""
    return np.where((column >= 0) & (column < 16), LANES & ~15 | column & 15, -1)


COLUMN = LANES & 15
CONTROLS = {
    "quad_perm:[0,1,2,3]": LANES,
    "quad_perm:[3,1,0,2]": LANES & ~3 | np.array([3, 1, 0, 2])[LANES & 3],
    "quad_perm:[2,2,2,2]": LANES & ~3 | 2,
    **{f"row_shl:{n}": in_row(COLUMN + n) for n in (1, 2, 7, 15)},
    **{f"row_shr:{n}": in_row(COLUMN - n) for n in (1, 3, 8, 15)},
    **{f"row_ror:{n}": in_row(COLUMN - n & 15) for n in (1, 5, 15)},
    "wave_shl:1": np.where(LANES < 63, LANES + 1, -1),
    "wave_rol:1": LANES + 1 & 63,
    "wave_shr:1": LANES - 1,
    "wave_ror:1": LANES - 1 & 63,
    "row_mirror": in_row(15 - COLUMN),
    "row_half_mirror": LANES & ~7 | 7 - (LANES & 7),
    "row_bcast:15": np.where(LANES < 16, -1, (LANES & ~15) - 1),
    "row_bcast:31": np.where(LANES < 32, -1, 31),
    **{f"row_newbcast:{n}": in_row(np.full(64, n)) for n in (0, 3, 15)},
}


@pytest.mark.parametrize("control", CONTROLS)
def test_sources_from_other_lanes(control):
    rng = np.random.default_rng(55)
    source_lane = CONTROLS[control]
    snippets, wants = [], []
    for number in range(8):
        a, b, old = (rng.integers(0, 1 << 32, 64, np.uint32) for _ in range(3))
        mask = (1 << 64) - 1 if number < 2 else random_mask(rng)
        rows, banks = (15, 15) if number < 4 else map(int, rng.integers(0, 16, 2))
        bound = number & 1
        same = number >= 6  # the source is the destination
        body = (
            f"v_add_u32_dpp v10, {'v10' if same else 'v2'}, v3 {control} row_mask:{rows:#x} "
            f"bank_mask:{banks:#x} {'bound_ctrl:1' if bound else ''}"
        )
        snippets.append(Snippet(f"dpp{number}", body,
                                {"v2": a, "v3": b, "v10": old, "exec": mask}, ["v10"]))  # fmt: skip
        on = active_lanes(mask)
        there = (source_lane >= 0) & on[source_lane]
        moved = np.where(there, (old if same else a)[source_lane], 0).astype(np.uint32)
        enabled = (rows >> (LANES >> 4) & 1 != 0) & (banks >> (LANES >> 2 & 3) & 1 != 0)
        written = on & enabled & (there | bool(bound))
        wants.append(np.where(written, moved + b, old))
    for snippet, result, want in zip(snippets, run(snippets), wants, strict=True):
        np.testing.assert_array_equal(result["v10"], want, snippet.body)


def test_other_lanes_with_signs_and_of_two_registers():
    rng = np.random.default_rng(56)
    a, b = rng.normal(size=64).astype(np.float32), rng.normal(size=64).astype(np.float32)
    wide = rng.integers(0, 1 << 32, (2, 64), np.uint32)
    inputs = {"v2": a, "v3": b, "v[4:5]": wide, "v10": b, "v[12:13]": wide}
    tail = "row_mask:0xf bank_mask:0xf"
    shifted = CONTROLS["row_shr:1"]
    edge = shifted < 0
    turned = a[CONTROLS["row_ror:5"]]
    results = run(
        [
            Snippet("signs", f"v_mul_f32_dpp v10, -v2, |v3| row_shr:1 {tail}", inputs, ["v10"]),
            Snippet("fmac", f"v_fmac_f32_dpp v10, v2, v3 row_ror:5 {tail}", inputs, ["v10"]),
            Snippet("move", f"v_mov_b32_dpp v10, v2 row_ror:5 {tail}", inputs, ["v10"]),
            Snippet("wide", f"v_mov_b64_dpp v[12:13], v[4:5] row_newbcast:3 {tail}", inputs,
                    ["v[12:13]"]),
        ]
    )  # fmt: skip
    assert_same(results[0]["v10"], np.where(edge, b, -a[shifted] * np.abs(b)), 0, "signs")
    fused = (turned.astype(np.float64) * b + b).astype(np.float32)
    assert_same(results[1]["v10"], fused, 1, "fmac")
    assert_same(results[2]["v10"], turned, 0, "move")
    np.testing.assert_array_equal(results[3]["v[12:13]"], wide[:, CONTROLS["row_newbcast:3"]])


UNDEFINED = """
s_mov_b64 exec, 0x0000ffff
v_mov_b32 v20, 1
s_mov_b64 exec, -1
{0}
"""


@pytest.mark.parametrize(
    ("text", "fault_lane"),
    [
        ("v_not_b32 v10, v20", 16),
        ("s_mov_b64 exec, 0xffff\nv_not_b32 v10, v20", None),
        ("v_mov_b32_dpp v10, v20 row_newbcast:0 row_mask:0x1 bank_mask:0xf", None),
        ("v_mov_b32_dpp v10, v20 row_newbcast:0 row_mask:0x3 bank_mask:0xf", 16),
        ("v_mov_b32_dpp v10, v20 row_bcast:15 row_mask:0x2 bank_mask:0xf", None),
        ("v_mov_b32_dpp v10, v20 row_bcast:15 row_mask:0x4 bank_mask:0xf", 31),
        ("v_readlane_b32 s4, v20, 3", None),
        ("v_add_u32_dpp v10, v20, v2 row_newbcast:1 row_mask:0xf bank_mask:0xf", 17),
        ("v_readfirstlane_b32 s4, v20", None),
        ("v_writelane_b32 v20, 7, 20\nv_readlane_b32 s4, v20, 20", None),
        ("v_add_u32_sdwa v10, v20, v2 dst_sel:DWORD dst_unused:UNUSED_PAD src0_sel:BYTE_0 "
         "src1_sel:DWORD", 16),
        ("v_permlane32_swap_b32 v2, v20", 16),
        ("v_cndmask_b32 v10, v2, v2, s[60:61]", 0),
        ("v_add_u32 v10, s60, v2", 0),
        ("v_pk_mul_f32 v[10:11], v[2:3], v[20:21]", 16),
        ("v_lshl_add_u64 v[10:11], v[20:21], 1, v[2:3]", 16),
        ("v_cmp_eq_u32 vcc, v20, v2", 16),
    ],
)  # fmt: skip
def test_only_lanes_that_are_read_must_be_defined(text, fault_lane):
    snippet = Snippet("undefined", UNDEFINED.format(text), {"v[2:3]": np.ones((2, 64), np.uint32)})
    report = run_one(snippet, raise_on_fault=False).report
    kinds = {fault.kind for fault in report.faults}
    if fault_lane is None:
        assert not kinds, report.faults
        return
    assert kinds == {FaultKind.undefined_register}
    assert report.faults[0].lane == fault_lane


@pytest.mark.parametrize(
    ("copies", "use", "fault_lane"),
    [
        ("v_mov_b32 v21, v20", "v_not_b32 v10, v21", 16),
        ("v_mov_b32 v21, s60", "v_not_b32 v10, v21", 0),
        ("v_mov_b64 v[22:23], v[20:21]", "v_not_b32 v10, v22", 16),
        ("v_mov_b64 v[22:23], v[20:21]", "v_not_b32 v10, v23", 0),
        ("v_accvgpr_write_b32 a1, v20\nv_accvgpr_read_b32 v21, a1", "v_not_b32 v10, v21", 16),
        ("v_accvgpr_write_b32 a1, v20\nv_accvgpr_mov_b32 a2, a1\nv_accvgpr_read_b32 v21, a2",
         "v_not_b32 v10, v21", 16),
        ("v_readlane_b32 s4, v20, 17", "v_add_u32 v10, s4, v2", 0),
        ("v_readfirstlane_b32 s4, v21", "v_add_u32 v10, s4, v2", 0),
        ("v_mov_b32 v22, 1\nv_writelane_b32 v22, s60, 9", "v_not_b32 v10, v22", 9),
    ],
)  # fmt: skip
def test_copies_pass_on_that_nothing_was_written(copies, use, fault_lane):
    inputs = {"v[2:3]": np.ones((2, 64), np.uint32)}
    texts = [UNDEFINED.format(text) for text in (copies, f"{copies}\n{use}")]
    snippets = [Snippet(f"copy{n}", text, inputs) for n, text in enumerate(texts)]
    copied, used = (r.report.faults for r in run(snippets, raise_on_fault=False))
    assert not copied
    assert {fault.kind for fault in used} == {FaultKind.undefined_register}
    assert used[0].lane == fault_lane


def test_a_copy_of_what_is_in_flight_is_a_fault():
    room = np.arange(64, dtype=np.uint32)
    body = "v_lshlrev_b32 v1, 2, v3\nglobal_load_dword v20, v1, s[4:5]\nv_mov_b32 v10, v20"
    snippet = Snippet("late", f"{body}\ns_waitcnt vmcnt(0)", {"v3": room}, buffers={"s[4:5]": room})
    faults = run_one(snippet, raise_on_fault=False).report.faults
    assert {fault.kind for fault in faults} == {FaultKind.in_flight_register}


def test_data_of_the_cases_has_its_edges():
    rng = np.random.default_rng(1)
    found = values("f32", rng)
    assert np.isnan(found).any()
    assert np.isinf(found).any()
