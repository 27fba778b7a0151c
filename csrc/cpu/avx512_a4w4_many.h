// SPDX-License-Identifier: MIT
// a4w4 with weights decoded ahead, for 5 rows and more, which wait for the dot-product units:
// nothing else may use them.
//
// Integers carry scales: a doubled value is 12 at most, a byte holds it shifted by up to three, so
// blocks whose scales lie within a factor of 8 take the lowest one and differ by shifts alone. As
// long as that holds for every column and row, a run of blocks is one exact integer sum, and
// conversion, scale and f32 addition come once a run. Weights of a chunk of blocks are decoded
// once, to signed bytes in L1, and multiplied by all rows, a pass at a time; activations are
// unsigned, offset by 96, and 96 * (sum of weights) is taken off a run's sums.
#pragma once

#include "cpu/avx512_a4w4_pack.h"

namespace aiter_moe::cpu::avx512_vnni {

// Blocks decoded together: 32 KB where many passes share them, else half of that.
constexpr int kDecoded = 16;
constexpr int kFewPasses = 4;

// Weights of a chunk of blocks: signed bytes that carry their scales' shifts, and
// sums over the chunk's first blocks of kOffset * (sum of a block's weights), per column.
struct Weights {
  alignas(64) int8_t values[kDecoded][ManyBlock::kQuads][kPanelGroups][64];
  alignas(64) int32_t offsets[kDecoded + 1][kPanelGroups][kLanes];
};

// Consecutive blocks whose scale bytes lie at most kMostShift over the `lowest`, column by column.
struct Run {
  int end;
  alignas(64) uint8_t lowest[kPanelColumns];
};

// The runs of blocks [begin, end), each as long as it can be. Returns their number.
inline int find_runs(Panel panel, int begin, int end, Run* runs) {
  const __m512i nan = _mm512_set1_epi8(static_cast<char>(kNanScale));
  const __m512i most_shift = _mm512_set1_epi8(kMostShift);
  int found = 0;
  __m512i low = _mm512_loadu_si512(panel_tile(panel, begin)), high = low;
  for (int block = begin + 1; block < end; ++block) {
    const __m512i bytes = _mm512_loadu_si512(panel_tile(panel, block));
    const __m512i lower = _mm512_min_epu8(low, bytes), higher = _mm512_max_epu8(high, bytes);
    const __mmask64 far = _mm512_cmpgt_epu8_mask(_mm512_sub_epi8(higher, lower), most_shift);
    const bool ends = (far | _mm512_cmpeq_epi8_mask(higher, nan)) != 0;
    if (ends) {
      runs[found].end = block;
      _mm512_store_si512(runs[found++].lowest, low);
    }
    low = ends ? bytes : lower;
    high = ends ? bytes : higher;
  }
  runs[found].end = end;
  _mm512_store_si512(runs[found++].lowest, low);
  return found;
}

// Each of a group's 16 bytes for the four bytes of its column's dword.
AITER_MOE_INLINE __m512i spread(const uint8_t* bytes) {
  const __m512i columns = _mm512_broadcast_i32x4(_mm_loadu_si128(
      reinterpret_cast<const __m128i*>(bytes)));
  const __m512i four = _mm512_set_epi32(
      0x0F0F0F0F, 0x0E0E0E0E, 0x0D0D0D0D, 0x0C0C0C0C, 0x0B0B0B0B, 0x0A0A0A0A, 0x09090909,
      0x08080808, 0x07070707, 0x06060606, 0x05050505, 0x04040404, 0x03030303, 0x02020202,
      0x01010101, 0x00000000);
  return _mm512_shuffle_epi8(columns, four);
}

// Turns codes into signed bytes, shifted by their column.
class Decoder {
 public:
#if defined(__AVX512VBMI__)
  Decoder() {
    const __m128i d = doubled_fp4(), d2 = _mm_add_epi8(d, d), d4 = _mm_add_epi8(d2, d2);
    const __m256i low = _mm256_set_m128i(d2, d);
    const __m256i high = _mm256_set_m128i(_mm_add_epi8(d4, d4), d4);
    values_ = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
  }

  AITER_MOE_INLINE void shift_by(__m512i shifts) { shifts_ = _mm512_slli_epi16(shifts, 4); }

  // The low nibble of every byte of `codes`: the table's index is nibble + 16 * shift.
  AITER_MOE_INLINE __m512i operator()(__m512i codes) const {
    const __m512i nibble = _mm512_set1_epi8(15);
    const __m512i index = _mm512_ternarylogic_epi32(codes, nibble, shifts_, 0xEA);  // a & b | c
    return _mm512_permutexvar_epi8(index, values_);
  }
#else
  Decoder()
      : values_(_mm512_broadcast_i32x4(_mm_add_epi8(doubled_fp4(), _mm_set1_epi8(12)))) {}

  AITER_MOE_INLINE void shift_by(__m512i shifts) {
    shifts_ = _mm512_and_si512(shifts, _mm512_set1_epi32(kMostShift));
    offset_ = _mm512_sllv_epi32(_mm512_set1_epi8(12), shifts_);
  }

  // Unsigned bytes are shifted as a dword: 24 << 3 fits in a byte.
  AITER_MOE_INLINE __m512i operator()(__m512i codes) const {
    const __m512i index = _mm512_and_si512(codes, _mm512_set1_epi8(15));
    const __m512i shifted = _mm512_sllv_epi32(_mm512_shuffle_epi8(values_, index), shifts_);
    return _mm512_sub_epi8(shifted, offset_);
  }
#endif

 private:
  __m512i values_;
  __m512i shifts_;
#if !defined(__AVX512VBMI__)
  __m512i offset_;
#endif
};

// Decodes the blocks of `count` runs from `begin` on.
inline void decode(Panel panel, int begin, const Run* runs, int count, Weights& w) {
  Decoder decoder;
  const __m512i ones = _mm512_set1_epi8(kOffset);
  for (int g = 0; g < kPanelGroups; ++g) {
    __m512i offset = _mm512_setzero_si512();
    _mm512_store_si512(w.offsets[0][g], offset);
    int block = begin;
    for (int run = 0; run < count; ++run) {
      const __m512i lowest = spread(runs[run].lowest + g * kGroupColumns);
      for (; block < runs[run].end; ++block) {
        const uint8_t* const tile = panel_tile(panel, block);
        decoder.shift_by(_mm512_sub_epi8(spread(group_scales(tile, g)), lowest));
        __m512i octet[4];
        zmm::load_octets(group_codes(tile, g), octet);
        __m512i sums[4] = {};
        AITER_MOE_UNROLL
        for (int i = 0; i < ManyBlock::kQuads; ++i) {
          const __m512i quad = decoder(_mm512_srli_epi16(octet[i / 2], 4 * (i % 2)));
          _mm512_store_si512(w.values[block - begin][i][g], quad);
          sums[i % 4] = _mm512_dpbusd_epi32(sums[i % 4], ones, quad);
        }
        const __m512i sum = _mm512_add_epi32(_mm512_add_epi32(sums[0], sums[1]),
                                             _mm512_add_epi32(sums[2], sums[3]));
        offset = _mm512_add_epi32(offset, sum);
        _mm512_store_si512(w.offsets[block - begin + 1][g], offset);
      }
    }
  }
}

// Integer sums of a run, per column group and row of a pass.
struct RunSums {
  alignas(64) int32_t values[kPanelGroups][zmm::kPassRows][kLanes];
};

// Multiplies blocks [first, last) of a decoded chunk by `Rows` rows. `x` is the packed first block
// at the first of these rows, one block every `stride` dwords. On the way, lines of the tiles after
// the chunk are asked for: those from `soon` on, unless it is null. That the sums end in memory
// keeps what comes after from competing for registers.
template <int Rows>
__attribute__((noinline)) void multiply_run(const Weights& w, int first, int last,
                                            const uint32_t* x, long stride, const uint8_t* soon,
                                            RunSums& sums) {
  __m512i dot[kPanelGroups][Rows];
  AITER_MOE_UNROLL
  for (int g = 0; g < kPanelGroups; ++g) {
    const __m512i offset = _mm512_sub_epi32(_mm512_load_si512(w.offsets[first][g]),
                                            _mm512_load_si512(w.offsets[last][g]));
    AITER_MOE_UNROLL
    for (int m = 0; m < Rows; ++m) dot[g][m] = offset;
  }
  for (int block = first; block < last; ++block, x += stride) {
    if (soon != nullptr) {
      zmm::prefetch_lines(soon);
      soon += kTileBytes;
    }
    AITER_MOE_ROLLED
    for (int i = 0; i < ManyBlock::kQuads; ++i) {
      __m512i quad[kPanelGroups];
      AITER_MOE_UNROLL
      for (int g = 0; g < kPanelGroups; ++g) quad[g] = _mm512_load_si512(w.values[block][i][g]);
      AITER_MOE_UNROLL
      for (int m = 0; m < Rows; ++m) {
        const __m512i activation = _mm512_set1_epi32(static_cast<int>(x[i * Rows + m]));
        AITER_MOE_UNROLL
        for (int g = 0; g < kPanelGroups; ++g) {
          dot[g][m] = _mm512_dpbusd_epi32(dot[g][m], activation, quad[g]);
          keep_in_register(dot[g][m]);
        }
      }
    }
  }
  AITER_MOE_UNROLL
  for (int g = 0; g < kPanelGroups; ++g) {
    AITER_MOE_UNROLL
    for (int m = 0; m < Rows; ++m) _mm512_store_si512(sums.values[g][m], dot[g][m]);
  }
}

// Adds a run's sums under their scales to `out`, [group][row][16] from the pass's first row on.
inline void add_run(const RunSums& sums, const uint8_t* lowest, const RowScales& scales,
                    Share at, long group_stride, float* out) {
  for (int g = 0; g < kPanelGroups; ++g, out += group_stride) {
    add_scaled(sums.values[g][0], zmm::load_scale_bytes(lowest + g * kGroupColumns),
               {scales.exponents + at.first, scales.first, scales.width}, at.count, out);
  }
}

// The blocks of a chunk, all in one panel.
struct Chunk {
  int begin;
  int end;
  Run runs[kDecoded];
  int count;
};

// Adds a decoded chunk to the sums of one pass, run by run; a run of weights is cut where the
// activations' scales change. `x` is the packed first block of the chunk, of all `rows`.
inline void multiply_pass(const Weights& w, const Chunk& chunk, const uint8_t* soon,
                          const uint32_t* x, int rows, Share at, float* out) {
  const long stride = ManyBlock::words(rows);
  const int blocks = chunk.end - chunk.begin;
  for (int first = 0, run = 0; first < blocks;) {
    const int end = chunk.runs[run].end - chunk.begin;
    int last = first + 1;
    while (last < end && ManyBlock::joins(x + last * stride, rows)) ++last;
    const uint32_t* const block = x + first * stride;
    const uint32_t* const quads = block + ManyBlock::kQuads * at.first;
    const uint8_t* const ahead = soon == nullptr ? nullptr : soon + first * kTileBytes;
    RunSums sums;
    zmm::with_rows<1, zmm::kPassRows>(at.count, [&]<int Rows>() {
      multiply_run<Rows>(w, first, last, quads, stride, ahead, sums);
    });
    add_run(sums, chunk.runs[run].lowest, ManyBlock::scales(block, rows), at,
            static_cast<long>(rows) * kLanes, out + at.first * kLanes);
    run += last == end;
    first = last;
  }
}

inline void multiply_many(const zmm::Job& job, const uint32_t* x, int rows, float* out) {
  Weights w;
  Chunk chunk;
  zmm::clear_sums(rows, out);
  const int passes = zmm::row_passes(rows);
  const int most = passes > kFewPasses ? kDecoded : kDecoded / 2;
  for (chunk.begin = job.range.begin; chunk.begin < job.range.end; chunk.begin = chunk.end) {
    const int boundary = chunk.begin / most * most + most;
    chunk.end = boundary < job.range.end ? boundary : job.range.end;
    chunk.count = find_runs(job.panel, chunk.begin, chunk.end, chunk.runs);
    decode(job.panel, chunk.begin, chunk.runs, chunk.count, w);
    const int blocks = chunk.end - chunk.begin;
    const uint8_t* const soon = job.tile_ahead(chunk.begin, blocks);
    for (int index = 0; index < passes; ++index) {
      multiply_pass(w, chunk, index == passes - 1 ? soon : nullptr, x, rows,
                    zmm::row_pass(rows, index), out);
    }
    x += blocks * static_cast<long>(ManyBlock::words(rows));
  }
}

}  // namespace aiter_moe::cpu::avx512_vnni
