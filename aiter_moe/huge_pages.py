# SPDX-License-Identifier: MIT
"""Host memory in huge pages, where the system gives them to those who ask.

Weights are read from end to end on every call; with pages of 2 MiB the processor looks up fewer
addresses and prefetches further. Only advice: where it is not taken, memory is as ever.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from math import prod

import torch

from aiter_moe.sizes import round_up

_HUGE_PAGE = 1 << 21
_MADV_HUGEPAGE = 14
# glibc takes blocks above this from the system one by one and gives them back whole, so that the
# advice cannot outlive them on memory of others.
_WHOLE_MAPPING = 1 << 25


def empty_bytes(shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Return contiguous uint8 of any content, in huge pages where it is large and on a host.

    An ordinary tensor: pages come on first touch, from the memory node of the thread that does.
    """
    made = torch.empty(shape, dtype=torch.uint8, device=device)
    if type(made) is torch.Tensor and device.type == "cpu" and prod(shape) >= _WHOLE_MAPPING:
        advise(made, _MADV_HUGEPAGE)
    return made


def advise(memory: torch.Tensor, advice: int) -> None:
    """Give the system advice on that part of contiguous bytes which whole huge pages fill."""
    begin = round_up(memory.data_ptr(), _HUGE_PAGE)
    length = (memory.data_ptr() + memory.numel()) // _HUGE_PAGE * _HUGE_PAGE - begin
    madvise = _madvise()
    if madvise is not None and length > 0:
        madvise(begin, length, advice)


@cache
def _madvise() -> ctypes._NamedFuncPointer | None:
    """Return the system's function, None where it takes no such advice."""
    if sys.platform != "linux":
        return None
    function = getattr(ctypes.CDLL(None), "madvise", None)
    if function is not None:
        function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return function
