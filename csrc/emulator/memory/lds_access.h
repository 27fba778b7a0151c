// SPDX-License-Identifier: MIT
// What one LDS instruction touches. Kept while the instruction is in flight: what has not landed
// at a barrier also takes place after it.
#pragma once

#include "emulator/isa/instruction.h"

namespace aiter_moe::emulator {

enum class LdsUse : u8 { read, write, atomic };

struct LdsAccess {
  u32 address[64];  // valid in the lanes below
  u64 lanes;
  u32 second;       // distance of a second piece of the same size (read2, write2); 0: none
  u8 bytes;         // a lane and piece
  LdsUse use;
};

}  // namespace aiter_moe::emulator
