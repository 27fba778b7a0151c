# SPDX-License-Identifier: MIT
"""Which bytes of host memory tensors take: what an emulated launch may touch, to the byte.

Pure; who lets kernels reach them is `aiter_moe.targets.emulator_library`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch

from aiter_moe.errors import LaunchError

Tensor: TypeAlias = torch.Tensor | np.ndarray[Any, Any]


def require_host_memory(tensors: Sequence[Tensor]) -> None:
    """Refuse what the emulator could not reach.

    Raises
    ------
    LaunchError
        If one is neither an array nor a dense tensor of host memory.
    """
    for tensor in tensors:
        if isinstance(tensor, np.ndarray):
            continue
        if not isinstance(tensor, torch.Tensor):
            raise LaunchError(f"{type(tensor).__name__} is neither a torch tensor nor an array")
        if tensor.device.type != "cpu" or tensor.layout != torch.strided:
            raise LaunchError(
                f"a tensor on {tensor.device} of layout {tensor.layout} is not in the emulator's "
                "reach: it runs on dense tensors of the CPU"
            )


def is_writeable(tensor: Tensor) -> bool:
    """Say whether Python may write to a tensor's memory; torch does not know any it may not."""
    return isinstance(tensor, torch.Tensor) or bool(tensor.flags.writeable)


def span(tensor: Tensor) -> tuple[int, int]:
    """Return the first byte of a tensor's elements and the byte after the last."""
    if isinstance(tensor, torch.Tensor):
        start, size = tensor.data_ptr(), tensor.element_size()
        steps = [stride * size for stride in tensor.stride()]
    else:
        start, size = tensor.ctypes.data, tensor.itemsize
        steps = list(tensor.strides)
    if 0 in tensor.shape:
        return start, start
    reaches = [(n - 1) * step for n, step in zip(tensor.shape, steps, strict=True)]
    below = sum(reach for reach in reaches if reach < 0)
    above = sum(reach for reach in reaches if reach > 0)
    return start + below, start + above + size


def united(spans: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the ranges with those that overlap made one; neighbours stay apart."""
    out: list[tuple[int, int]] = []
    for begin, end in sorted(s for s in spans if s[0] < s[1]):
        if out and begin < out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], end))
        else:
            out.append((begin, end))
    return out
