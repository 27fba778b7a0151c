# SPDX-License-Identifier: MIT
"""Packed weights in safetensors files: plain byte tensors plus one metadata entry per weight.

Needs the safetensors package, imported on use. The entries are made by `PackedWeight`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch

from aiter_moe.durable import replacing
from aiter_moe.layouts.packed import METADATA_KEY, PackedWeight


def save_packed(weights: Mapping[str, PackedWeight], path: str | os.PathLike[str]) -> None:
    """Write packed weights to one safetensors file, which appears complete or not at all.

    Parameters
    ----------
    weights : mapping of str to PackedWeight
        Names become prefixes of the stored tensors.
    path : path
        File to make or replace.

    Raises
    ------
    ImportError
        safetensors is not installed.
    """
    from safetensors.torch import save_file

    tensors: dict[str, torch.Tensor] = {}
    metadata: dict[str, str] = {}
    for name, weight in weights.items():
        # safetensors refuses tensors that share memory, as slices by expert do.
        tensors |= {key: part.clone() for key, part in weight.to_tensors(name).items()}
        metadata |= weight.metadata(name)
    with replacing(Path(path)) as draft:
        save_file(tensors, draft, metadata)


def load_packed(
    path: str | os.PathLike[str], device: str | torch.device = "cpu"
) -> dict[str, PackedWeight]:
    """Read every packed weight of a safetensors file; other tensors in it are left alone.

    On the host, panels are copied to memory of their own; other layouts may stay in the file's.

    Parameters
    ----------
    path : path
        A file of `save_packed`, or any with `PackedWeight.to_tensors` and ``metadata`` in it.
    device : str or torch.device
        Where the tensors go.

    Returns
    -------
    dict of str to PackedWeight
        By the name given to `save_packed`.

    Raises
    ------
    LayoutError
        Tensors and metadata of a weight do not fit.
    ImportError
        safetensors is not installed.
    """
    from safetensors import safe_open

    ending = f".{METADATA_KEY}"
    with safe_open(path, framework="pt", device=str(device)) as file:
        metadata: dict[str, str] = file.metadata() or {}
        present = set(file.keys())
        found: dict[str, PackedWeight] = {}
        for entry in metadata:
            if entry.endswith(ending):
                name = entry.removesuffix(ending)
                wanted = {f"{name}.codes", f"{name}.scales"} & present
                tensors = {key: file.get_tensor(key) for key in wanted}
                weight = PackedWeight.from_tensors(tensors, metadata, name)
                # out of the file's small pages: kernels of the CPU read panels on every call
                in_file = weight.layout.is_panel and weight.device.type == "cpu"
                found[name] = weight.clone() if in_file else weight  # type: ignore[assignment]
    return found
