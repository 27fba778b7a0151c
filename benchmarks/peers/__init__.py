# SPDX-License-Identifier: MIT
"""What else multiplies a MoE layer on a CPU, each in a process of its own.

`catalogue` lists the peers, `install` fetches them, `child` runs one, `process` speaks to it,
`runner` times them in turns, `table` and `plot` show what came out. The command is
benchmarks/cpu_peers.py.
"""
