# SPDX-License-Identifier: MIT
"""How long a stage should take, computed and not measured, and what bounds it.

`routing` says what a batch asks of the experts, `workgroup` what a turn of a kernel's loop costs,
`work` what a stage has to do, `stage_time` how long that takes on a device with the constants that
`fit` found in public measurements (`constants`). `choose` ranks the kernels of a problem by it.
"""
