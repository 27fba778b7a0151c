// SPDX-License-Identifier: MIT
// fp4 activations x MXFP4 weights with AVX-512 VNNI. Both sides are doubled to integers, so that
// products of blocks are exact; a scale 2^(w - 127 + x - 127 - 2) turns their sums into f32.
#pragma once

#include "cpu/avx512_a4w4_few.h"
#include "cpu/avx512_a4w4_many.h"

namespace aiter_moe::cpu::avx512_vnni {

// `Rows`: most rows of a call. `Groups`: 1, with Rows <= zmm::kGroupRows, or all of a panel.
template <int Rows, int Groups>
struct A4W4 {
  static_assert(Groups == kPanelGroups || (Groups == 1 && Rows <= zmm::kGroupRows));

  static constexpr int kRows = Rows;
  static constexpr int kRowWords = FewBlock::words(1);
  static constexpr int kActivationBits = 4;

  // Whether the weights of a call are decoded on the way, not ahead for all rows.
  static constexpr bool on_the_way(int rows) { return Groups == 1 || rows <= zmm::kFewRows; }

  static long words(int rows, int blocks) {
    const int block = on_the_way(rows) ? FewBlock::words(rows) : ManyBlock::words(rows);
    return static_cast<long>(block) * blocks;
  }

  static void pack(const RowSource* rows, int count, int blocks, uint32_t* to) {
    if (on_the_way(count)) {
      pack_few(rows, count, blocks, to);
    } else {
      pack_many(rows, count, blocks, to);
    }
  }

  static void multiply(Panel panel, const uint8_t* next, int ahead, BlockRange range,
                       const uint32_t* x, int rows, int groups, float* out) {
    const zmm::Job job{panel, next, ahead, range};
    if (rows <= zmm::kFewRows) {
      zmm::with_rows<1, zmm::kFewRows>(
          rows, [&]<int Few>() { multiply_few<Few>(job, x, out); });
    } else if constexpr (Groups == 1) {
      for (int group = 0; group < groups; ++group) {
        float* const to = out + group * rows * kLanes;
        zmm::with_rows<zmm::kFewRows + 1, zmm::kGroupRows>(
            rows, [&]<int Some>() { multiply_group<Some>(job, group, x, to); });
      }
    } else {
      multiply_many(job, x, rows, out);
    }
  }
};

}  // namespace aiter_moe::cpu::avx512_vnni

#if defined(__AVX512VBMI__)
// The same kernels: with this extension weights are decoded by one look-up of 64 entries.
namespace aiter_moe::cpu::avx512_vbmi {

using avx512_vnni::A4W4;

}  // namespace aiter_moe::cpu::avx512_vbmi
#endif
