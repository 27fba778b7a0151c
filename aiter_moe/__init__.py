# SPDX-License-Identifier: MIT
"""aiter_moe: MXFP4 mixture-of-experts GEMMs, from template to tuned kernel."""
