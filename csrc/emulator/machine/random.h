// SPDX-License-Identifier: MIT
// A stream of random numbers that a seed and a place in it determine (SplitMix64): schedules are
// the same on every machine and for every number of threads.
#pragma once

#include "emulator/isa/instruction.h"

namespace aiter_moe::emulator {

class Random {
 public:
  Random(u64 seed, u64 stream) : state_(mix(seed) ^ mix(stream + 1)) {}

  u64 next() {
    state_ += golden;
    return mix(state_);
  }

  // A number below `bound`, which is small: the bias does not matter to a schedule.
  u32 below(u32 bound) { return static_cast<u32>((next() >> 32) * bound >> 32); }

 private:
  static constexpr u64 golden = 0x9E3779B97F4A7C15;

  static u64 mix(u64 x) {
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9;
    x = (x ^ x >> 27) * 0x94D049BB133111EB;
    return x ^ x >> 31;
  }

  u64 state_;
};

}  // namespace aiter_moe::emulator
