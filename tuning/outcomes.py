# SPDX-License-Identifier: MIT
"""What became of one candidate: a typed value, with a JSON form for the pipe of the child.

`encode` and `decode` are a pair. Nothing here decides which candidate wins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from aiter_moe.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Ok:
    """Right, and timed: relative L2 error, and one duration per repeat in nanoseconds."""

    error: float
    samples_ns: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Unsupported:
    """The target refused the problem when asked to run it."""

    reason: str


@dataclass(frozen=True, slots=True)
class CompileError:
    """The kernel did not compile; carries the first lines of the compiler."""

    reason: str


@dataclass(frozen=True, slots=True)
class WrongResult:
    """Ran, but the output is not the reference: error as measured (NaN where it left holes)."""

    error: float
    reason: str


@dataclass(frozen=True, slots=True)
class Fault:
    """The measuring process died, or the launcher raised, while this candidate ran."""

    reason: str


@dataclass(frozen=True, slots=True)
class Timeout:
    """The candidate ran longer than its deadline and was killed."""

    seconds: float


Outcome = Ok | Unsupported | CompileError | WrongResult | Fault | Timeout

_CLASSES: dict[str, type[Any]] = {
    cls.__name__: cls for cls in (Ok, Unsupported, CompileError, WrongResult, Fault, Timeout)
}


def encode(outcome: Outcome) -> dict[str, Any]:
    """Return the outcome as a JSON object; the key ``outcome`` names its class."""
    return {"outcome": type(outcome).__name__, **asdict(outcome)}


def decode(data: Mapping[str, Any]) -> Outcome:
    """Return the outcome that `encode` wrote.

    Raises
    ------
    ConfigError
        If the object does not name one of the six outcomes with its fields.
    """
    fields = {key: value for key, value in data.items() if key != "outcome"}
    name = data.get("outcome")
    if name not in _CLASSES:
        raise ConfigError(f"no outcome {name!r}; there are {', '.join(_CLASSES)}")
    if "samples_ns" in fields:
        fields["samples_ns"] = tuple(fields["samples_ns"])
    try:
        outcome: Outcome = _CLASSES[name](**fields)
    except TypeError as error:
        raise ConfigError(f"outcome {name} with fields {sorted(fields)}: {error}") from None
    return outcome


def describe(outcome: Outcome) -> str:
    """Return one line for people, e.g. ``wrong result: 12.0 % off``."""
    match outcome:
        case Ok(error, samples):
            return f"ok, {100 * error:.3f} % off, {len(samples)} samples"
        case Unsupported(reason):
            return f"unsupported: {reason}"
        case CompileError(reason):
            return f"did not compile: {reason}"
        case WrongResult(_, reason):
            return f"wrong result: {reason}"
        case Fault(reason):
            return f"fault: {reason}"
        case Timeout(seconds):
            return f"no answer within {seconds:g} s"
