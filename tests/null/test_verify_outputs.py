# SPDX-License-Identifier: MIT
"""verify's judgement of every output: what is right passes, the least that is wrong does not."""

from __future__ import annotations

import math

import pytest
import torch

from aiter_moe.codegen.catalogue import catalogue
from aiter_moe.codegen.instance import Output
from aiter_moe.enums import Kind
from aiter_moe.formats import quantise_1x32
from aiter_moe.layouts import S
from aiter_moe.verify.expected import expected_rows
from aiter_moe.verify.hostile import UNTOUCHED, Given
from aiter_moe.verify.operands import prepare
from aiter_moe.verify.outputs import Left, judge_left
from aiter_moe.verify.problems import Padding, Size, Spread, StageCase, axes_of

BYTE = UNTOUCHED[torch.uint8][1]


def case_of(output, **changes):
    """A small case of the first gfx950 kernel with an output."""
    instance = next(
        i for i in catalogue("gfx950") if i.kind is Kind.A4W4 and i.tile.output is output
    )
    values = {axis.name: axis.values[0] for axis in axes_of(instance)}
    values |= {"size": Size(96, 64), "tokens": 5, "topk": 4, "spread": Spread.MASKED} | changes
    return prepare(StageCase(instance=instance, seed=3, **values), 1)


def given(inside):
    return Given(inside, ())


class Requantised:
    """What a right kernel leaves: codes by row, scales by sorted row."""

    def __init__(self):
        self.prepared = case_of(Output.FP4)
        self.want = expected_rows(self.prepared)
        self.computed = (self.prepared.owners >= 0).flatten()
        self.codes, self.scales = quantise_1x32(self.want.nan_to_num(0.0).to(torch.bfloat16))
        self.codes[~self.computed] = BYTE
        # sorted rows in reverse, of which the last are pads
        self.positions = torch.arange(len(self.want) - 1, -1, -1, dtype=torch.int32)
        self.positions[~self.computed] = -1

    def judged(self):
        blocks = self.scales.shape[1]
        laid = torch.full((64, S.physical_shape(1, blocks)[1]), BYTE, dtype=torch.uint8)
        laid[self.positions[self.computed].long(), :blocks] = self.scales[self.computed]
        memory = S.shuffle(laid).flatten()
        left = Left((given(self.codes), given(memory)), self.positions)
        return judge_left(self.prepared, self.want, left)

    @property
    def first(self):
        return int(torch.nonzero(self.computed)[0])


def test_requantised_rows_are_right_to_the_bit():
    judged = Requantised().judged()
    assert not judged.reasons
    assert judged.error == 0
    assert judged.worst <= 1


def test_a_scale_of_another_power_is_wrong():
    for step in (-1, 1):
        rows = Requantised()
        rows.scales[rows.first, 0] += step
        assert "scales are none that the values have" in " ".join(rows.judged().reasons)


def test_a_code_that_is_not_the_nearest_is_wrong():
    rows = Requantised()
    magnitude = int(rows.codes[rows.first, 0]) & 7
    rows.codes[rows.first, 0] ^= 4 if magnitude < 4 else 6
    assert "codes are not the nearest" in " ".join(rows.judged().reasons)


def test_the_sign_of_a_code_counts():
    rows = Requantised()
    biggest = int((rows.codes[rows.first] & 7).argmax())
    rows.codes[rows.first, biggest] ^= 8
    assert "codes are not the nearest" in " ".join(rows.judged().reasons)


def test_a_row_that_was_not_requantised_is_wrong_and_a_foreign_one_that_was():
    rows = Requantised()
    rows.codes[rows.first] = BYTE
    assert rows.judged().reasons
    rows = Requantised()
    rows.codes[~rows.computed] = 0
    assert "rows that are not computed here were written" in " ".join(rows.judged().reasons)


def sums(output, **changes):
    """The reference rows of a case, and what adding them slot by slot in bf16 gives."""
    prepared = case_of(output, padding=Padding.HIDDEN, **changes)
    want = expected_rows(prepared)
    slots = want.nan_to_num(0.0).view(prepared.case.tokens, prepared.case.topk, -1)
    out = torch.zeros((prepared.case.tokens, prepared.case.physical.hidden), dtype=torch.bfloat16)
    columns = out[:, : prepared.case.columns]
    if output is Output.FINAL:
        columns += slots.sum(1).to(torch.bfloat16)
    else:
        for slot in range(prepared.case.topk):
            columns += slots[:, slot].to(torch.bfloat16)
    return prepared, want, out


@pytest.mark.parametrize("output", [Output.FINAL, Output.ATOMIC], ids=lambda o: o.value)
def test_sums_over_slots_are_judged_with_their_roundings(output):
    prepared, want, out = sums(output)
    judged = judge_left(prepared, want, Left((given(out),)))
    assert not judged.reasons
    assert 0 < judged.worst <= 1


SPOILT = {
    "a slot that is missing": lambda p, want, out: out[:, : p.case.columns].sub_(
        want.nan_to_num(0.0).view(p.case.tokens, p.case.topk, -1)[:, 0].to(torch.bfloat16)
    ),
    "an element": lambda p, want, out: out[0].mul_(1.2),
    "a hole": lambda p, want, out: out[0, :1].fill_(math.nan),
    "columns past n": lambda p, want, out: out[:, -1].fill_(1.0),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
@pytest.mark.parametrize("output", [Output.FINAL, Output.ATOMIC], ids=lambda o: o.value)
def test_wrong_sums_are_seen(output, spoil):
    prepared, want, out = sums(output, spread=Spread.RANDOM)
    spoil(prepared, want, out)
    assert judge_left(prepared, want, Left((given(out),))).reasons
