// SPDX-License-Identifier: MIT
// Which memory the lanes of a flat instruction mean, by the upper half of their address. The
// windows themselves are in wave_inline.h (namespace aperture).
#pragma once

#include "emulator/memory/transfer.h"

namespace aiter_moe::emulator {

struct ApertureLanes {
  u64 shared;
  u64 scratch;
};

inline ApertureLanes split_by_aperture(const LaneAddresses& at, u64 which) {
  ApertureLanes split{};
  for (int lane = 0; lane < lanes; ++lane) {
    const u64 window = at.at[lane] / aperture::bytes * aperture::bytes;
    split.shared |= static_cast<u64>(window == aperture::shared_base) << lane;
    split.scratch |= static_cast<u64>(window == aperture::private_base) << lane;
  }
  return {split.shared & which, split.scratch & which};
}

}  // namespace aiter_moe::emulator
