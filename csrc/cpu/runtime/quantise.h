// SPDX-License-Identifier: MIT
// Rows of bf16, fp16 or f32 to MXFP4, shared out over the pool; see quantise_block.h.
#pragma once

#include "common/pool.h"
#include "cpu/runtime/quantise_block.h"

namespace aiter_moe {

struct QuantiseArgs {
  const void* x;       // rows of `columns` elements, `stride` elements apart
  uint8_t* codes;      // [rows][columns / 2]
  uint8_t* scales;     // [rows][columns / 32]
  long rows;
  long columns;
  long stride;
  Float type;
  Rounding rounding;

  static constexpr long kElementsPerItem = 16384;  // with fewer a barrier costs more than it gives

  long rows_per_item() const { return larger(kElementsPerItem / larger(columns, 1L), 1L); }
};

template <Float kType, Rounding kRounding>
inline void quantise_rows(const QuantiseArgs& args, long begin, long end) {
  const long blocks = args.columns / 32;
  for (long row = begin; row < end; ++row) {
    uint8_t* codes = args.codes + row * (args.columns / 2);
    for (long block = 0; block < blocks; ++block) {
      const uint32_t scale = quantise_block<kType, kRounding>(
          args.x, row * args.stride + 32 * block, codes + 16 * block);
      args.scales[row * blocks + block] = static_cast<uint8_t>(scale);
    }
  }
}

template <Float kType>
inline void quantise_rows(const QuantiseArgs& args, long begin, long end) {
  switch (args.rounding) {
    case Rounding::kDown: return quantise_rows<kType, Rounding::kDown>(args, begin, end);
    case Rounding::kUp: return quantise_rows<kType, Rounding::kUp>(args, begin, end);
    case Rounding::kEven: return quantise_rows<kType, Rounding::kEven>(args, begin, end);
    case Rounding::kCeil: return quantise_rows<kType, Rounding::kCeil>(args, begin, end);
  }
}

inline void quantise_rows(const QuantiseArgs& args, long begin, long end) {
  switch (args.type) {
    case Float::kBf16: return quantise_rows<Float::kBf16>(args, begin, end);
    case Float::kF16: return quantise_rows<Float::kF16>(args, begin, end);
    case Float::kF32: return quantise_rows<Float::kF32>(args, begin, end);
  }
}

// Rows in items that are worth a thread's while, whose context is a QuantiseArgs.
inline Task quantise_task() {
  return {[](const void*) { return 1; },
          [](const void* context, int) {
            const QuantiseArgs& args = *static_cast<const QuantiseArgs*>(context);
            return (args.rows + args.rows_per_item() - 1) / args.rows_per_item();
          },
          [](const void* context, int, long begin, long end, int) {
            const QuantiseArgs& args = *static_cast<const QuantiseArgs*>(context);
            const long rows = args.rows_per_item();
            quantise_rows(args, begin * rows, smaller(end * rows, args.rows));
          }};
}

inline void quantise(const QuantiseArgs& args, int threads) {
  Pool::run(quantise_task(), &args, threads);
}

}  // namespace aiter_moe
