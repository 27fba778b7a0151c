# SPDX-License-Identifier: MIT
"""Loads a peer's operators without its Python, which needs much that is not installed."""

from __future__ import annotations

import sys
from pathlib import Path

import torch


def load_operators(name: str) -> None:
    """Load a library of torch operators, by its path inside some folder of sys.path."""
    paths = (Path(folder) / name for folder in sys.path)
    torch.ops.load_library(str(next(path for path in paths if path.is_file())))
