// SPDX-License-Identifier: MIT
// One micro-kernel by itself, as the stage drivers call it. KERNEL is its type.
#include "common/export.h"
#include "cpu/microkernel.h"

namespace {

using namespace aiter_moe::cpu;
using Micro = KERNEL;

struct Calls {
  int count;
  int rows;

  explicit Calls(int total)
      : count((total + Micro::kRows - 1) / Micro::kRows), rows((total + count - 1) / count) {}

  int first(int call) const { return call * rows; }

  int size(int call, int total) const {
    return first(call) + rows < total ? rows : total - first(call);
  }
};

uint32_t* packed(uint32_t* x, int first, int blocks) {
  return x + static_cast<long>(first) * Micro::kRowWords * blocks;
}

}  // namespace

AITER_MOE_EXPORT long packed_words(int rows, int blocks) {
  return static_cast<long>(rows) * Micro::kRowWords * blocks;
}

// Packs rows of `bytes` bytes (scales: `blocks` bytes) that lie one after the other.
AITER_MOE_EXPORT void pack(const uint8_t* values, long bytes, const uint8_t* scales, int rows,
                           int blocks, uint32_t* x) {
  const Calls calls(rows);
  for (int call = 0; call < calls.count; ++call) {
    RowSource source[Micro::kRows];
    const int first = calls.first(call), size = calls.size(call, rows);
    for (int m = 0; m < size; ++m) {
      source[m] = {values + (first + m) * bytes, scales + static_cast<long>(first + m) * blocks};
    }
    Micro::pack(source, size, blocks, packed(x, first, blocks));
  }
}

// Multiplies rows by panel after panel, `bytes` apart (0: the same again and again). The sums of
// the last one stay in `out`, [call][group][row][16].
AITER_MOE_EXPORT void sweep(const uint8_t* w, long bytes, long panels, int blocks, int ahead,
                            uint32_t* x, int rows, float* out) {
  const Calls calls(rows);
  for (long i = 0; i < panels; ++i, w += bytes) {
    for (int call = 0; call < calls.count; ++call) {
      const bool last = call == calls.count - 1;
      const uint8_t* const next = last && bytes > 0 && i < panels - 1 ? w + bytes : nullptr;
      const int first = calls.first(call);
      Micro::multiply({w}, next, ahead, {0, blocks}, packed(x, first, blocks),
                      calls.size(call, rows), kPanelGroups, out + first * kPanelColumns);
    }
  }
}
