// SPDX-License-Identifier: MIT
// bf16 activations x MXFP4 weights with 512-bit vectors, for any way to multiply and add (`Dot`):
// whole tiles for few rows; a column group at a time with weights decoded on the way; or two groups
// at a time with weights of a few blocks decoded ahead, once for all rows.
#pragma once

#include "cpu/avx512_tile.h"
#include "cpu/avx512_transpose.h"

namespace aiter_moe::cpu::zmm {

constexpr int kLines = 4;  // lines of codes of a group, eight k each

// `Dot` multiplies the eight k of a line of codes in kSteps steps.
template <class Dot>
constexpr int kBlockSteps = kLines* Dot::kSteps;

AITER_MOE_INLINE __m512i load_line(const uint8_t* codes, int line) {
  return _mm512_loadu_si512(codes + 64 * line);
}

AITER_MOE_INLINE __m512 group_scale(const uint8_t* tile, int group) {
  return scales_to_f32(load_scale_bytes(group_scales(tile, group)));
}

// ---- 1 to kFewRows rows

template <class Dot, int Rows>
__attribute__((noinline)) void multiply_few(const Job& job, const uint32_t* x, float* out) {
  // Additions of one sum wait for each other; a row alone has too few sums to fill the time.
  constexpr int kChains = Rows == 1 ? 4 : Rows == 2 ? 2 : 1;
  const __m512i table = Dot::table();
  __m512 sum[kPanelGroups][Rows];
  AITER_MOE_UNROLL
  for (int i = 0; i < kPanelGroups * Rows; ++i) sum[i / Rows][i % Rows] = _mm512_setzero_ps();
  for (int block = job.range.begin; block < job.range.end; ++block) {
    const uint8_t* const tile = panel_tile(job.panel, block);
    if (const uint8_t* const soon = job.tile_ahead(block, job.ahead)) prefetch_lines(soon);
    AITER_MOE_UNROLL
    for (int group = 0; group < kPanelGroups; ++group) {
      __m512 part[kChains][Rows];
      AITER_MOE_UNROLL
      for (int i = 0; i < kChains * Rows; ++i) part[i / Rows][i % Rows] = _mm512_setzero_ps();
      AITER_MOE_UNROLL
      for (int line = 0; line < kLines; ++line) {
        const __m512i codes = load_line(group_codes(tile, group), line);
        AITER_MOE_UNROLL
        for (int step = 0; step < Dot::kSteps; ++step) {
          const __m512i weights = Dot::weights(codes, step, table);
          AITER_MOE_UNROLL
          for (int m = 0; m < Rows; ++m) {
            __m512& to = part[step % kChains][m];
            to = Dot::add(to, weights, x[(line * Dot::kSteps + step) * Rows + m]);
            keep_in_register(to);
          }
        }
      }
      const __m512 scale = group_scale(tile, group);
      AITER_MOE_UNROLL
      for (int m = 0; m < Rows; ++m) {
        __m512 dot = part[0][m];
        AITER_MOE_UNROLL
        for (int chain = 1; chain < kChains; ++chain) dot = _mm512_add_ps(dot, part[chain][m]);
        sum[group][m] = _mm512_fmadd_ps(dot, scale, sum[group][m]);
      }
    }
    x += kBlockSteps<Dot> * Rows;
  }
  AITER_MOE_UNROLL
  for (int i = 0; i < kPanelGroups * Rows; ++i) {
    _mm512_storeu_ps(out + i * kLanes, sum[i / Rows][i % Rows]);
  }
}

// ---- up to kPassRows rows, a group at a time: for CPUs that decode beside their dot products

template <class Dot, int Rows>
__attribute__((noinline)) void multiply_group(const Job& job, int group, const uint32_t* x,
                                              float* out) {
  constexpr int kChains = Rows <= 5 ? 2 : 1;
  constexpr int kAhead = (kTileBytes / 64 + kPanelGroups - 1) / kPanelGroups;
  const __m512i table = Dot::table();
  __m512 sum[Rows];
  AITER_MOE_UNROLL
  for (int m = 0; m < Rows; ++m) sum[m] = _mm512_setzero_ps();
  for (int block = job.range.begin; block < job.range.end; ++block) {
    const uint8_t* const tile = panel_tile(job.panel, block);
    if (const uint8_t* const soon = job.tile_ahead(block, job.ahead)) {
      prefetch_lines<0, kAhead>(soon + 64 * (group * (kTileBytes / 64) / kPanelGroups));
    }
    __m512 part[kChains][Rows];
    AITER_MOE_UNROLL
    for (int i = 0; i < kChains * Rows; ++i) part[i / Rows][i % Rows] = _mm512_setzero_ps();
    AITER_MOE_ROLLED
    for (int line = 0; line < kLines; ++line) {
      const __m512i codes = load_line(group_codes(tile, group), line);
      AITER_MOE_UNROLL
      for (int step = 0; step < Dot::kSteps; ++step) {
        const __m512i weights = Dot::weights(codes, step, table);
        AITER_MOE_UNROLL
        for (int m = 0; m < Rows; ++m) {
          __m512& to = part[step % kChains][m];
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
      for (int chain = 1; chain < kChains; ++chain) dot = _mm512_add_ps(dot, part[chain][m]);
      sum[m] = _mm512_fmadd_ps(dot, scale, sum[m]);
      keep_in_register(sum[m]);
    }
  }
  AITER_MOE_UNROLL
  for (int m = 0; m < Rows; ++m) _mm512_storeu_ps(out + m * kLanes, sum[m]);
}

// ---- any number of rows, two groups at a time: decoding is shared by all passes

constexpr int kTogether = 2;  // column groups of a pass: they share the broadcast activations

template <class Dot>
struct Decoded {
  static constexpr int kBlocks = 128 / kBlockSteps<Dot>;  // 16 KB of weights stay in L1

  alignas(64) __m512i weights[kBlocks][kBlockSteps<Dot>][kTogether];
  alignas(64) __m512 scales[kBlocks][kTogether];
};

template <class Dot>
inline void decode(Panel panel, int group, BlockRange blocks, Decoded<Dot>& to) {
  const __m512i table = Dot::table();
  for (int block = blocks.begin; block < blocks.end; ++block) {
    const uint8_t* const tile = panel_tile(panel, block);
    for (int g = 0; g < kTogether; ++g) {
      to.scales[block - blocks.begin][g] = group_scale(tile, group + g);
      AITER_MOE_UNROLL
      for (int line = 0; line < kLines; ++line) {
        const __m512i codes = load_line(group_codes(tile, group + g), line);
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
// at the first of these rows, one block every `stride` dwords. On the way, lines of the tiles after
// them are asked for: those from `soon` on, unless it is null.
template <class Dot, int Rows>
__attribute__((noinline)) void multiply_decoded(const Decoded<Dot>& w, int blocks,
                                                const uint32_t* x, long stride,
                                                const uint8_t* soon, float* out,
                                                long group_stride) {
  for (int block = 0; block < blocks; ++block, x += stride) {
    if (soon != nullptr) {
      prefetch_lines<0, kTogether * kGroupBytes / 64 + 1>(soon);
      soon += kTileBytes;
    }
    __m512 part[kTogether][Rows];
    AITER_MOE_UNROLL
    for (int i = 0; i < kTogether * Rows; ++i) part[i / Rows][i % Rows] = _mm512_setzero_ps();
    AITER_MOE_ROLLED
    for (int i = 0; i < kBlockSteps<Dot>; ++i) {
      AITER_MOE_UNROLL
      for (int m = 0; m < Rows; ++m) {
        AITER_MOE_UNROLL
        for (int g = 0; g < kTogether; ++g) {
          part[g][m] = Dot::add(part[g][m], w.weights[block][i][g], x[i * Rows + m]);
          keep_in_register(part[g][m]);
        }
      }
    }
    AITER_MOE_UNROLL
    for (int i = 0; i < kTogether * Rows; ++i) {
      const int g = i / Rows, m = i % Rows;
      float* const to = out + g * group_stride + m * kLanes;
      _mm512_storeu_ps(to, _mm512_fmadd_ps(part[g][m], w.scales[block][g], _mm512_loadu_ps(to)));
    }
  }
}

template <class Dot>
inline void multiply_many(const Job& job, const uint32_t* x, int rows, int groups, float* out) {
  Decoded<Dot> w;
  for (int i = 0; i < kPanelGroups * rows; ++i) {
    _mm512_storeu_ps(out + i * kLanes, _mm512_setzero_ps());
  }
  const long stride = static_cast<long>(kBlockSteps<Dot>) * rows;
  BlockRange blocks;
  for (blocks.begin = job.range.begin; blocks.begin < job.range.end; blocks.begin = blocks.end) {
    const int most = blocks.begin + Decoded<Dot>::kBlocks;
    blocks.end = most < job.range.end ? most : job.range.end;
    const int count = blocks.end - blocks.begin;
    const int distance = job.ahead > count ? job.ahead : count;
    const uint8_t* const soon = job.tile_ahead(blocks.begin, distance);
    for (int group = 0; group < groups; group += kTogether) {
      decode<Dot>(job.panel, group, blocks, w);
      for (int index = 0; index < row_passes(rows); ++index) {
        const RowPass pass = row_pass(rows, index);
        const bool asks = index == row_passes(rows) - 1 && soon != nullptr;
        const uint8_t* const lines = asks ? soon + group * kGroupBytes : nullptr;
        with_rows<1, kPassRows>(pass.rows, [&]<int Rows>() {
          multiply_decoded<Dot, Rows>(w, count, x + kBlockSteps<Dot> * pass.first, stride, lines,
                                      out + (group * rows + pass.first) * kLanes,
                                      static_cast<long>(rows) * kLanes);
        });
      }
    }
    x += count * stride;
  }
}

// `Rows`: most rows of a call. `Groups`: 1, with Rows <= kPassRows, or 2.
template <class Dot, int Rows, int Groups>
struct A16W4 {
  static_assert(Groups == 2 || (Groups == 1 && Rows <= kPassRows));

  static constexpr int kRows = Rows;
  static constexpr int kRowWords = kBlockSteps<Dot>;
  static constexpr int kActivationBits = 16;

  static long words(int rows, int blocks) { return static_cast<long>(kRowWords) * rows * blocks; }

  // [block][pass][step][row of the pass].
  static void pack(const RowSource* rows, int count, int blocks, uint32_t* to) {
    for (int index = 0; index < row_passes(count); ++index) {
      const RowPass pass = row_pass(count, index);
      uint32_t* own = to + kRowWords * pass.first;
      for (int block = 0; block < blocks; ++block, own += words(count, 1)) {
        pack_block(rows + pass.first, pass.rows, block, own);
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
        with_rows<kFewRows + 1, kPassRows>(
            rows, [&]<int Some>() { multiply_group<Dot, Some>(job, group, x, to); });
      }
    } else {
      multiply_many<Dot>(job, x, rows, groups, out);
    }
  }
};

}  // namespace aiter_moe::cpu::zmm
