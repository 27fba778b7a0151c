# SPDX-License-Identifier: MIT
"""From kernel instances as data to compiled artifacts: render, toolchain, key, cache, build."""
