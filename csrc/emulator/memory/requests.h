// SPDX-License-Identifier: MIT
// What a wave has in flight: vector memory requests, counted by vmcnt, and LDS and scalar ones,
// counted by lgkmcnt, each in issue order. A wait lets the oldest land.
#pragma once

#include "emulator/isa/instruction.h"

namespace aiter_moe::emulator {

// (owner: memory) The fields below are the contract that wave.h relies on.
struct Requests {
  u32 loads_in_flight;  // registers some request will still write; 0 makes overwrite checks free
};

}  // namespace aiter_moe::emulator
