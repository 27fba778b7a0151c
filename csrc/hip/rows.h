// SPDX-License-Identifier: MIT
// The rows of a block: which token and slot each one is, and its routing weight. Tiles take the
// type as a parameter; `SortedRows` reads what a sort left in memory.
// Not here: routing that is read directly (direct.h).
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
  // `row` counts from the first of the block.
  AITER_MOE_DEVICE Slot slot(const StageArgs& a, int row) const {
    if (first + row >= used) return {0, a.topk, false};
    return slot_of(a, global(reinterpret_cast<const u32*>(a.sorted_ids))[first + row]);
  }
  // Of a used row.
  AITER_MOE_DEVICE float weight(const StageArgs& a, int row) const {
    return global(a.sorted_weights)[first + row];
  }
};

}  // namespace aiter_moe::hip
