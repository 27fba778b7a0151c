# SPDX-License-Identifier: MIT
"""``python -m aiter_moe`` is the console command ``aiter-moe``."""

from aiter_moe.cli import main

main()
