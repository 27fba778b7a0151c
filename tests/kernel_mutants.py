# SPDX-License-Identifier: MIT
"""Our own kernels with one mistake each: which headers' text changes, and how they are compiled.

The rendered source is taken with its headers inlined, so that a changed line is part of the unit
and neither csrc/ nor what the cache keeps of sound kernels is touched.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from aiter_moe.codegen.build import ensure
from aiter_moe.codegen.includes import csrc_root
from aiter_moe.codegen.instance import Instance
from aiter_moe.codegen.render import render

INCLUDE = re.compile(r'^#include "(.+)"\n', re.MULTILINE)
BY_ARCHITECTURE = "hip/architecture.h"


@dataclass(frozen=True)
class Mutant:
    """One mistake: `old` stands once in the header and is replaced by `new`."""

    header: str
    old: str
    new: str

    def applied(self, text: str) -> str:
        assert text.count(self.old) == 1, f"{self.header} has {text.count(self.old)} x {self.old!r}"
        return text.replace(self.old, self.new)


def mutated_code(instance: Instance, mutant: Mutant | None) -> bytes:
    """Return the instance's code object with the mistake in it, or (None) without one."""
    unit = render(instance)
    seen: set[str] = set()

    def inlined(found: re.Match[str]) -> str:
        header = found[1]
        if header == BY_ARCHITECTURE:
            header = f"hip/{instance.target}.h"
        if header in seen:
            return ""
        seen.add(header)
        text = (csrc_root() / header).read_text()
        if mutant is not None and header == mutant.header:
            text = mutant.applied(text)
        return INCLUDE.sub(inlined, text.replace("#pragma once\n", ""))

    source = INCLUDE.sub(inlined, unit.source)
    assert mutant is None or mutant.header in seen, f"{instance} does not use {mutant.header}"
    return ensure(replace(unit, source=source)).path.read_bytes()
