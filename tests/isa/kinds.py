# SPDX-License-Identifier: MIT
"""What counters add an opcode to, from its encoding and name."""

from __future__ import annotations


def kind_of(fmt: str, name: str) -> str:  # noqa: PLR0911
    """Return the member of the emulator's enum Class."""
    if fmt in ("sop1", "sop2", "sopc", "sopk", "sopp"):
        return _scalar(name)
    if fmt.startswith("vop"):
        return "mfma" if name.startswith(("v_mfma_", "v_smfmac_")) else "valu"
    if fmt == "smem":
        return "smem"
    if fmt == "ds":
        return "lds"
    if fmt == "scratch":
        return "scratch"
    if "_atomic_" in name:
        return "vmem_atomic"
    if "_load_" in name:
        return "vmem_load"
    return "vmem_store" if "_store_" in name else "other"


def _scalar(name: str) -> str:
    if name == "s_waitcnt":
        return "wait"
    if name == "s_barrier":
        return "barrier"
    if name.startswith(("s_branch", "s_cbranch", "s_setpc", "s_swappc", "s_call", "s_rfe")):
        return "branch"
    if name.startswith(
        ("s_nop", "s_sleep", "s_endpgm", "s_set", "s_sendmsg", "s_trap", "s_wakeup", "s_icache",
         "s_incperf", "s_decperf", "s_ttrace")
    ):  # fmt: skip
        return "salu" if name.startswith("s_setreg") else "other"
    return "salu"
