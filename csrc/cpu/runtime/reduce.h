// SPDX-License-Identifier: MIT
// The sum of a token's rows over its slots, in slot order and float32, rounded once.
#pragma once

#include "cpu/runtime/convert.h"
#include "common/pool.h"

namespace aiter_moe {

struct ReduceArgs {
  const float* rows;      // [tokens][topk][columns]
  const int* positions;   // [tokens][topk]: -1 skips the row, which may hold anything; or null
  void* out;              // [tokens] rows of `out_columns`, `stride` elements apart
  long tokens;
  long topk;
  long columns;
  long out_columns;       // those from `columns` on become 0
  long stride;
  Float type;

  static constexpr long kColumns = 1024;           // accumulators that stay in the first cache
  static constexpr long kElementsPerItem = 16384;  // with fewer a barrier costs more than it gives

  long tokens_per_item() const {
    return larger(kElementsPerItem / larger(topk * columns, 1L), 1L);
  }
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

inline void reduce_columns(const ReduceArgs& args, long token, long first, long count) {
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

inline void reduce_token(const ReduceArgs& args, long token) {
  for (long first = 0; first < args.columns; first += ReduceArgs::kColumns) {
    reduce_columns(args, token, first, smaller(ReduceArgs::kColumns, args.columns - first));
  }
  const long size = args.type == Float::kF32 ? 4 : 2;
  char* const end = static_cast<char*>(args.out) + (token * args.stride + args.columns) * size;
  if (args.out_columns > args.columns) {
    host_memset(end, 0, (args.out_columns - args.columns) * size);
  }
}

// Tokens in items that are worth a thread's while, whose context is a ReduceArgs.
inline Task reduce_task() {
  return {[](const void*) { return 1; },
          [](const void* context, int) {
            const ReduceArgs& args = *static_cast<const ReduceArgs*>(context);
            return (args.tokens + args.tokens_per_item() - 1) / args.tokens_per_item();
          },
          [](const void* context, int, long begin, long end, int) {
            const ReduceArgs& args = *static_cast<const ReduceArgs*>(context);
            const long per_item = args.tokens_per_item();
            const long last = smaller(end * per_item, args.tokens);
            for (long token = begin * per_item; token < last; ++token) reduce_token(args, token);
          }};
}

inline void reduce(const ReduceArgs& args, int threads) {
  Pool::run(reduce_task(), &args, threads);
}

}  // namespace aiter_moe
