# SPDX-License-Identifier: MIT
"""May this kernel, or this tuned row, serve this problem here: the verdicts a plan is made of.

The constraints themselves are data of `aiter_moe.codegen`; choosing is `aiter_moe.plan`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from aiter_moe.codegen.catalogue import why_no_kernel
from aiter_moe.codegen.constraints import KSPLITS, legal_ksplit
from aiter_moe.codegen.instance import Instance
from aiter_moe.codegen.pairs import legal_pairs, pair_refusal
from aiter_moe.configs.provenance import template_hash
from aiter_moe.configs.table import Row
from aiter_moe.enums import Kind
from aiter_moe.formats import MX_BLOCK
from aiter_moe.problem import Problem
from aiter_moe.sizes import round_up
from aiter_moe.targets.base import DeviceFacts


@dataclass(frozen=True, slots=True)
class Overrides:
    """What a caller or the environment insists on.

    Attributes
    ----------
    block_m : int or None
        Sort block; no other is used then.
    ksplit : int or None
        n > 0 splits a16w4 by n where legal; -1 turns splits off; None or 0: as planned.
    skip_inter_quant : bool or None
        a4w4: True runs stage 2 on the bf16 intermediate, False never; None: as planned.
    hidden_pad, intermediate_pad : int
        Trailing elements of model_dim and inter_dim that are not computed.
    is_ep : bool
        Expert parallelism: rows of topk - 1 serve too.
    ignore_rows : bool
        Use the rules only.
    origin : str
        Where `ksplit` came from, for messages.
    """

    block_m: int | None = None
    ksplit: int | None = None
    skip_inter_quant: bool | None = None
    hidden_pad: int = 0
    intermediate_pad: int = 0
    is_ep: bool = False
    ignore_rows: bool = False
    origin: str = "the ksplit argument"


@dataclass(frozen=True, slots=True)
class Kernels:
    """The instances of a target to choose from.

    Attributes
    ----------
    target : str
        Name of the target.
    instances : tuple of Instance
        In catalogue order.
    template_hash : str or None
        Hash that rows must carry, if they carry one; None: that of the installed sources.
    """

    target: str
    instances: tuple[Instance, ...]
    template_hash: str | None = None

    def current_hash(self) -> str:
        """Return the hash of the sources these instances are made from."""
        return template_hash(self.target) if self.template_hash is None else self.template_hash

    @property
    def defaults(self) -> tuple[Instance, ...]:
        """Instances that are chosen without being named."""
        return tuple(i for i in self.instances if not i.family)

    def named(self, name: str) -> Instance | None:
        """Return the instance of this name, compared as a whole."""
        return next((i for i in self.instances if i.name == name), None)


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a row is not used; stale rows want re-tuning, others gave way to an override."""

    reason: str
    stale: bool = True


def computed(problem: Problem, overrides: Overrides) -> Problem:
    """Return the problem with the sizes that are computed: whole MX blocks without the padding."""
    if not overrides.hidden_pad and not overrides.intermediate_pad:
        return problem
    model_dim = round_up(problem.model_dim - overrides.hidden_pad, MX_BLOCK)
    inter_dim = round_up(problem.inter_dim - overrides.intermediate_pad, MX_BLOCK)
    return replace(
        problem,
        model_dim=model_dim,
        inter_dim=inter_dim,
        hidden_pad=problem.model_dim - model_dim,
        intermediate_pad=problem.inter_dim - inter_dim,
    )


def usable(problem: Problem, facts: DeviceFacts, instance: Instance) -> str | None:
    """Return why `instance` cannot run `problem` on the device, or None."""
    lacking = instance.tile.requires - facts.features
    if lacking:
        return f"the device lacks {', '.join(sorted(lacking))}"
    return problem.supports(instance).reason or None


def split_refusal(problem: Problem, instance: Instance, ksplit: int) -> str | None:
    """Return why stage 1 of `problem` cannot run on `instance` in `ksplit` parts, or None."""
    if problem.kind is Kind.A16W4:
        if ksplit > 1 and not instance.split_k:
            return f"ksplit is {ksplit}, but {instance.name} does not split"
        if ksplit <= 1 and instance.split_k:
            return f"ksplit is {ksplit}, but {instance.name} splits"
        if ksplit > 1 and ksplit not in KSPLITS:
            return f"ksplit {ksplit}: kernels split by {', '.join(map(str, KSPLITS))}"
    return legal_ksplit(problem, ksplit, instance.tile.block_k)


@dataclass(frozen=True, slots=True)
class Case:
    """One question to the planner.

    Attributes
    ----------
    asked : Problem
        With the sizes of the weight tensors, as tuned rows are keyed.
    work : Problem
        With the sizes that are computed, as constraints see them.
    facts : DeviceFacts
        The device.
    kernels : Kernels
        What exists for it.
    overrides : Overrides
        What the caller or the environment insists on.
    """

    asked: Problem
    work: Problem
    facts: DeviceFacts
    kernels: Kernels
    overrides: Overrides

    @classmethod
    def of(
        cls, problem: Problem, facts: DeviceFacts, kernels: Kernels, overrides: Overrides
    ) -> Case:
        """Return the case of `problem`, with its computed sizes."""
        return cls(problem, computed(problem, overrides), facts, kernels, overrides)

    def refuses(self, instance: Instance) -> str | None:
        """Return why `instance` cannot run this case, or None."""
        return usable(self.work, self.facts, instance)


def stage2_kinds(case: Case) -> tuple[Kind, ...]:
    """Return the kinds of stage-2 kernels to try in order; a4w4 requantises unless told not to."""
    skip = case.overrides.skip_inter_quant
    if case.work.kind is not Kind.A4W4 or skip is False:
        return (case.work.kind,)
    return (Kind.A16W4,) if skip else (Kind.A4W4, Kind.A16W4)


def row_refusal(row: Row, case: Case) -> Refused | None:
    """Return why a row found by its key is not used, or None.

    Parameters
    ----------
    row : Row
        Row of the problem's key.
    case : Case
        The problem, the device, the kernels, and what outweighs the row.
    """
    stale = next(_stale_reasons(row, case), None)
    if stale is not None:
        return Refused(stale)
    yielded = next(_override_reasons(row, case), None)
    return None if yielded is None else Refused(yielded, stale=False)


def _stale_reasons(row: Row, case: Case) -> Iterator[str]:
    if row.run_1stage:
        yield "it names a one-stage kernel; kernels here have two stages"
    if row.template_hash and row.template_hash != case.kernels.current_hash():
        yield (
            f"its kernels were made from templates {row.template_hash}, now they are "
            f"{case.kernels.current_hash()}"
        )
    if row.kernel1:
        yield from _kernel_reasons(row, case, 1, row.kernel1)
    if row.kernel2:
        yield from _kernel_reasons(row, case, 2, row.kernel2)
    stage1, stage2 = case.kernels.named(row.kernel1), case.kernels.named(row.kernel2)
    if stage1 is not None and stage2 is not None:
        reason = pair_refusal(stage1, stage2)
        if reason is not None:
            yield f"its kernels do not follow each other: {reason}"
    yield from _split_reasons(row, case)


def _kernel_reasons(row: Row, case: Case, stage: int, name: str) -> Iterator[str]:
    instance = case.kernels.named(name)
    if instance is None:
        why = why_no_kernel(case.kernels.target, name)
        yield f"no kernel {name} in the catalogue of {case.kernels.target}" + (why and f": {why}")
        return
    if instance.stage != stage:
        yield f"kernelName{stage} {name} is a kernel of stage {instance.stage}"
    if instance.block_m != row.block_m:
        yield f"block_m is {row.block_m}, but {name} has {instance.block_m}"
    reason = case.refuses(instance)
    if reason is not None:
        yield f"{name}: {reason}"


def _split_reasons(row: Row, case: Case) -> Iterator[str]:
    """Check the split of an a16w4 row; that of an a4w4 row is ignored, whatever it says."""
    named = case.kernels.named(row.kernel1)
    if named is not None and case.work.kind is Kind.A16W4:
        reason = split_refusal(case.work, named, row.ksplit)
        if reason is not None:
            yield reason


def _override_reasons(row: Row, case: Case) -> Iterator[str]:
    block_m = case.overrides.block_m
    if block_m is not None and row.block_m not in (0, block_m):
        yield f"its block_m is {row.block_m}, {block_m} was asked for"
    skip = case.overrides.skip_inter_quant
    if case.work.kind is Kind.A4W4 and skip is not None:
        yield from _way_reasons(row, case)


def _way_reasons(row: Row, case: Case) -> Iterator[str]:
    """Say whether the kernels of an a4w4 row go the other way between the stages."""
    kinds = stage2_kinds(case)
    stage1, stage2 = case.kernels.named(row.kernel1), case.kernels.named(row.kernel2)
    if stage2 is not None and stage2.kind not in kinds:
        skips = stage2.kind is Kind.A16W4
        way = "leaves the intermediate bf16" if skips else "requantises the intermediate"
        yield f"its stage 2 {way}, the other was asked for"
    elif stage1 is not None and stage2 is None:
        seconds = (i for i in case.kernels.instances if i.stage == 2 and i.kind in kinds)
        if next(legal_pairs([stage1], seconds), None) is None:
            yield f"no stage 2 of {'/'.join(map(str, kinds))} follows its stage 1, as asked for"
