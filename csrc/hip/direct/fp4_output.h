// SPDX-License-Identifier: MIT
// Rows of stage 1 requantised: codes, and scales by row. A workgroup has the 32 columns of a block.
#pragma once

#include "hip/direct/stage1.h"
#include "hip/fp4_output.h"

namespace aiter_moe::hip::direct {

struct Fp4Output {
  static AITER_MOE_DEVICE void store(
      const StageArgs& a, const f32x4 (&columns)[2], Slot slot, int first_column) {
    Fp4Blocks<1> blocks;
    blocks.put<0>(columns[0], columns[1]);
    store_blocks<RowScales>(a, blocks, /*sorted_row=*/0, slot, first_column / mx_block);
  }
};

}  // namespace aiter_moe::hip::direct
