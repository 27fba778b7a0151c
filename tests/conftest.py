# SPDX-License-Identifier: MIT
"""What every test starts from: nothing announced, no variable of the user's that steers plans."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from codegen_fakes import FakeCompiler, fake_compiler

from aiter_moe import env, known_calls, log
from aiter_moe.codegen.cache import ArtifactCache
from aiter_moe.codegen.device_compiler import device_compiler
from aiter_moe.errors import ToolchainError

# Where kernels are kept, what compiles them and for which CPU is the user's choice, in tests too.
KEPT = (env.CACHE_DIR, env.CPU_ISA, env.HIPCC, env.ROCM_PATH, env.HOST_CXX)


@pytest.fixture(autouse=True, scope="session")
def _signals() -> None:
    """Let signals end what they should: in the background of a shell, or by nohup, some do not."""
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL),
    ):  # fmt: skip
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


# Not by the fixture `monkeypatch`, which property tests must not depend on.
@pytest.fixture(autouse=True)
def _plain_environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "_announced", set())
        known_calls.forget()  # of calls with what another test put in some place
        for variable in env.TABLE:
            if variable not in KEPT:
                patch.delenv(variable.name, raising=False)
        yield


@pytest.fixture
def cache(tmp_path: Path) -> ArtifactCache:
    """An empty kernel cache."""
    return ArtifactCache(tmp_path / "cache")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCompiler:
    """A fake g++, which is the host compiler."""
    compiler = fake_compiler(tmp_path / "bin" / "g++")
    monkeypatch.setenv("CXX", str(compiler.path))
    return compiler


@pytest.fixture
def gfx950_compiler() -> None:
    """Skip where nothing compiles for gfx950."""
    try:
        device_compiler("gfx950")
    except ToolchainError as error:
        pytest.skip(str(error))
