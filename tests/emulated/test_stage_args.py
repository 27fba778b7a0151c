# SPDX-License-Identifier: MIT
"""The ctypes mirrors of argument structs and the C structs agree on every field's place."""

from __future__ import annotations

import ctypes

import pytest

from aiter_moe.codegen.build import ensure
from aiter_moe.codegen.cache import ArtifactCache
from aiter_moe.codegen.unit import BuildUnit
from aiter_moe.targets.arguments import StageArgs
from aiter_moe.targets.step_arguments import QuantiseStepArgs, ReduceStepArgs, SortStepArgs

PROBE = """
#include "common/stage_args.h"
#include "common/step_args.h"
extern "C" long offset_of(int field) {{
  using aiter_moe::{struct};
  const long offsets[] = {{ {offsets}, sizeof({struct}) }};
  return offsets[field];
}}
"""


@pytest.mark.parametrize("mirror", [StageArgs, SortStepArgs, QuantiseStepArgs, ReduceStepArgs])
def test_every_field_lies_where_the_c_struct_has_it(mirror, tmp_path):
    fields = [name for name, _ in mirror._fields_]
    struct = mirror.__name__
    offsets = ", ".join(f"__builtin_offsetof({struct}, {name})" for name in fields)
    source = PROBE.format(struct=struct, offsets=offsets)
    unit = BuildUnit("offsets", "cpu", "offsets.cpp", source, ())
    probe = ctypes.CDLL(str(ensure(unit, ArtifactCache(tmp_path)).path))
    probe.offset_of.restype = ctypes.c_long
    got = [probe.offset_of(i) for i in range(len(fields) + 1)]
    want = [getattr(mirror, name).offset for name in fields]
    assert got == [*want, ctypes.sizeof(mirror)]
