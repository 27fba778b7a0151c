# SPDX-License-Identifier: MIT
"""Basic blocks of a kernel, and its loops: what branches back, and all that lies on the way.

A loop is a natural one: its head comes before everything in it, whatever way leads there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from aiter_moe.inspect.instructions import Instruction

# What control never passes.
_ENDS = ("s_endpgm", "s_branch", "s_setpc_b64")


@dataclass(frozen=True)
class Block:
    """Instructions that run one after the other, and where control can go then.

    Attributes
    ----------
    start : int
        Byte offset of the first instruction.
    successors : tuple of int
        Offsets of the blocks that can follow.
    """

    start: int
    instructions: tuple[Instruction, ...]
    successors: tuple[int, ...]


Blocks = Mapping[int, Block]
"""Blocks by the offset of their first instruction, in address order."""


def blocks_of(instructions: Sequence[Instruction]) -> dict[int, Block]:
    """Return the blocks that can be reached from the first instruction."""
    if not instructions:
        return {}
    starts = _starts(instructions)
    groups: list[list[Instruction]] = []
    for instruction in instructions:
        if instruction.pc in starts:
            groups.append([])
        groups[-1].append(instruction)
    following = [group[0].pc for group in groups[1:]]
    all_blocks = {
        group[0].pc: Block(group[0].pc, tuple(group), _successors(group[-1], behind, starts))
        for group, behind in zip(groups, [*following, None], strict=True)
    }
    reached = _reachable(all_blocks, instructions[0].pc)
    return {start: block for start, block in all_blocks.items() if start in reached}


def loops_of(blocks: Blocks) -> dict[int, frozenset[int]]:
    """Return the blocks of each loop by the loop's head; branches to one head make one loop."""
    dominators = _dominators(blocks)
    before: dict[int, list[int]] = {start: [] for start in blocks}
    for start, block in blocks.items():
        for successor in block.successors:
            before[successor].append(start)
    found: dict[int, set[int]] = {}
    for start, block in blocks.items():
        for head in block.successors:
            if head in dominators[start]:
                body = found.setdefault(head, {head})
                _walk_back(body, start, before)
    return {head: frozenset(body) for head, body in found.items()}


def _starts(instructions: Sequence[Instruction]) -> set[int]:
    places = {i.pc for i in instructions}
    starts = {instructions[0].pc}
    for instruction, after in pairwise(instructions):
        target = instruction.branch_target
        if target in places:
            starts.add(target)
        if target is not None or instruction.mnemonic in _ENDS:
            starts.add(after.pc)
    last = instructions[-1].branch_target
    return starts | ({last} if last in places and last is not None else set())


def _successors(last: Instruction, behind: int | None, starts: set[int]) -> tuple[int, ...]:
    found = [last.branch_target] if last.branch_target in starts else []
    if last.mnemonic not in _ENDS and behind is not None:
        found.append(behind)
    return tuple(place for place in found if place is not None)


def _reachable(blocks: Blocks, entry: int) -> set[int]:
    found, waiting = {entry}, [entry]
    while waiting:
        for successor in blocks[waiting.pop()].successors:
            if successor not in found:
                found.add(successor)
                waiting.append(successor)
    return found


def _dominators(blocks: Blocks) -> dict[int, set[int]]:
    """Return for each block those that every way to it passes, itself included."""
    entry = next(iter(blocks))
    found = {start: set(blocks) for start in blocks}
    found[entry] = {entry}
    before: dict[int, set[int]] = {start: set() for start in blocks}
    for start, block in blocks.items():
        for successor in block.successors:
            before[successor].add(start)
    changed = True
    while changed:
        changed = False
        for start in blocks:
            if start == entry:
                continue
            new = set.intersection(*(found[b] for b in before[start])) | {start}
            if new != found[start]:
                found[start], changed = new, True
    return found


def _walk_back(body: set[int], start: int, before: Mapping[int, Sequence[int]]) -> None:
    """Add to a loop all from which `start` is reached without passing the loop's head."""
    waiting = [start]
    while waiting:
        place = waiting.pop()
        if place not in body:
            body.add(place)
            waiting += before[place]
