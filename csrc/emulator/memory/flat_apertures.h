// SPDX-License-Identifier: MIT
// Which memory the lanes of a flat instruction mean, by the upper half of their address. The
// windows themselves are in wave_inline.h (namespace aperture).
#pragma once

#include "emulator/memory/lane_mask.h"
#include "emulator/memory/transfer.h"

namespace aiter_moe::emulator {

struct ApertureLanes {
  u64 shared;
  u64 scratch;
};

inline ApertureLanes split_by_aperture(const LaneAddresses& at, u64 which) {
  LaneFlags shared, scratch;
  for (int lane = 0; lane < lanes; ++lane) {
    const u64 window = at.at[lane] / aperture::bytes * aperture::bytes;
    shared.lane[lane] = window == aperture::shared_base;
    scratch.lane[lane] = window == aperture::private_base;
  }
  return {mask_of(shared) & which, mask_of(scratch) & which};
}

}  // namespace aiter_moe::emulator
