// SPDX-License-Identifier: MIT
// The rows of a block: which token and slot each one is, and its routing weight. Tiles take the
// type as a parameter; `SortedRows` reads what a sort left in memory.
// Not here: routing that is read directly (direct/routing.h).
#pragma once

#include "hip/layout.h"

namespace aiter_moe::hip {

// One row of a block: its place in the token-slot order, or no row for a pad.
struct Slot {
  int token;
  int slot;
  bool used;
};

AITER_MOE_DEVICE Slot slot_of(const StageArgs& a, u32 word) {
  const int slot = static_cast<int>(word >> 24);
  return {static_cast<int>(word & 0xffffffu), slot, slot < a.topk};
}

// Elements before row `row` of rows that are `stride` apart.
AITER_MOE_DEVICE i64 row_offset(int row, int stride) {
  return static_cast<i64>(static_cast<__UINT64_TYPE__>(static_cast<u32>(row)) *
                          static_cast<u32>(stride));
}

struct SortedRows {
  int first;  // sorted row
  int used;   // num_valid_ids[0]

  // The row blocks in use.
  template <int BlockM> static AITER_MOE_DEVICE int blocks(const StageArgs& a) {
    return (constant(a.num_valid_ids)[0] + BlockM - 1) / BlockM;
  }
  template <int BlockM> static AITER_MOE_DEVICE SortedRows of(const StageArgs& a, int block) {
    return {block * BlockM, constant(a.num_valid_ids)[0]};
  }
  static AITER_MOE_DEVICE int expert(const StageArgs& a, int block) {
    return constant(a.sorted_expert_ids)[block];
  }
  // `row` counts from the first of the block. There is a used row in every block, so that nothing
  // needs to branch.
  AITER_MOE_DEVICE Slot slot(const StageArgs& a, int row) const {
    Slot s = slot_of(a, global(reinterpret_cast<const u32*>(a.sorted_ids))[readable(row)]);
    s.used = s.used && first + row < used;
    return s;
  }
  // Anything for a row that is not used.
  AITER_MOE_DEVICE float weight(const StageArgs& a, int row) const {
    return global(a.sorted_weights)[readable(row)];
  }
  AITER_MOE_DEVICE u32 readable(int row) const {
    return static_cast<u32>(smaller(first + row, used - 1));
  }
};

}  // namespace aiter_moe::hip
