// SPDX-License-Identifier: MIT
// What one LDS instruction touches. Kept while the instruction is in flight: what has not landed
// at a barrier also takes place after it.
#pragma once

#include "emulator/isa/instruction.h"

namespace aiter_moe::emulator {

enum class LdsUse : u8 { read, write, atomic };

struct LdsAccess {
  u32 address[64];  // idle lanes repeat an active one's
  u64 lanes;
  u32 second;       // distance of a second piece of the same size (read2, write2); 0: none
  u8 bytes;         // a lane and piece
  LdsUse use;
  bool run;         // lane after lane, without gaps
};

}  // namespace aiter_moe::emulator
