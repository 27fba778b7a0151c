# SPDX-License-Identifier: MIT
"""Runs every kernel of a target on hard problems and compares with float64.

Which problems: `verify.problems`, chosen by `verify.covering`. How one runs: `verify.execute`.
The sweep over a catalogue: `verify.sweep`.
"""
