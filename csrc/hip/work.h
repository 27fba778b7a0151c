// SPDX-License-Identifier: MIT
// Which part of a stage a workgroup computes. Workgroups are dealt to the XCDs in turn, and each
// XCD has an L2 of its own, so that workgroup numbers are turned round: an XCD gets a run of work
// items. Row blocks come first in a run, since those of one expert read the same weights.
// Not here: the rows of a block (rows.h), what is computed for an item (stage1.h, stage2.h).
#pragma once

#include "hip/runtime.h"

namespace aiter_moe::hip {

constexpr int xcds = 8;  // of a gfx942 or gfx950 in one piece; in partitions the order just differs

struct Item {
  int row_block;
  int column_block;
  int part;  // of a split reduction
};

// The items of a launch: those of row blocks in use alone, so that the XCDs share what there is
// to do and not what there could have been.
struct WorkOrder {
  int row_blocks;
  int column_blocks;
  int parts;

  AITER_MOE_DEVICE int items() const { return row_blocks * column_blocks * parts; }
  AITER_MOE_DEVICE int first_of(int xcd) const {
    const int each = items() / xcds, rest = items() % xcds;
    return xcd * each + smaller(xcd, rest);
  }
  AITER_MOE_DEVICE Item item(int number) const {
    const int columns = number / row_blocks;
    return {number % row_blocks, columns % column_blocks, columns / column_blocks};
  }
};

// Calls f(Item) for the items of this workgroup: one at most, or, in a persistent kernel, every
// so manieth of its XCD. The grid is a multiple of `xcds`; without `Persistent` it has as many
// workgroups as items at least.
template <bool Persistent, int Threads, class F>
AITER_MOE_DEVICE void each_item(const WorkOrder& order, F f) {
  const int xcd = group_x() % xcds;
  const int end = order.first_of(xcd + 1);
  int number = order.first_of(xcd) + group_x() / xcds;
  if constexpr (Persistent) {
    const int stride = groups(Threads) / xcds;
    for (; number < end; number += stride) {
      f(order.item(number));
      barrier();  // rows of the next item overwrite what a slower wave may still read
    }
  } else if (number < end) {
    f(order.item(number));
  }
}

}  // namespace aiter_moe::hip
