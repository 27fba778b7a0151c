// SPDX-License-Identifier: MIT
// Reading the MoE sort: blocks of sorted slots, their valid rows, and how rows are shared out.
// Pads stand at the end of a block and are known by slot >= topk alone.
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

template <int BlockM>
int used_blocks(const StageArgs& args) {
  return args.num_valid_ids[0] / BlockM;
}

// Rows of `block` before its pads, by bisection.
template <int BlockM>
int valid_rows(const StageArgs& args, int block) {
  int low = 0, high = BlockM;
  while (low < high) {
    const int middle = (low + high) / 2;
    const long row = static_cast<long>(block) * BlockM + middle;
    if (sorted_slot(args, row).slot >= args.topk) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

// Consecutive blocks of one expert that a work item computes against one chunk of its weights.
struct Segment {
  int block;
  int blocks;
  int expert;
};

constexpr int kSegmentRows = 128;

// Number of segments; fills `out` unless it is null.
template <int BlockM>
int find_segments(const StageArgs& args, Segment* out) {
  constexpr int limit = kSegmentRows > BlockM ? kSegmentRows / BlockM : 1;
  const int blocks = used_blocks<BlockM>(args);
  int found = 0, length = 0;
  for (int block = 0; block < blocks; ++block) {
    const int expert = args.sorted_expert_ids[block];
    const bool joins = length > 0 && length < limit && args.sorted_expert_ids[block - 1] == expert;
    length = joins ? length + 1 : 1;
    found += joins ? 0 : 1;
    if (out != nullptr) out[found - 1] = {block - length + 1, length, expert};
  }
  return found;
}

// Pass `index` of the `count` passes over `rows` rows: sizes differ by at most one.
struct Pass {
  int first;
  int rows;
};

inline Pass pass_of(int rows, int count, int index) {
  const int base = rows / count, extra = rows % count;
  return {index * base + (index < extra ? index : extra), base + (index < extra ? 1 : 0)};
}

}  // namespace aiter_moe::cpu
