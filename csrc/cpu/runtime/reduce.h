// SPDX-License-Identifier: MIT
// The sum of a token's rows over its slots, in slot order and float32, rounded once.
#pragma once

#include "cpu/runtime/convert.h"
#include "common/pool.h"

namespace aiter_moe {

struct ReduceArgs {
  const float* rows;      // [tokens][topk][columns]
  const int* positions;   // [tokens][topk]: -1 skips the row, which may hold anything; or null
  void* out;              // [tokens] rows of `columns`, `stride` elements apart
  long tokens;
  long topk;
  long columns;
  long stride;
  Float type;

  static constexpr long kColumns = 1024;  // per item: accumulators that stay in the first cache

  long items_per_token() const { return (columns + kColumns - 1) / kColumns; }
};

inline void store_sums(const ReduceArgs& args, long at, const float* sums, long count) {
  if (args.type == Float::kF32) {
    float* out = static_cast<float*>(args.out) + at;
    for (long i = 0; i < count; ++i) out[i] = sums[i];
  } else if (args.type == Float::kBf16) {
    uint16_t* out = static_cast<uint16_t*>(args.out) + at;
    for (long i = 0; i < count; ++i) out[i] = f32_to_bf16(sums[i]);
  } else {
    uint16_t* out = static_cast<uint16_t*>(args.out) + at;
    for (long i = 0; i < count; ++i) out[i] = f32_to_f16(sums[i]);
  }
}

inline void reduce_item(const ReduceArgs& args, long item) {
  const long token = item / args.items_per_token();
  const long first = item % args.items_per_token() * ReduceArgs::kColumns;
  const long count = smaller(ReduceArgs::kColumns, args.columns - first);
  float sums[ReduceArgs::kColumns];
  for (long i = 0; i < count; ++i) sums[i] = 0.0f;
  for (long slot = 0; slot < args.topk; ++slot) {
    const long row = token * args.topk + slot;
    if (args.positions != nullptr && args.positions[row] < 0) continue;
    const float* from = args.rows + row * args.columns + first;
    for (long i = 0; i < count; ++i) sums[i] += from[i];
  }
  store_sums(args, token * args.stride + first, sums, count);
}

inline void reduce(const ReduceArgs& args, int threads) {
  static constexpr long kElementsPerThread = 32768;
  static constexpr Task task{
      [](const void*) { return 1; },
      [](const void* context, int) {
        const ReduceArgs& all = *static_cast<const ReduceArgs*>(context);
        return all.tokens * all.items_per_token();
      },
      [](const void* context, int, long begin, long end, int) {
        for (long item = begin; item < end; ++item) {
          reduce_item(*static_cast<const ReduceArgs*>(context), item);
        }
      }};
  const long useful = args.tokens * args.topk * args.columns / kElementsPerThread;
  Pool::run(task, &args, static_cast<int>(smaller<long>(threads, useful)));
}

}  // namespace aiter_moe
