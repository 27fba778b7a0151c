// SPDX-License-Identifier: MIT
// Reading the MoE sort: blocks of sorted slots and their valid rows. The rows of an expert follow
// each other; pads stand at the end of its last block and are known by slot >= topk alone.
#pragma once

#include <stdint.h>

#include "common/stage_args.h"

namespace aiter_moe::cpu {

struct Slot {
  int token;
  int slot;
};

inline Slot sorted_slot(const StageArgs& args, long row) {
  const uint32_t id = static_cast<uint32_t>(args.sorted_ids[row]);
  return {static_cast<int>(id & 0xFFFFFF), static_cast<int>(id >> 24)};
}

// Row of the stage's output, and of stage 2's input.
inline long slot_row(const StageArgs& args, Slot slot) {
  return static_cast<long>(slot.token) * args.topk + slot.slot;
}

inline int used_blocks(const StageArgs& args) { return args.num_valid_ids[0] / args.block_m; }

// Rows of `block` before its pads, by bisection.
inline int valid_rows(const StageArgs& args, int block) {
  int low = 0, high = args.block_m;
  while (low < high) {
    const int middle = (low + high) / 2;
    const long row = static_cast<long>(block) * args.block_m + middle;
    if (sorted_slot(args, row).slot >= args.topk) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

}  // namespace aiter_moe::cpu
