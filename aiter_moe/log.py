# SPDX-License-Identifier: MIT
"""The package's logger and its once-per-key announcements; installs no handler."""

from __future__ import annotations

import logging
from collections.abc import Hashable

logger = logging.getLogger("aiter_moe")

_announced: set[Hashable] = set()


def warn_once(key: Hashable, message: str) -> None:
    """Log `message` as a warning the first time `key` is seen in this process."""
    _say_once(logging.WARNING, key, message)


def info_once(key: Hashable, message: str) -> None:
    """Log `message` at INFO the first time `key` is seen in this process."""
    _say_once(logging.INFO, key, message)


def _say_once(level: int, key: Hashable, message: str) -> None:
    if key not in _announced:
        _announced.add(key)
        logger.log(level, message)
