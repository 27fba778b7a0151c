# SPDX-License-Identifier: MIT
"""Targets: facts about a device, and the launcher that runs compiled kernels on it."""
