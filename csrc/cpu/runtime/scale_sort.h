// SPDX-License-Identifier: MIT
// moe_mxfp4_sort: e8m0 scales of activations gathered into sorted order, in 32x8 tiles.
// Rows that are no token and columns past the last block are 0.
#pragma once

#include "common/pool.h"

namespace aiter_moe {

struct ScaleSortArgs {
  const uint8_t* scales;    // [tokens][slots][columns]
  const int* sorted_ids;    // [sorted]
  uint8_t* out;             // [rows][padded], rows = sorted rounded up to 32
  long sorted;
  long valid;               // leading slots that are used
  long tokens;
  long slots;               // 1: one row per token, whatever the slot
  long columns;
  long padded;              // columns rounded up to 8

  // The row of `scales` that belongs in sorted row r, or -1.
  long source(long r) const {
    if (r >= valid || r >= sorted) return -1;
    const uint32_t id = static_cast<uint32_t>(sorted_ids[r]);
    const long token = id & 0xFFFFFFu;
    const long slot = slots == 1 ? 0 : id >> 24;
    return token < tokens && slot < slots ? token * slots + slot : -1;
  }
};

inline void sort_scale_tile(const ScaleSortArgs& args, long tile) {
  uint8_t* out = args.out + tile * 32 * args.padded;
  host_memset(out, 0, 32 * args.padded);
  for (long r = 0; r < 32; ++r) {
    const long row = args.source(tile * 32 + r);
    if (row < 0) continue;
    const uint8_t* from = args.scales + row * args.columns;
    uint8_t* to = out + r % 16 * 4 + r / 16;
    for (long g = 0; g < args.columns; ++g) {
      to[g / 8 * 256 + g % 4 * 64 + g % 8 / 4 * 2] = from[g];
    }
  }
}

inline void sort_scales(const ScaleSortArgs& args, int threads) {
  static constexpr long kBytesPerThread = 16384;
  static constexpr Task task{
      [](const void*) { return 1; },
      [](const void* context, int) {
        return (static_cast<const ScaleSortArgs*>(context)->sorted + 31) / 32;
      },
      [](const void* context, int, long begin, long end, int) {
        for (long tile = begin; tile < end; ++tile) {
          sort_scale_tile(*static_cast<const ScaleSortArgs*>(context), tile);
        }
      }};
  const long useful = args.sorted * args.padded / kBytesPerThread;
  Pool::run(task, &args, static_cast<int>(smaller<long>(threads, useful)));
}

}  // namespace aiter_moe
