// SPDX-License-Identifier: MIT
// What the steps need of a wave as a whole: sums over its lanes, ranks among them.
#pragma once

#include "hip/runtime.h"

// A step runs with as many waves as there is work for, up to `threads`.
#define AITER_MOE_STEP(threads) \
  extern "C" __attribute__((global)) __attribute__((amdgpu_flat_work_group_size(64, threads))) void

namespace aiter_moe::hip {

using u64 = unsigned long;
typedef int i32x4 __attribute__((ext_vector_type(4)));

AITER_MOE_DEVICE u64 ballot(bool value) { return __builtin_amdgcn_ballot_w64(value); }
AITER_MOE_DEVICE int count_bits(u64 mask) { return __builtin_popcountl(mask); }
// Lanes below this one that are in the mask, added to `start`.
AITER_MOE_DEVICE int lanes_below(u64 mask, int start) {
  const u32 low = __builtin_amdgcn_mbcnt_lo(static_cast<u32>(mask), static_cast<u32>(start));
  return static_cast<int>(__builtin_amdgcn_mbcnt_hi(static_cast<u32>(mask >> 32), low));
}

// A lane's value from where `Control` says, 0 where it says nowhere or the row is masked.
template <int Control, int RowMask = 0xf> AITER_MOE_DEVICE int moved(int value) {
  return __builtin_amdgcn_update_dpp(0, value, Control, RowMask, 0xf, false);
}

// The sum over a wave whose lanes are all active: over rows of 16, then across rows.
AITER_MOE_DEVICE int wave_sum(int value) {
  constexpr int row_right = 0x110, last_of_row = 0x142, last_of_half = 0x143;
  value += moved<row_right + 1>(value);
  value += moved<row_right + 2>(value);
  value += moved<row_right + 4>(value);
  value += moved<row_right + 8>(value);
  value += moved<last_of_row, 0xa>(value);
  value += moved<last_of_half, 0xc>(value);
  return __builtin_amdgcn_readlane(value, wave_lanes - 1);
}

}  // namespace aiter_moe::hip
