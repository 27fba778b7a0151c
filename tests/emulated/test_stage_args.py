# SPDX-License-Identifier: MIT
"""The ctypes mirror of StageArgs and the C struct agree on every field's place."""

from __future__ import annotations

import ctypes

from aiter_moe.codegen.build import ensure
from aiter_moe.codegen.cache import ArtifactCache
from aiter_moe.codegen.unit import BuildUnit
from aiter_moe.targets.arguments import StageArgs

PROBE = """
#include "common/stage_args.h"
extern "C" long offset_of(int field) {{
  using aiter_moe::StageArgs;
  const long offsets[] = {{ {offsets}, sizeof(StageArgs) }};
  return offsets[field];
}}
"""


def test_every_field_lies_where_the_c_struct_has_it(tmp_path):
    fields = [name for name, _ in StageArgs._fields_]
    offsets = ", ".join(f"__builtin_offsetof(StageArgs, {name})" for name in fields)
    unit = BuildUnit("offsets", "cpu", "offsets.cpp", PROBE.format(offsets=offsets), ())
    probe = ctypes.CDLL(str(ensure(unit, ArtifactCache(tmp_path)).path))
    probe.offset_of.restype = ctypes.c_long
    got = [probe.offset_of(i) for i in range(len(fields) + 1)]
    want = [getattr(StageArgs, name).offset for name in fields]
    assert got == [*want, ctypes.sizeof(StageArgs)]
