// SPDX-License-Identifier: MIT
// What the AVX2 micro-kernels of both kinds share: the walk over a panel, prefetch, scales, and
// choosing the instance for a number of rows.
//
// A panel is read tile by tile and group by group, one sequential stream for any number of rows.
// Each group is decoded once for all rows of the pass; sums stand in `out`, in the first cache.
#pragma once

#include <immintrin.h>

#include "cpu/operands.h"

namespace aiter_moe::cpu::avx2 {

constexpr int kHalfLanes = 8;  // columns of a vector
constexpr int kLines = 4;      // of 64 bytes in a group's codes: eight k each

// Where a pass reads weights: blocks of a panel, then tiles from `next` on unless it is null, and
// how many tiles ahead of use they are asked for.
struct Stream {
  Panel panel;
  const uint8_t* next;
  int ahead;
  BlockRange range;
};

// Asks for a group's lines, and with the first group's the scales before them.
AITER_MOE_INLINE void prefetch_group(const Stream& stream, int block, int group) {
  if (stream.ahead == 0) return;
  const int at = block + stream.ahead - stream.range.end;
  if (at >= 0 && stream.next == nullptr) return;
  const uint8_t* const tile =
      at < 0 ? panel_tile(stream.panel, block + stream.ahead) : panel_tile({stream.next}, at);
  if (group == 0) _mm_prefetch(reinterpret_cast<const char*>(tile), _MM_HINT_T0);
  AITER_MOE_UNROLL
  for (int line = 0; line < kLines; ++line) {
    _mm_prefetch(reinterpret_cast<const char*>(group_codes(tile, group) + 64 * line), _MM_HINT_T0);
  }
}

// Eight columns' codes, a dword each with eight k.
AITER_MOE_INLINE __m256i load_octets(const uint8_t* codes, int line, int half) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + 64 * line + 32 * half));
}

// The scale bytes of eight columns, one per dword.
AITER_MOE_INLINE __m256i load_scale_bytes(const uint8_t* scales, int half) {
  return _mm256_cvtepu8_epi32(
      _mm_loadl_epi64(reinterpret_cast<const __m128i*>(scales + kHalfLanes * half)));
}

// The low, or the high, nibble of every byte.
AITER_MOE_INLINE __m256i low_nibbles(__m256i bytes) {
  return _mm256_and_si256(bytes, _mm256_set1_epi8(15));
}

AITER_MOE_INLINE __m256i high_nibbles(__m256i bytes) {
  return low_nibbles(_mm256_srli_epi16(bytes, 4));
}

// The same sixteen bytes in both lanes, as vpshufb looks them up.
AITER_MOE_INLINE __m256i byte_table(__m128i values) { return _mm256_broadcastsi128_si256(values); }

AITER_MOE_INLINE void clear(float* out, int vectors) {
  for (int i = 0; i < vectors; ++i) _mm256_storeu_ps(out + kHalfLanes * i, _mm256_setzero_ps());
}

// Calls `kernel.template operator()<Rows>()` with Rows = count, 1 <= count <= Most.
template <int Most, class Kernel>
AITER_MOE_INLINE void with_rows(int count, const Kernel& kernel) {
  if constexpr (Most > 1) {
    if (count < Most) return with_rows<Most - 1>(count, kernel);
  }
  kernel.template operator()<Most>();
}

// Rows of a pass shared out evenly over runs that registers hold.
struct Runs {
  int count, base, longer;  // `longer` runs of base + 1 rows, then runs of `base`
};

template <int Most>
Runs runs_of(int rows) {
  const int count = (rows + Most - 1) / Most;
  return {count, rows / count, rows % count};
}

// Calls `kernel.template operator()<Rows>(first)` for every run, Rows at most `Most`.
template <int Most, class Kernel>
AITER_MOE_INLINE void for_each_run(Runs runs, const Kernel& kernel) {
  int first = 0;
  for (int run = 0; run < runs.count; ++run) {
    const int rows = runs.base + (run < runs.longer ? 1 : 0);
    with_rows<Most>(rows, [&]<int Rows>() { kernel.template operator()<Rows>(first); });
    first += rows;
  }
}

// Calls visit(tile, group, packed block, sums of the group) for every group of every block.
template <class Visit>
AITER_MOE_INLINE void walk(const Stream& stream, const uint32_t* x, long block_words, int rows,
                           int groups, float* out, const Visit& visit) {
  clear(out, groups * rows * kLanes / kHalfLanes);
  for (int block = stream.range.begin; block < stream.range.end; ++block, x += block_words) {
    const uint8_t* const tile = panel_tile(stream.panel, block);
    for (int group = 0; group < groups; ++group) {
      prefetch_group(stream, block, group);
      visit(tile, group, x, out + group * rows * kLanes);
    }
  }
}

}  // namespace aiter_moe::cpu::avx2
