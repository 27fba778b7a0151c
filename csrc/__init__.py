# SPDX-License-Identifier: MIT
"""Hand-written device code that rendered sources instantiate."""
