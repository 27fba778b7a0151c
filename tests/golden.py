# SPDX-License-Identifier: MIT
"""Golden data recorded from aiter's own Python, kept beside the checkout; absent data skips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden"


def golden(name: str) -> np.lib.npyio.NpzFile:
    """Open ``<name>.npz``, or skip the test when the data is not beside the checkout."""
    path = GOLDEN / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"golden data {path.name} is not beside the checkout")
    return np.load(path)


def cases(data: np.lib.npyio.NpzFile, suffix: str) -> list[str]:
    """Return the case prefixes that have a key ``<case>_<suffix>``, in order."""
    ending = f"_{suffix}"
    return sorted(key.removesuffix(ending) for key in data.files if key.endswith(ending))


def floats(bits: np.ndarray, dtype: str) -> torch.Tensor:
    """Return a float tensor from its stored bit pattern; `dtype` is the recorded torch name."""
    if dtype.endswith("float32"):
        return torch.from_numpy(bits.view(np.float32).copy())
    signed = torch.from_numpy(bits.view(np.int16).copy())
    return signed.view(torch.bfloat16 if "bfloat16" in dtype else torch.float16)
