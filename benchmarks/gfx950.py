# SPDX-License-Identifier: MIT
"""Print benchmarks/gfx950.md: what the machine code of the gfx950 kernels is, beside its peers'.

Everything is read from the code that the compiler made; no GPU is used. Figures of peers are those
of the same analysis of what they compile to with the same compiler or ship as code objects.

    python benchmarks/gfx950.py > benchmarks/gfx950.md
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiter_moe.codegen.build import build_many
from aiter_moe.codegen.cache import ArtifactCache
from aiter_moe.codegen.catalogue import Family, catalogue, of_family
from aiter_moe.codegen.codeobject import combined_resources
from aiter_moe.codegen.instance import Instance
from aiter_moe.codegen.render import render
from aiter_moe.codegen.unit import BuildReport
from aiter_moe.enums import ActivationType, Kind
from aiter_moe.errors import ToolchainError
from aiter_moe.inspect.inspection import Inspection, inspect_instance
from aiter_moe.inspect.instructions import VECTOR_ALU, Group
from aiter_moe.inspect.machine import MACHINES, SOURCES
from aiter_moe.inspect.shape import Tier, tiers_of
from aiter_moe.inspect.shape_view import promised
from aiter_moe.pipeline import chain
from aiter_moe.tuning.model_shapes import MODELS

TARGET = "gfx950"
DECODE_ROWS = 32
FLIGHT_KIB = 32
TOKENS = (1, 2, 4, 8, 16, 32, 128, 1024, 4096, 16384)
BOUND_TOKENS = (1, 16, 128, 1024, 16384)
SHOWN_SHAPES = ("gptoss-20b", "deepseek-r1-tp8", "minimax-m2-tp8", "qwen3-235b-tp4")


@dataclass(frozen=True)
class Limit:
    """A row of the table of hot loops.

    Attributes
    ----------
    kind, stages, block_m, weight_rows : Kind, tuple of int, int, int
        Which of our kernels it is about: weight rows of a workgroup are gate and up together.
    peers : str
        Instructions per MFMA of the best peers.
    most : float
        What ours may take.
    """

    name: str
    kind: Kind
    stages: tuple[int, ...]
    block_m: int
    weight_rows: int
    peers: str
    most: float


LIMITS = (
    Limit("a4w4 stage 1, 32 x (128+128)", Kind.A4W4, (1,), 32, 256,
          "asm MoE 2.92, CK 3.62, FlyDSL 4.38", 2.9),
    Limit("a4w4 stage 1, 64 x (128+128)", Kind.A4W4, (1,), 64, 256,
          "asm 2.66, CK 2.81, FlyDSL 3.35", 2.3),
    Limit("a4w4 stage 1, 128 x (128+128)", Kind.A4W4, (1,), 128, 256,
          "asm 2.11, CK 2.52 (spills), FlyDSL 2.83", 2.1),
    Limit("a4w4 stage 2, 64 x 128", Kind.A4W4, (2,), 64, 128,
          "CK 4.00, Triton 5.88", 3.0),
    Limit("a16w4, 16 x 128", Kind.A16W4, (1, 2), 16, 128,
          "FlyDSL 7.04, CK-tile 8.94", 6.8),
    Limit("a16w4, 32 x 256", Kind.A16W4, (1, 2), 32, 256,
          "FlyDSL 4.34, CK-tile 5.30", 4.2),
    Limit("a16w4, 64 x 256", Kind.A16W4, (1, 2), 64, 256,
          "FlyDSL 3.26 (spills), CK-tile 3.54", 3.2),
)  # fmt: skip
LOOP_NOTE = """\
A row holds if all kernels of the tile do, without spill, scratch, vmcnt(0) or VALU for addresses
in the loop. Peers: asm is aiter's hand-written code objects (hsa/gfx950 of the amd-aiter wheel;
f4gemm and fmoe mxfp4), disassembled. CK is Composable Kernel of the amd-aiter 0.1.7 wheel with
aiter's tiles, by the same clang as our kernels. FlyDSL 0.4.2 and Triton 3.9.0 come with their own
LLVM; FlyDSL unrolls the whole reduction, so its figure is the kernel over its steps. All counted
in the innermost loop with the most MFMAs, as ours are."""


def tables(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown."""
    rows = [header, ["---"] * len(header), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def span(values: Iterable[float], digits: int = 2) -> str:
    """Return the least and the greatest of some figures."""
    ordered = sorted(values)
    least, most = (f"{value:.{digits}f}" for value in (ordered[0], ordered[-1]))
    return least if least == most else f"{least} to {most}"


def weight_rows(inspection: Inspection) -> int:
    """Return the weight rows of a workgroup, gate and up together."""
    told = inspection.declared
    assert told is not None and inspection.instance is not None
    return told.columns * (2 if inspection.instance.stage == 1 else 1)


def by_limit(limit: Limit, inspections: Sequence[Inspection]) -> list[Inspection]:
    """Return our kernels that a limit is about."""
    return [
        i
        for i in inspections
        if i.instance is not None
        and i.instance.kind is limit.kind
        and i.instance.stage in limit.stages
        and i.instance.block_m == limit.block_m
        and not i.instance.tile.direct
        and weight_rows(i) == limit.weight_rows
    ]


def clean(inspection: Inspection) -> bool:
    """Say whether a kernel neither spills nor drains its queue nor makes addresses in the loop."""
    return not inspection.findings


def hot_loops(inspections: Sequence[Inspection]) -> str:
    """Return the table of limits: instructions per MFMA, ours beside the peers'."""
    lines = []
    for limit in LIMITS:
        ours = by_limit(limit, inspections)
        figures = [i.loop.per_mfma for i in ours if i.loop]
        best = min(ours, key=lambda i: i.loop.per_mfma if i.loop else float("inf"), default=None)
        holds = bool(figures) and max(figures) <= limit.most and all(map(clean, ours))
        lines.append(
            (
                limit.name, limit.peers, f"{limit.most}", span(figures) if figures else "none",
                str(len(ours)), "yes" if holds else "NO", f"`{short(best)}`" if best else "-",
            )
        )  # fmt: skip
    header = ("kind, rows x columns", "best peers", "at most", "ours", "kernels", "holds", "best")
    return tables(header, lines)


def short(inspection: Inspection) -> str:
    """Return a kernel's name without what all of ours begin with."""
    return inspection.name.removeprefix(f"aiter_moe_{TARGET}_")


def every_loop(inspections: Sequence[Inspection]) -> str:
    """Return a line per tile: registers, occupancy, loop, bytes in flight, bound."""
    lines = []
    for i in inspections:
        loop, cycles, flight = i.loop, i.cycles, i.flight
        if loop is None or cycles is None or flight is None:
            continue
        memory = loop.mix[Group.LOAD] + loop.mix[Group.LOAD_TO_LDS]
        lds = loop.mix[Group.LDS_READ] + loop.mix[Group.LDS_WRITE]
        counts = (
            loop.mix[Group.CONVERT],
            sum(loop.mix[g] for g in VECTOR_ALU) - loop.mix[Group.CONVERT],
            lds, memory, loop.mix[Group.WAIT] + loop.mix[Group.BARRIER], loop.mix[Group.NOP],
            loop.mix[Group.SALU],
        )  # fmt: skip
        least = "-" if loop.least_vmcnt is None else str(loop.least_vmcnt)
        lines.append(
            (
                f"`{short(i)}`", f"{i.kernel.resources.vgprs}", f"{i.kernel.resources.lds_bytes}",
                f"{i.occupancy.groups} x {i.occupancy.waves_a_group}", f"{loop.per_mfma:.2f}",
                *(f"{count / loop.mfma:.2f}" for count in counts), least,
                f"{(i.unit_flight or 0) / 1024:.0f}",
                " / ".join(f"{value:.0f}" for value in cycles.named().values()),
                "; ".join(i.findings) or "-",
            )
        )  # fmt: skip
    header = (
        "kernel", "VGPR", "LDS", "groups x waves a CU", "per MFMA", "convert", "VALU", "LDS r/w",
        "loads", "wait, barrier", "nop", "SALU", "vmcnt", "KiB in flight a CU",
        "cycles: matrix / issue / LDS / memory", "findings",
    )  # fmt: skip
    return tables(header, lines)


def in_flight(inspections: Sequence[Inspection]) -> str:
    """Return the bytes of weights that decode kernels keep in flight on a full compute unit."""
    lines = []
    for i in inspections:
        if i.instance is None or i.instance.block_m > DECODE_ROWS or i.flight is None:
            continue
        kib = (i.unit_flight or 0) / 1024
        lines.append(
            (
                f"`{short(i)}`", f"{i.flight.least / 1024:.1f}", f"{i.flight.most / 1024:.1f}",
                f"{i.occupancy.groups} x {i.occupancy.waves_a_group}",
                f"{kib:.0f}", "yes" if kib >= FLIGHT_KIB else "NO",
            )
        )  # fmt: skip
    header = ("kernel", "KiB a wave, least", "most", "groups x waves a CU", "KiB a CU, least",
              f"at least {FLIGHT_KIB}")  # fmt: skip
    return tables(header, lines)


def chains(tiers: dict[str, list[Tier]]) -> str:
    """Return how many device kernels a call has, and which."""
    lines = []
    for name, found in tiers.items():
        groups: dict[tuple[str, ...], list[Tier]] = defaultdict(list)
        for tier in found:
            few = str(promised(tier.tokens))
            groups[str(tier.plan.problem.kind), few, in_order(tier)].append(tier)
        for (kind, few, text), alike in groups.items():
            count = len(alike[0].kernels)
            tokens = ", ".join(str(tier.tokens) for tier in alike)
            holds = "yes" if count <= int(few) else "NO"
            lines.append((name, kind, tokens, str(count), few, holds, text))
    header = ("layer", "kind", "tokens", "kernels", "at most", "holds", "in order")
    return tables(header, lines)


def in_order(tier: Tier) -> str:
    """Return what the kernels of a call do, one after the other."""
    roles = [kernel_role(symbol) for symbol in chain(tier.plan)]
    times = len(tier.kernels) // len(roles)
    return (f"{times} runs of " if times > 1 else "") + ", ".join(roles)


def kernel_role(symbol: str) -> str:
    """Return what a device kernel does, of its symbol."""
    words = symbol.removeprefix("aiter_moe_").split("_")
    for stage in ("s1", "s2"):
        if stage in words:
            finish = " finish" if words[-1] == "finish" else ""
            return f"stage {stage[1]}{' direct' * ('direct' in words)}{finish}"
    return symbol.removeprefix("aiter_moe_step_")


def stage_bounds(tiers: dict[str, list[Tier]]) -> str:
    """Return what bounds the stages of the layers."""
    lines = []
    for name, found in tiers.items():
        for tier in (t for t in found if t.tokens in BOUND_TOKENS):
            cells = []
            for _, cost in tier.stages:
                if cost is None:
                    cells += ["-", "-"]
                    continue
                times = cost.microseconds.named().values()
                cells += [" / ".join(f"{value:.1f}" for value in times), cost.bound]
            kind, block_m = str(tier.plan.problem.kind), str(tier.plan.block_m)
            lines.append((name, kind, str(tier.tokens), block_m, *cells))
    header = ("layer", "kind", "tokens", "block_m", "stage 1: matrix / issue / LDS / memory us",
              "bound", "stage 2", "bound")  # fmt: skip
    return tables(header, lines)


def build(instances: Sequence[Instance], jobs: int) -> tuple[list[BuildReport], float]:
    """Build kernels without any cache and return the reports and the seconds it took."""
    units = [render(instance) for instance in instances]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        reports = list(build_many(units, jobs, ArtifactCache(Path(folder))))
        return reports, time.perf_counter() - start


def build_lines(reports: Sequence[BuildReport], seconds: float, jobs: int) -> str:
    """Return how long the catalogue takes to compile, and what spills."""
    made = [r.artifact for r in reports if r.artifact is not None]
    each = sorted(float(a.manifest["seconds"]) for a in made)
    worst = [combined_resources(a.manifest["resources"]["kernels"]) for a in made]
    lines = {
        "kernels": len(reports),
        "failed": len(reports) - len(made),
        "the whole catalogue": f"{seconds:.0f} s with {jobs} compilers at a time",
        "seconds of a compiler": f"{sum(each) / len(each):.2f} on average, "
        f"{each[len(each) // 2]:.2f} median, {each[-1]:.2f} at most, {sum(each):.0f} in all",
        "spilled registers": sum(figures["spills"] for figures in worst),
        "bytes of scratch": sum(figures["scratch_bytes"] for figures in worst),
    }
    return "\n".join(f"* {name}: {figure}" for name, figure in lines.items())


def verified(path: Path | None) -> str:
    """Return what `aiter-moe verify --json` found, if its file is at hand."""
    if path is None:
        return "Run the command; its exit status is 0 if every kernel passes with every check on."
    found = json.loads(path.read_text())
    kernels = found["kernels"]
    wrong = [k["name"] for k in kernels if not k["right"]]
    cases = sum(len(k["cases"]) for k in kernels)
    return f"{len(kernels)} kernels in {cases} cases, {len(wrong)} wrong{': ' * bool(wrong)}" + (
        ", ".join(wrong) + "."
    )


def covering() -> list[Instance]:
    """Return every tile once: other activations differ in the epilogue alone."""
    return [i for i in catalogue(TARGET) if i.activation in (None, ActivationType.Swiglu)]


def cktile_loops() -> str:
    """Return CK-tile's kernels by the same figures, or why they are not there."""
    try:
        instances = of_family(TARGET, Family.CKTILE)
    except ToolchainError as error:
        return f"Left out: {error}."
    wanted = [i for i in instances if i.activation in (None, ActivationType.Swiglu)]
    return every_loop([inspect_instance(i)[0] for i in wanted])


def layers(names: Iterable[str]) -> dict[str, list[Tier]]:
    """Return the tiers of the packaged layers of these names."""
    return {m.name: tiers_of(m, TARGET, tuple(Kind), TOKENS) for m in MODELS if m.name in names}


def flight_note() -> str:
    """Return what the bytes in flight are, and where their limit comes from."""
    machine = MACHINES[TARGET]
    rate, latency = machine.memory_bytes_per_s / 1e12, machine.latency_s * 1e6
    return (
        "Bytes of weights between request and the strictest wait of a turn, all waves of a full "
        f"CU; {rate:.0f} TB/s times an assumed {latency:.0f} us over {machine.compute_units} CUs "
        f"is {machine.bytes_in_flight / 1024:.1f} KiB."
    )


def sections(options: argparse.Namespace) -> Iterator[tuple[str, str, str]]:
    """Yield title, command and text of each part of the page."""
    this, layer = "python benchmarks/gfx950.py", "aiter-moe inspect --shape gptoss-20b"
    chosen = covering()
    for report in build_many([render(instance) for instance in chosen], options.jobs):
        if report.error is not None:
            raise report.error
    found = [inspect_instance(instance)[0] for instance in chosen]
    tiers = layers(SHOWN_SHAPES)
    verify = "aiter-moe verify --target gfx950 --json FILE"
    yield "Every kernel, executed and compared", verify, verified(options.verify)
    yield "Instructions per MFMA in the hot loop", this, f"{hot_loops(found)}\n\n{LOOP_NOTE}"
    yield "Device kernels of a `fused_moe` call", layer, chains(tiers)
    yield (
        "Weights in flight of the decode kernels",
        this,
        f"{in_flight(found)}\n\n{flight_note()}",
    )
    if options.build:
        told = build_lines(*build(catalogue(TARGET), options.jobs), options.jobs)
        yield "Build", f"{this} --build", told
    yield "What bounds a stage", layer, stage_bounds(tiers)
    yield "Every tile", "aiter-moe inspect gfx950_a4w4_s1_swiglu", every_loop(found)
    if options.cktile:
        yield "CK-tile by the same figures", f"{this} --cktile", cktile_loops()
    sources = (f"* {name}: {source}" for name, source in SOURCES.items())
    yield "Figures of the device", "aiter-moe inspect NAME --json", "\n".join(sources)


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--build", action="store_true", help="time a build without any cache")
    parser.add_argument("--verify", type=Path, help="what `aiter-moe verify --json` wrote")
    parser.add_argument("--cktile", action="store_true", help="also compile CK-tile's kernels")
    options = parser.parse_args()
    print(f"# gfx950: what the kernels compile to\n\n{__doc__.partition(chr(10) * 2)[2].strip()}")
    for title, command, text in sections(options):
        print(f"\n## {title}\n\n`{command}`\n\n{text}")


if __name__ == "__main__":
    main()
