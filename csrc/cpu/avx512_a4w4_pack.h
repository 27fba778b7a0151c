// SPDX-License-Identifier: MIT
// Packs fp4 activation rows for avx512_a4w4_many.h: bytes that carry their scale as far as a shift
// goes, offset to be unsigned.
#pragma once

#include "cpu/avx512_a4w4_scale.h"

namespace aiter_moe::cpu::avx512_vnni {

constexpr int kChunk = 16;  // blocks that may share a base; runs of activations end at multiples
constexpr int kMostShift = 3;
constexpr int kOffset = 12 << kMostShift;

// Packed per block: for every pass, 8 dwords of activations for each of its rows; then for all
// rows the exponents, first byte and width of `RowScales`, and whether the block may join the one
// before it in a run.
struct ManyBlock {
  static constexpr int kQuads = 8;

  static constexpr int words(int rows) { return (kQuads + 1) * rows + 3; }

  static RowScales scales(const uint32_t* block, int rows) {
    const uint32_t* const tail = block + (kQuads + 1) * rows;
    return {reinterpret_cast<const int*>(tail - rows), tail[0], tail[1]};
  }

  static bool joins(const uint32_t* block, int rows) { return block[words(rows) - 1] != 0; }
};

// Chooses the scale byte in which each of a row's blocks is counted: the least of `count` blocks
// where shifts reach the others, else each half for itself. Blocks that are not `live` take any.
inline void choose_bases(const uint8_t* scales, uint32_t live, int count, uint8_t* bases) {
  int least = kNanScale, most = 0;
  for (int i = 0; i < count; ++i) {
    if ((live >> i & 1) == 0) continue;
    least = scales[i] < least ? scales[i] : least;
    most = scales[i] > most ? scales[i] : most;
  }
  const bool none = most < least;
  if (!none && count > 1 && (most - least > kMostShift || most == kNanScale)) {
    const int half = count / 2;
    choose_bases(scales, live, half, bases);
    choose_bases(scales + half, live >> half, count - half, bases + half);
    return;
  }
  for (int i = 0; i < count; ++i) bases[i] = static_cast<uint8_t>(none ? 127 : least);
}

// Blocks of a row that are not all zeros, one bit each; a NaN scale makes zeros count.
inline uint32_t live_blocks(const uint8_t* codes, const uint8_t* scales, int count) {
  uint32_t live = 0;
  for (int i = 0; i < count; ++i) {
    const __m128i bytes =
        _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + i * (kBlock / 2)));
    const bool any = _mm_test_epi8_mask(bytes, _mm_set1_epi8(0x77)) != 0;
    live |= static_cast<uint32_t>(any || scales[i] == kNanScale) << i;
  }
  return live;
}

// The bytes of codes 0 to 15 under a shift.
AITER_MOE_INLINE __m128i shifted_fp4(int shift) {
  const __m128i offset = _mm_set1_epi8(12);
  const __m128i shifted =
      _mm_sll_epi16(_mm_add_epi8(doubled_fp4(), offset), _mm_cvtsi32_si128(shift));
  return _mm_add_epi8(shifted, _mm_set1_epi8(static_cast<char>(kOffset - (12 << shift))));
}

// Sixteen bytes of codes to 8 dwords, `stride` apart; byte b of an octet's dword holds k = 2 b (low
// nibble) and 2 b + 1.
AITER_MOE_INLINE void pack_many_row(const uint8_t* codes, int shift, int stride, uint32_t* to) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes));
  const __m128i nibble = _mm_set1_epi8(15), values = shifted_fp4(shift);
  const __m128i even = _mm_shuffle_epi8(values, _mm_and_si128(bytes, nibble));
  const __m128i odd = _mm_shuffle_epi8(values, _mm_and_si128(_mm_srli_epi16(bytes, 4), nibble));
  alignas(32) uint32_t quads[ManyBlock::kQuads];
  _mm_store_si128(reinterpret_cast<__m128i*>(quads), _mm_unpacklo_epi32(even, odd));
  _mm_store_si128(reinterpret_cast<__m128i*>(quads + 4), _mm_unpackhi_epi32(even, odd));
  AITER_MOE_UNROLL
  for (int i = 0; i < ManyBlock::kQuads; ++i) to[i * stride] = quads[i];
}

// A chunk of up to kChunk blocks of one row, from `block` on, given the base of each.
inline void pack_chunk(const RowSource& row, int block, int count, const uint8_t* bases, int rows,
                       Share pass, int m, uint32_t* to) {
  const uint8_t* const codes = static_cast<const uint8_t*>(row.values) + block * (kBlock / 2);
  for (int i = 0; i < count; ++i, to += ManyBlock::words(rows)) {
    const int shift = row.scales[block + i] - bases[i];
    const bool reached = shift >= 0 && shift <= kMostShift;  // or else all are zeros
    pack_many_row(codes + i * (kBlock / 2), reached ? shift : 0, pass.count,
                  to + ManyBlock::kQuads * pass.first + m);
    to[ManyBlock::kQuads * rows + pass.first + m] = packed_exponent(bases[i]);
  }
}

// What a block says of all rows, once their exponents are there.
inline void pack_range_of_rows(const uint32_t* before, int rows, uint32_t* block) {
  const uint32_t* const exponents = block + ManyBlock::kQuads * rows;
  int least = 255, most = 0;
  bool joins = before != nullptr;
  for (int m = 0; m < rows; ++m) {
    const int byte = (static_cast<int>(exponents[m]) >> 23) + kExponentBias;
    least = byte < least ? byte : least;
    most = byte > most ? byte : most;
    joins = joins && before[ManyBlock::kQuads * rows + m] == exponents[m];
  }
  uint32_t* const tail = block + (ManyBlock::kQuads + 1) * rows;
  pack_range(least, most, tail);
  tail[2] = joins;
}

inline void pack_many(const RowSource* rows, int count, int blocks, uint32_t* to) {
  for (int block = 0; block < blocks; block += kChunk) {
    const int chunk = blocks - block < kChunk ? blocks - block : kChunk;
    for (int index = 0; index < zmm::row_passes(count); ++index) {
      const Share pass = zmm::row_pass(count, index);
      for (int m = 0; m < pass.count; ++m) {
        const RowSource& row = rows[pass.first + m];
        const uint8_t* const codes = static_cast<const uint8_t*>(row.values);
        const uint8_t* const scales = row.scales + block;
        uint8_t bases[kChunk];
        const uint32_t live = live_blocks(codes + block * (kBlock / 2), scales, chunk);
        choose_bases(scales, live, chunk, bases);
        pack_chunk(row, block, chunk, bases, count, pass, m, to);
      }
    }
    for (int i = 0; i < chunk; ++i, to += ManyBlock::words(count)) {
      pack_range_of_rows(i == 0 ? nullptr : to - ManyBlock::words(count), count, to);
    }
  }
}

}  // namespace aiter_moe::cpu::avx512_vnni
