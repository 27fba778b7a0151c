// SPDX-License-Identifier: MIT
// What the AVX-512 micro-kernels share: reading weight tiles and their scales, prefetch, cutting
// rows into passes that fit in registers, and choosing the instance for a number of rows.
#pragma once

#include <immintrin.h>

#include "cpu/operands.h"
#include "cpu/share.h"

namespace aiter_moe::cpu::zmm {

constexpr int kFewRows = 4;  // so many rows walk whole tiles, with sums of all columns at hand

// Most rows of a call that takes one group at a time and decodes it on the way, sums in registers.
constexpr int kGroupRows = 12;

// Most rows of a pass over all columns of a panel, sums in registers: 24 of them wait for 10 loads
// a step, which two ports bring in time.
constexpr int kPassRows = 6;

// A group's codes: one vector per eight k.
AITER_MOE_INLINE void load_octets(const uint8_t* codes, __m512i octet[4]) {
  AITER_MOE_UNROLL
  for (int line = 0; line < 4; ++line) octet[line] = _mm512_loadu_si512(codes + 64 * line);
}

// The sixteen scale bytes of a group, one per dword.
AITER_MOE_INLINE __m512i load_scale_bytes(const uint8_t* scales) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(scales)));
}

AITER_MOE_INLINE __m512 scales_to_f32(__m512i bytes) {
  const __m512i bits = _mm512_max_epu32(_mm512_slli_epi32(bytes, 23), _mm512_set1_epi32(0x400000));
  const __mmask16 nan = _mm512_cmpeq_epi32_mask(bytes, _mm512_set1_epi32(kNanScale));
  return _mm512_castsi512_ps(_mm512_mask_mov_epi32(bits, nan, _mm512_set1_epi32(0x7FC00000)));
}

// Asks for lines [First, Last) of a tile.
template <int First = 0, int Last = kTileBytes / 64>
AITER_MOE_INLINE void prefetch_lines(const uint8_t* tile) {
  AITER_MOE_UNROLL
  for (int line = First; line < Last; ++line) {
    _mm_prefetch(reinterpret_cast<const char*>(tile + 64 * line), _MM_HINT_T0);
  }
}

// Asks for a group's share of the lines of a tile.
AITER_MOE_INLINE void prefetch_share(const uint8_t* tile, int group) {
  constexpr int kTileLines = kTileBytes / 64;
  constexpr int kShare = (kTileLines + kPanelGroups - 1) / kPanelGroups;
  prefetch_lines<0, kShare>(tile + 64 * (group * kTileLines / kPanelGroups));
}

// What a micro-kernel reads: a panel over a range of blocks, and the tiles after it, if any.
struct Job {
  Panel panel;
  const uint8_t* next;
  int ahead;
  BlockRange range;

  // The tile `ahead` tiles after `block` in the order they are read; null: do not ask for any.
  AITER_MOE_INLINE const uint8_t* tile_ahead(int block, int distance) const {
    if (ahead == 0) return nullptr;
    const int past = block + distance - range.end;
    if (past < 0) return panel_tile(panel, block + distance);
    return next == nullptr ? nullptr : next + static_cast<long>(past) * kTileBytes;
  }
};

inline int row_passes(int rows) { return divided_up(rows, kPassRows); }

// The rows of one pass.
inline Share row_pass(int rows, int index) { return share_of(rows, row_passes(rows), index); }

// Zeroes [group][row][16].
AITER_MOE_INLINE void clear_sums(int rows, float* out) {
  for (int i = 0; i < kPanelGroups * rows; ++i) {
    _mm512_storeu_ps(out + i * kLanes, _mm512_setzero_ps());
  }
}

// Calls `kernel.template operator()<Rows>()` with Rows = count, First <= count <= Last.
template <int First, int Last, class Kernel>
AITER_MOE_INLINE void with_rows(int count, const Kernel& kernel) {
  if constexpr (First < Last) {
    if (count != First) return with_rows<First + 1, Last>(count, kernel);
  }
  kernel.template operator()<First>();
}

}  // namespace aiter_moe::cpu::zmm
