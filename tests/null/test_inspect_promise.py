# SPDX-License-Identifier: MIT
"""Device kernels of a `fused_moe` call on gfx950: at most 2 up to 16 tokens, at most 5 above."""

from __future__ import annotations

import pytest

from aiter_moe.configs.table import ConfigTable
from aiter_moe.enums import Kind
from aiter_moe.inspect.chain import call_kernels
from aiter_moe.inspect.shape import plan_of, problem_of
from aiter_moe.inspect.shape_view import promised
from aiter_moe.tuning.model_shapes import MODELS

TOKENS = (1, 2, 3, 15, 16, 17, 32, 100, 512, 2048, 4096, 16384, 65536)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_calls_of_every_layer_keep_to_the_promise(model, kind):
    for tokens in TOKENS:
        plan = plan_of(problem_of(model, kind, tokens), "gfx950", ConfigTable())
        found = call_kernels(plan, tokens)
        assert len(found) <= promised(tokens), f"{tokens} tokens: {found}"
