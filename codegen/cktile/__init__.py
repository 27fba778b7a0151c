# SPDX-License-Identifier: MIT
"""The CK-tile family: aiter's MoE flatmm instances, made from Composable Kernel's own headers.

They stand beside our kernels under aiter's names, for whoever wants to compare: a plan takes one
only where a row names it. Without the headers (`headers`) the family is left out.
"""

from aiter_moe.codegen.cktile.catalogue import CkTileInstance, cktile_instances, left_out
from aiter_moe.codegen.cktile.headers import AbsentHeadersError, absence, require_headers
from aiter_moe.codegen.cktile.tile import FAMILY, CkTile, cktile

__all__ = [
    "FAMILY",
    "AbsentHeadersError",
    "CkTile",
    "CkTileInstance",
    "absence",
    "cktile",
    "cktile_instances",
    "left_out",
    "require_headers",
]
