// SPDX-License-Identifier: MIT
// bf16 activations x MXFP4 weights with 512-bit vectors, for any way to multiply and add (`Dot`):
// whole tiles for few rows; a column group at a time with weights decoded on the way; or all groups
// of a panel with weights of a few blocks decoded ahead, once for all rows.
#pragma once

#include "cpu/avx512_tile.h"
#include "cpu/avx512_transpose.h"

namespace aiter_moe::cpu::zmm {

constexpr int kLines = 4;  // lines of codes of a group, eight k each

// `Dot` multiplies the eight k of a line of codes in kSteps steps.
template <class Dot>
constexpr int kBlockSteps = kLines * Dot::kSteps;

AITER_MOE_INLINE __m512i load_line(const uint8_t* codes, int line) {
  return _mm512_loadu_si512(codes + 64 * line);
}

AITER_MOE_INLINE __m512 group_scale(const uint8_t* tile, int group) {
  return scales_to_f32(load_scale_bytes(group_scales(tile, group)));
}

// Adds a group's products of one block to the sums of `Rows` rows.
template <class Dot, int Rows, int Chains>
AITER_MOE_INLINE void multiply_block(const uint8_t* tile, int group, const uint32_t* x,
                                     __m512i table, __m512 sum[Rows]) {
  __m512 part[Chains][Rows];
  AITER_MOE_UNROLL
  for (int i = 0; i < Chains * Rows; ++i) part[i / Rows][i % Rows] = _mm512_setzero_ps();
  AITER_MOE_ROLLED
  for (int line = 0; line < kLines; ++line) {
    const __m512i codes = load_line(group_codes(tile, group), line);
    AITER_MOE_UNROLL
    for (int step = 0; step < Dot::kSteps; ++step) {
      const __m512i weights = Dot::weights(codes, step, table);
      AITER_MOE_UNROLL
      for (int m = 0; m < Rows; ++m) {
        __m512& to = part[step % Chains][m];
        to = Dot::add(to, weights, x[step * Rows + m]);
        keep_in_register(to);
      }
    }
    x += Dot::kSteps * Rows;
  }
  const __m512 scale = group_scale(tile, group);
  AITER_MOE_UNROLL
  for (int m = 0; m < Rows; ++m) {
    __m512 dot = part[0][m];
    AITER_MOE_UNROLL
    for (int chain = 1; chain < Chains; ++chain) dot = _mm512_add_ps(dot, part[chain][m]);
    sum[m] = _mm512_fmadd_ps(dot, scale, sum[m]);
    keep_in_register(sum[m]);
  }
}

// ---- 1 to kFewRows rows: whole tiles in order

template <class Dot, int Rows>
__attribute__((noinline)) void multiply_few(const Job& job, const uint32_t* x, float* out) {
  // Additions of one sum wait for each other; a row alone has too few sums to fill the time.
  constexpr int kChains = Rows == 1 ? 4 : Rows == 2 ? 2 : 1;
  const __m512i table = Dot::table();
  clear_sums(Rows, out);
  for (int block = job.range.begin; block < job.range.end; ++block) {
    const uint8_t* const tile = panel_tile(job.panel, block);
    if (const uint8_t* const soon = job.tile_ahead(block, job.ahead)) prefetch_lines(soon);
    AITER_MOE_ROLLED
    for (int group = 0; group < kPanelGroups; ++group) {
      float* const to = out + group * Rows * kLanes;
      __m512 sum[Rows];
      AITER_MOE_UNROLL
      for (int m = 0; m < Rows; ++m) sum[m] = _mm512_loadu_ps(to + m * kLanes);
      multiply_block<Dot, Rows, kChains>(tile, group, x, table, sum);
      AITER_MOE_UNROLL
      for (int m = 0; m < Rows; ++m) _mm512_storeu_ps(to + m * kLanes, sum[m]);
    }
    x += kBlockSteps<Dot> * Rows;
  }
}

// ---- up to kGroupRows rows, a group at a time: for CPUs that decode beside their dot products

template <class Dot, int Rows>
__attribute__((noinline)) void multiply_group(const Job& job, int group, const uint32_t* x,
                                              float* out) {
  constexpr int kChains = Rows <= 5 ? 2 : 1;
  const __m512i table = Dot::table();
  __m512 sum[Rows];
  AITER_MOE_UNROLL
  for (int m = 0; m < Rows; ++m) sum[m] = _mm512_setzero_ps();
  for (int block = job.range.begin; block < job.range.end; ++block) {
    const uint8_t* const tile = panel_tile(job.panel, block);
    if (const uint8_t* const soon = job.tile_ahead(block, job.ahead)) prefetch_share(soon, group);
    multiply_block<Dot, Rows, kChains>(tile, group, x, table, sum);
    x += kBlockSteps<Dot> * Rows;
  }
  AITER_MOE_UNROLL
  for (int m = 0; m < Rows; ++m) _mm512_storeu_ps(out + m * kLanes, sum[m]);
}

// ---- any number of rows, all groups together: decoding is shared by all passes

template <class Dot>
struct Decoded {
  static constexpr int kBlocks = 128 / kBlockSteps<Dot>;  // 32 KB of weights

  alignas(64) __m512i weights[kBlocks][kBlockSteps<Dot>][kPanelGroups];
  alignas(64) __m512 scales[kBlocks][kPanelGroups];
};

template <class Dot>
inline void decode(Panel panel, BlockRange blocks, Decoded<Dot>& to) {
  const __m512i table = Dot::table();
  for (int block = blocks.begin; block < blocks.end; ++block) {
    const uint8_t* const tile = panel_tile(panel, block);
    for (int g = 0; g < kPanelGroups; ++g) {
      to.scales[block - blocks.begin][g] = group_scale(tile, g);
      for (int line = 0; line < kLines; ++line) {
        const __m512i codes = load_line(group_codes(tile, g), line);
        AITER_MOE_UNROLL
        for (int step = 0; step < Dot::kSteps; ++step) {
          to.weights[block - blocks.begin][line * Dot::kSteps + step][g] =
              Dot::weights(codes, step, table);
        }
      }
    }
  }
}

// Adds `blocks` decoded blocks to the sums of `Rows` rows, [group][row][16]. `x` is the first block
// at the first of these rows, one block every `stride` dwords. On the way, the tiles after them are
// asked for: those from `soon` on, unless it is null.
template <class Dot, int Rows>
__attribute__((noinline)) void multiply_decoded(const Decoded<Dot>& w, int blocks,
                                                const uint32_t* x, long stride,
                                                const uint8_t* soon, float* out,
                                                long group_stride) {
  for (int block = 0; block < blocks; ++block, x += stride) {
    if (soon != nullptr) {
      prefetch_lines(soon);
      soon += kTileBytes;
    }
    __m512 part[kPanelGroups][Rows];
    AITER_MOE_UNROLL
    for (int i = 0; i < kPanelGroups * Rows; ++i) part[i / Rows][i % Rows] = _mm512_setzero_ps();
    AITER_MOE_ROLLED
    for (int i = 0; i < kBlockSteps<Dot>; ++i) {
      AITER_MOE_UNROLL
      for (int m = 0; m < Rows; ++m) {
        AITER_MOE_UNROLL
        for (int g = 0; g < kPanelGroups; ++g) {
          part[g][m] = Dot::add(part[g][m], w.weights[block][i][g], x[i * Rows + m]);
          keep_in_register(part[g][m]);
        }
      }
    }
    float* to = out;
    AITER_MOE_UNROLL
    for (int g = 0; g < kPanelGroups; ++g, to += group_stride) {
      AITER_MOE_UNROLL
      for (int m = 0; m < Rows; ++m) {
        const __m512 before = _mm512_loadu_ps(to + m * kLanes);
        _mm512_storeu_ps(to + m * kLanes, _mm512_fmadd_ps(part[g][m], w.scales[block][g], before));
      }
    }
  }
}

template <class Dot>
inline void multiply_many(const Job& job, const uint32_t* x, int rows, float* out) {
  Decoded<Dot> w;
  clear_sums(rows, out);
  const long stride = static_cast<long>(kBlockSteps<Dot>) * rows;
  BlockRange blocks;
  for (blocks.begin = job.range.begin; blocks.begin < job.range.end; blocks.begin = blocks.end) {
    const int most = blocks.begin + Decoded<Dot>::kBlocks;
    blocks.end = most < job.range.end ? most : job.range.end;
    const int count = blocks.end - blocks.begin;
    const uint8_t* const soon =
        job.tile_ahead(blocks.begin, job.ahead > count ? job.ahead : count);
    decode<Dot>(job.panel, blocks, w);
    for (int index = 0; index < row_passes(rows); ++index) {
      const Share pass = row_pass(rows, index);
      const uint8_t* const asked = index == row_passes(rows) - 1 ? soon : nullptr;
      with_rows<1, kPassRows>(pass.count, [&]<int Rows>() {
        multiply_decoded<Dot, Rows>(w, count, x + kBlockSteps<Dot> * pass.first, stride, asked,
                                    out + pass.first * kLanes,
                                    static_cast<long>(rows) * kLanes);
      });
    }
    x += count * stride;
  }
}

// `Rows`: most rows of a call. `Groups`: 1, with Rows <= kGroupRows, or all of a panel.
template <class Dot, int Rows, int Groups>
struct A16W4 {
  static_assert(Groups == kPanelGroups || (Groups == 1 && Rows <= kGroupRows));

  static constexpr int kRows = Rows;
  static constexpr int kRowWords = kBlockSteps<Dot>;
  static constexpr int kActivationBits = 16;

  static long words(int rows, int blocks) { return static_cast<long>(kRowWords) * rows * blocks; }

  // [block][pass][step][row of the pass].
  static void pack(const RowSource* rows, int count, int blocks, uint32_t* to) {
    const int passes = Groups == 1 ? 1 : row_passes(count);
    for (int index = 0; index < passes; ++index) {
      const Share pass = Groups == 1 ? Share{0, count} : row_pass(count, index);
      uint32_t* own = to + kRowWords * pass.first;
      for (int block = 0; block < blocks; ++block, own += words(count, 1)) {
        pack_block(rows + pass.first, pass.count, block, own);
      }
    }
  }

  static void pack_block(const RowSource* rows, int count, int block, uint32_t* to) {
    for (int step = 0; step < kRowWords; step += kTransposed, to += kTransposed * count) {
      const auto steps_of = [&](int m) {
        return Dot::steps(static_cast<const uint16_t*>(rows[m].values) + block * kBlock, step);
      };
      store_columns(count, steps_of, to);
    }
  }

  static void multiply(Panel panel, const uint8_t* next, int ahead, BlockRange range,
                       const uint32_t* x, int rows, int groups, float* out) {
    const Job job{panel, next, ahead, range};
    if (rows <= kFewRows) {
      with_rows<1, kFewRows>(rows, [&]<int Few>() { multiply_few<Dot, Few>(job, x, out); });
    } else if constexpr (Groups == 1) {
      for (int group = 0; group < groups; ++group) {
        float* const to = out + group * rows * kLanes;
        with_rows<kFewRows + 1, kGroupRows>(
            rows, [&]<int Some>() { multiply_group<Dot, Some>(job, group, x, to); });
      }
    } else {
      multiply_many<Dot>(job, x, rows, out);
    }
  }
};

}  // namespace aiter_moe::cpu::zmm
