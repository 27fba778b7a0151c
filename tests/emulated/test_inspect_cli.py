# SPDX-License-Identifier: MIT
"""``aiter-moe inspect``: tables, JSON, several kernels side by side, files, and bad names."""

from __future__ import annotations

import dataclasses
import json

import pytest
from inspected import code_object
from typer import Typer
from typer.testing import CliRunner

from aiter_moe.cli.inspect import inspect
from aiter_moe.codegen.catalogue import catalogue
from aiter_moe.enums import ActivationType, Kind
from aiter_moe.errors import ArgumentError
from aiter_moe.inspect import view
from aiter_moe.inspect.inspection import inspect_file, inspect_instance
from aiter_moe.inspect.subjects import inspections_of, instances_of

pytestmark = pytest.mark.usefixtures("gfx950_compiler")

FP4 = (
    "v_mfma_scale_f32_16x16x128_f8f6f4 v[0:3], v[4:7], v[8:11], v[0:3], v12, v13"
    " op_sel_hi:[0,0,0] cbsz:4 blgp:4"
)
LOOP = f"""
loop{{n}}:
  buffer_load_dwordx4 v[4:7], v20, s[16:19], s5 offen nt
  s_waitcnt vmcnt({{n}})
  {FP4}
  s_cbranch_scc1 loop{{n}}
"""


def run(*arguments: str) -> str:
    """Return what the command prints; its errors are raised."""
    app = Typer()
    app.command()(inspect)
    return CliRunner().invoke(app, arguments, catch_exceptions=False).stdout


@pytest.fixture
def files(tmp_path):
    found = []
    for n in (1, 2):
        path = tmp_path / f"kernel{n}.co"
        path.write_bytes(code_object({f"by_hand_{n}": LOOP.format(n=n)}))
        found.append(path)
    return found


def table(inspections, title: str) -> dict[str, tuple[str, ...]]:
    (found,) = (t for name, t in view.tables(inspections) if name.startswith(title))
    return {line[0]: line[1:] for line in found.lines}


def test_kernels_stand_side_by_side(files):
    both = [i for path in files for i in inspect_file(path)]
    assert view.legend(both) == ["A  by_hand_1 (gfx950)", "B  by_hand_2 (gfx950)"]
    loops = table(both, "hot loop")
    assert loops["instructions"] == ("4 (4.00)", "4 (4.00)")
    assert loops["least vmcnt"] == ("1", "2")
    assert "convert" not in loops  # no kernel has any
    assert table(both, "weights in flight")["a wave, at least"] == ("1.0", "2.0")
    assert view.wait_lines(both)[1] == "B  vmcnt 2; lgkmcnt -"


def test_more_kernels_than_fit_go_on_in_further_tables(files):
    many = inspect_file(files[0]) * (view.SIDE_BY_SIDE + 1)
    headers = [t.header for title, t in view.tables(many) if title == "resources"]
    assert headers == [("", *"ABCDEFGH"), ("", "I")]
    narrow = [t.header for title, t in view.tables(many, 4) if title == "resources"]
    assert narrow == [("", *"ABCD"), ("", *"EFGH"), ("", "I")]
    assert [view.label(n) for n in (0, 25, 26, 52)] == ["A", "Z", "AA", "BA"]


def test_the_command_prints_tables(files):
    text = run(*map(str, files), "--code")
    assert "A  by_hand_1 (gfx950)" in text and "waves a SIMD" in text
    assert "hot loop of by_hand_2" in text and "s_waitcnt vmcnt(2)" in text


def test_the_command_prints_json(files):
    found = json.loads(run(str(files[0]), "--json"))
    (kernel,) = found["kernels"]
    assert kernel["name"] == "by_hand_1" and kernel["resources"]["vgprs"] == 64
    assert kernel["hot_loop"]["mix"]["load"] == 1 and kernel["hot_loop"]["vmcnt"] == [1]
    assert kernel["hot_loop"]["cycles"]["bound"] == "memory"
    assert set(found["machines"]) == {"gfx950"} and "latency_s" in found["sources"]


def test_an_unknown_kernel_is_refused_with_the_nearest_names():
    told = "no kernel of gfx950 and no file gfx950_a4w4_s1_swiglu_m48; nearest are aiter_moe_gfx950"
    with pytest.raises(ArgumentError, match=told):
        run("gfx950_a4w4_s1_swiglu_m48")
    with pytest.raises(ArgumentError, match="name kernels, or a layer with --shape"):
        run()
    with pytest.raises(ArgumentError, match="--plan"):
        instances_of("zzz", "gfx950")


def test_names_parts_and_patterns_find_instances():
    some = catalogue("gfx950")[0]
    assert instances_of(some.name, "gfx950") == [some]
    assert some in instances_of(some.name.removeprefix("aiter_moe_") + "*", "gfx950")
    every = instances_of("gfx942_a16w4_s2", "gfx942")
    assert every == [i for i in catalogue("gfx942") if i.stage == 2]


def test_an_instance_is_what_its_tile_computed():
    chosen = next(
        i for i in catalogue("gfx950") if i.kind is Kind.A4W4 and i.stage == 2 and i.block_m == 64
    )
    (found,) = inspections_of([chosen.name], "gfx950")
    assert found.findings == () and found.compile_seconds > 0
    assert found.loop.mfma and found.cycles.matrix and found.unit_flight > 0
    larger = dataclasses.replace(found.kernel.resources, lds_bytes=80 * 1024, vgprs=400)
    other = dataclasses.replace(found, kernel=dataclasses.replace(found.kernel, resources=larger))
    assert [text.split(",")[0] for text in other.findings] == [
        "81920 bytes of LDS", "1 waves a SIMD (400 VGPRs)"
    ]  # fmt: skip


def test_a_split_kernel_comes_with_its_finish():
    chosen = next(
        i for i in catalogue("gfx950") if i.split_k and i.activation is ActivationType.Silu
    )
    first, finish = inspect_instance(chosen)
    assert first.name == chosen.name and first.loop is not None
    assert finish.name == chosen.name + "_finish" and finish.loop is None
    assert view.as_json([finish])["kernels"][0]["hot_loop"] is None
    assert table([first, finish], "cycles")["bound"][1] == "-"
