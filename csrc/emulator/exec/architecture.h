// SPDX-License-Identifier: MIT
// Which architecture a wave runs on, for the few instructions whose meaning depends on it: the
// 8-bit floats are the FNUZ formats on gfx942 and the OCP formats on gfx950.
#pragma once

#include "emulator/wave.h"

namespace aiter_moe::emulator {

constexpr u32 gfx942 = 942, gfx950 = 950;

u32 architecture(const Workgroup& group);  // defined by machine/, which knows the program

}  // namespace aiter_moe::emulator
