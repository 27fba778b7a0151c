# SPDX-License-Identifier: MIT
"""Time whole MoE layers on this CPU beside the peers that PyPI has, in turns, in one run.

From router output to layer output, with the same weights and routing for all; the routed experts
change from call to call, so that weights come from memory. Every peer has a process of its own,
which is stopped while another computes, so none spins and each keeps the waiting policy and the
settings it comes with. A burst of calls begins with one that is not counted, which wakes threads;
calls longer than 20 ms come alone. The figures are medians over bursts. The machine's limits are
measured in the same rounds. Peers that are not installed or that cannot run here are named.

    python benchmarks/cpu_peers.py --install all     # or some: ggml, onnxruntime, ...
    python benchmarks/cpu_peers.py                   # benchmarks/cpu_peers.{json,md,svg}
    python benchmarks/cpu_peers.py --quick --layers minimax-m2-tp8 --peers ggml "torch bf16"
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import platformdirs
from peers import layers, table
from peers.catalogue import OTHERS, OURS, PACKAGES
from peers.install import InstallError, install, is_installed
from peers.limits import LIMITS, dots
from peers.peer import Peer, install_command
from peers.plot import svg
from peers.process import PeerFailedError, PeerProcess
from peers.reference import reference
from peers.results import Absence, Run
from peers.runner import Case, Pace, load, measure
from peers.usage import busy_seconds, process_seconds

from aiter_moe import env
from aiter_moe.targets.cpu_features import read_cpuinfo

HERE = Path(__file__).resolve().parent
LAYERS = ("gptoss-20b", "minimax-m2-tp8")
TOKENS = (1, 4, 16, 64, 128, 512)
QUICK = Pace(rounds=3, cell_s=0.6, least_rounds=2)
START_S = 120.0
CHANGING = ("date", "command")
RESULTS = ":!cpu_peers.[jms]*"


@dataclass(frozen=True, slots=True)
class Bench:
    """What a run is made with.

    Attributes
    ----------
    root : Path
        Where packages, weights and references are kept.
    peers : tuple of Peer
        Columns, as far as they are installed.
    """

    root: Path
    peers: tuple[Peer, ...]
    tokens: tuple[int, ...]
    threads: int
    pace: Pace

    def folder(self, peer: Peer) -> Path | None:
        """Return where a peer's package lies."""
        return self.root / peer.package.name if peer.package else None


@dataclass(slots=True)
class Results:
    """The run so far, in memory and on disk: `output` without a suffix."""

    run: Run
    output: Path

    def keep(self, run: Run) -> None:
        """Take a longer run, and write it."""
        self.run = run
        run.save(self.output.with_suffix(".json"))
        if run.rows:
            self.output.with_suffix(".md").write_text(table.page(run, note()), encoding="utf-8")
            self.output.with_suffix(".svg").write_text(svg(run), encoding="utf-8")


def note() -> str:
    """Return what this file says of its method."""
    return (__doc__ or "").split("\n\n")[1]


def commit() -> str:
    """Return the commit of this tree, marked where files but results differ from it."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(HERE), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        head = git("rev-parse", "--short", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ":/", RESULTS)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("-changed" if changed else "")


def memory() -> str:
    """Return the sizes of caches and memory as Linux tells them."""
    caches = []
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        told = {name: (folder / name).read_text().strip() for name in ("level", "type", "size")}
        if told["type"] != "Instruction":
            caches.append(f"L{told['level']} {told['size']}")
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return ", ".join([*caches, f"{size / 2**30:.0f} GiB of memory"])


def facts(threads: int, peers: Sequence[Peer]) -> dict[str, str]:
    """Return machine, versions and command as text by name."""
    info = read_cpuinfo()
    wanted = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512vbmi", "avx512_bf16", "amx_tile")
    has = " ".join(name for name in wanted if name in info.features)
    tuned = [text for text in env.CONFIG.text().split(os.pathsep) if text]
    packages = [peer.package for peer in peers if peer.package is not None]
    sources = [package.source or package.requires[0] for package in packages]
    return {
        "CPU": f"{info.product or platform.machine()}, {threads} threads; {has or 'no AVX2'}",
        "memory": memory(),
        "tuned rows": ", ".join(Path(text).name for text in tuned) or "none",
        "versions": f"{platform.system()}, Python {platform.python_version()}, "
        f"torch {version('torch')}, aiter_moe {version('aiter_moe')} at {commit()}",
        "packages": ", ".join(dict.fromkeys(sources)) or "none",
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "command": shlex.join(["python", "benchmarks/cpu_peers.py", *sys.argv[1:]]),
        **{f"dot product of {kind}": name for kind, name in dots().items()},
    }


def resumed(path: Path, new: Run) -> Run:
    """Return `new` with the rows that the same tree and machine wrote into a file, if any."""
    try:
        old = Run.from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError):
        return new

    def lasting(run: Run) -> dict[str, str]:
        return {name: text for name, text in run.facts.items() if name not in CHANGING}

    if lasting(old) != lasting(new):
        return new
    rows = tuple(row for row in old.rows if row.layer in new.layers)
    told = tuple(absence for absence in old.absences if absence.layer in new.layers)
    return replace(new, rows=rows, absences=(*new.absences, *told), memory=old.memory)


@contextmanager
def running(
    bench: Bench, failed: Callable[[str, str], None]
) -> Iterator[tuple[dict[str, PeerProcess], PeerProcess]]:
    """Give the processes of the peers that start, by column, and that of the limits."""
    with ExitStack() as stack:
        machine = stack.enter_context(PeerProcess(LIMITS, None, bench.threads))
        machine.start(START_S)
        started = {}
        for peer in bench.peers:
            process = PeerProcess(peer, bench.folder(peer), bench.threads)
            stack.callback(process.end)
            try:
                process.start(START_S)
                started[peer.name] = process
            except PeerFailedError as error:
                failed(peer.name, str(error))
        yield started, machine


@contextmanager
def other_load(pids: Sequence[int]) -> Iterator[list[float]]:
    """Give a list that holds, afterwards, how many cores processes but these kept busy."""
    begin, busy, own = time.perf_counter(), busy_seconds(), process_seconds(pids)
    found: list[float] = []
    yield found
    others = busy_seconds() - busy - (process_seconds(pids) - own)
    found.append(max(0.0, others / (time.perf_counter() - begin)))


def run_layer(bench: Bench, name: str, results: Results) -> None:
    """Measure the rows of a layer that are not there yet, keeping each."""
    tokens = [count for count in bench.tokens if not results.run.has(name, count)]
    if not tokens:
        return
    layers.weights_file(name, bench.root)
    wanted = reference(name, bench.root)

    def failed(peer: str, reason: str) -> None:
        results.run = results.run.with_absence(Absence(peer, name, reason))
        print(f"  {peer}: {reason}", flush=True)

    with running(bench, failed) as (processes, machine):

        def rates() -> dict[str, float]:
            found: dict[str, float] = machine.ask(START_S, do="rates", threads=bench.threads)[
                "rates"
            ]
            return found

        print(f"{name} ({results.run.layers[name]}): loading {', '.join(processes)}", flush=True)
        memory = load(processes, name, bench.root, bench.threads, failed)
        results.run, loaded = results.run.with_memory(name, memory), list(memory)
        pids = [os.getpid(), machine.pid, *(process.pid for process in processes.values())]
        for count in tokens:
            chosen = {peer: processes[peer] for peer in loaded}
            with other_load(pids) as others:
                row = measure(Case(name, count, wanted), chosen, rates, bench.pace, failed)
            for peer in set(loaded) - {cell.peer for cell in row.cells}:
                processes[peer].end()
            loaded = [cell.peer for cell in row.cells]
            row = replace(row, other_load=others[0])
            results.keep(results.run.with_row(row))
            best = table.best_peer(row)
            told = [f"{cell.peer} {table.milliseconds(cell.seconds)}" for cell in row.cells]
            print(f"  {count:>4} tokens, ms: {', '.join(told)}; best peer "
                  f"{best.peer if best else '-'}", flush=True)  # fmt: skip


def install_named(names: Sequence[str], root: Path) -> int:
    """Install packages by name; return how many failed."""
    failures = 0
    for package in PACKAGES:
        if "all" not in names and package.name not in names:
            continue
        if is_installed(package, root):
            print(f"{package.name} is there")
            continue
        print(f"installing {package.name}: {', '.join((*package.requires, package.source or ''))}",
              flush=True)  # fmt: skip
        try:
            install(package, root)
        except (InstallError, OSError, StopIteration) as error:
            failures += 1
            print(f"{package.name} cannot be installed: {error}", file=sys.stderr)
    return failures


def options() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    packages = ["all", *(package.name for package in PACKAGES)]
    add("--install", nargs="+", choices=packages, metavar="NAME",
        help=f"install peers and end: {', '.join(packages)}")  # fmt: skip
    add("--peers", nargs="*", choices=[peer.name for peer in OTHERS], metavar="COLUMN",
        help="beside ours, these columns alone: " + ", ".join(p.name for p in OTHERS))  # fmt: skip
    add("--layers", nargs="+", default=LAYERS)
    add("--tokens", type=int, nargs="+", default=TOKENS)
    add("--threads", type=int, default=len(os.sched_getaffinity(0)))
    add("--quick", action="store_true", help="fewer rounds: figures for a first look")
    add("--resume", action="store_true", help="keep the rows that this tree wrote before")
    add("--output", type=Path, default=HERE / "cpu_peers", help="results, without a suffix")
    add("--folder", type=Path, default=Path(platformdirs.user_cache_dir("aiter_moe")) / "peers",
        help="where packages and operands are kept")  # fmt: skip
    return parser.parse_args()


def main() -> int:
    """Install, or measure and print the tables; return the exit status."""
    chosen = options()
    if chosen.install:
        return min(1, install_named(chosen.install, chosen.folder))
    features = read_cpuinfo().features
    named = [p for p in OTHERS if chosen.peers is None or p.name in chosen.peers]
    wanted = [*OURS, *(peer for peer in named if peer.unless not in features)]
    ready = [p for p in wanted if p.package is None or is_installed(p.package, chosen.folder)]
    bench = Bench(
        chosen.folder, tuple(ready), tuple(chosen.tokens), chosen.threads,
        QUICK if chosen.quick else Pace(),
    )  # fmt: skip
    run = Run(
        facts(chosen.threads, ready),
        {peer.name: peer.weights for peer in wanted},
        {name: layers.described(layers.layer_named(name)) for name in chosen.layers},
    )
    for peer in wanted:
        if peer.package is not None and peer not in ready:
            command = install_command(peer.package)
            run = run.with_absence(Absence(peer.name, "", "not installed", command))
            print(f"{peer.name} is not installed: {command}")
    if chosen.resume:
        run = resumed(chosen.output.with_suffix(".json"), run)
    results, status = Results(run, chosen.output), 0
    try:
        for name in chosen.layers:
            run_layer(bench, name, results)
    except KeyboardInterrupt:
        print("\nstopped; the rows so far are kept (--resume goes on)", file=sys.stderr)
        status = 130
    results.keep(results.run)
    print(f"\n{table.page(results.run, note())}\n{chosen.output}.json, .md, .svg")
    return status


if __name__ == "__main__":
    sys.exit(main())
