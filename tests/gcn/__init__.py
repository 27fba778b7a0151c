# SPDX-License-Identifier: MIT
"""A slow model of a gfx950 wave that runs the compiler's assembly text, for tests.

It knows the instructions that kernels of csrc/hip compile to. Loads land as late as their waits
allow, so a missing wait gives wrong results; reads and writes outside tensors are errors.
"""
