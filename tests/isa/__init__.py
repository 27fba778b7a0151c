# SPDX-License-Identifier: MIT
"""The instruction set as the assembler knows it: source and check of the emulator's tables."""
