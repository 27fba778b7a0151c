# SPDX-License-Identifier: MIT
"""The package's logger and its once-per-key announcements; installs no handler."""

from __future__ import annotations

import logging
from collections.abc import Hashable

logger = logging.getLogger("aiter_moe")

_announced: set[Hashable] = set()


def warn_once(key: Hashable, message: str) -> None:
    """Log `message` as a warning the first time `key` is seen in this process."""
    if key in _announced:
        return
    _announced.add(key)
    logger.warning(message)


def info_once(key: Hashable, message: str) -> None:
    """Log `message` at INFO the first time `key` is seen in this process."""
    if key in _announced:
        return
    _announced.add(key)
    logger.info(message)
