// SPDX-License-Identifier: MIT
// MXFP4 rows out of the matrix registers: a wave quantises what its lanes hold of up to 4 row tiles
// by 32 columns, and stores codes and scales. What the lanes of a row have to tell each other goes
// through registers, 4 blocks at a time, so that each lane works out one scale.
// Not here: the rule (mxfp4.h) and the values (stage1.h).
#pragma once

#include "hip/mxfp4.h"
#include "hip/rows.h"

#ifndef __gfx950__
#error "fp4 rows are stored by instructions of gfx950"
#endif

namespace aiter_moe::hip {

// Exchanges the upper of each 2 * Lanes lanes of `a` with the lower ones of `b`.
template <int Lanes> AITER_MOE_DEVICE void swap_lanes(u32& a, u32& b) {
  static_assert(Lanes == 16 || Lanes == 32);
  if constexpr (Lanes == 16) {
    const auto both = __builtin_amdgcn_permlane16_swap(a, b, false, false);
    a = both[0];
    b = both[1];
  } else {
    const auto both = __builtin_amdgcn_permlane32_swap(a, b, false, false);
    a = both[0];
    b = both[1];
  }
}

// The larger of two magnitudes; NaN if one is NaN.
AITER_MOE_DEVICE float larger_magnitude(float a, float b) {
  return __builtin_elementwise_maximum(magnitude(a), magnitude(b));
}

// For lanes that differ in the bit `Lanes` of their number: the larger of a's magnitudes in the
// lower lane, of b's in the upper one.
template <int Lanes> AITER_MOE_DEVICE float larger_across(float a, float b) {
  u32 low = bits_of(a), high = bits_of(b);
  swap_lanes<Lanes>(low, high);
  return larger_magnitude(float_of(low), float_of(high));
}

// MX blocks of Count row tiles. Lane l holds row l % 16 of each, columns 4 * (l / 16) onwards and
// 16 columns further right. Lane l owns block l / 16 % Count: it learns its scale, and it gathers
// codes of it.
template <int Count> struct Fp4Blocks {
  static_assert(Count == 1 || Count == 2 || Count == 4);
  u32x4 pairs[Count];    // as bf16: columns 0, 1; 2, 3; 16, 17; 18, 19 of the lane's
  float largest[Count];  // magnitude in the lane

  template <int I> AITER_MOE_DEVICE void put(f32x4 first, f32x4 second) {
    const auto low = __builtin_bit_cast(u32x2, __builtin_convertvector(first, bf16x4));
    const auto high = __builtin_bit_cast(u32x2, __builtin_convertvector(second, bf16x4));
    pairs[I] = u32x4{low.x, low.y, high.x, high.y};
    largest[I] = magnitude(first[0]);
    unroll<3>([&]<int i>() { largest[I] = larger_magnitude(largest[I], first[i + 1]); });
    unroll<4>([&]<int i>() { largest[I] = larger_magnitude(largest[I], second[i]); });
  }

  // The scale byte of the block a lane owns. Rounding to bf16 keeps the order of magnitudes, so
  // that the largest alone is rounded.
  AITER_MOE_DEVICE u32 owned_scale() const {
    float most;
    if constexpr (Count == 4) {
      most = larger_across<16>(larger_across<32>(largest[0], largest[2]),
                               larger_across<32>(largest[1], largest[3]));
    } else {
      const float half = larger_across<16>(largest[0], largest[Count - 1]);
      most = larger_across<32>(half, half);
    }
    return round_up_scale(bits_of(static_cast<float>(static_cast<__bf16>(most))));
  }

  // The exponents of all blocks, known to every lane that holds a part of them.
  AITER_MOE_DEVICE void tell_exponents(u32 owned, u32 (&of)[Count]) const {
    of[0] = owned << 23;
    if constexpr (Count == 4) {
      of[2] = of[0];
      swap_lanes<32>(of[0], of[2]);
      of[3] = of[2];
      swap_lanes<16>(of[2], of[3]);
    }
    if constexpr (Count > 1) {
      of[1] = of[0];
      swap_lanes<16>(of[0], of[1]);
    }
  }

  // Codes of the lane's 4 columns in the lower half, of those 16 further right in the upper one.
  template <int I> AITER_MOE_DEVICE u32 encode(u32 exponent) const {
    const Fp4Encoder encoder = {float_of(exponent), ~0u};
    u32 codes = pairs[I][0];  // every byte is replaced
    unroll<4>([&]<int i>() { codes = encoder.put<i>(codes, pairs[I][i]); });
    return codes;
  }
};

// Codes of the block that a lane owns. All 16 bytes with Count 4; with Count 2 bytes 0..3 and
// 8..11, and 4 further in the upper half of the wave; with Count 1 bytes 0..3 or 8..11.
template <int Count> struct OwnedCodes {
  u32 part[Count];
  static AITER_MOE_DEVICE int first_byte() {
    if constexpr (Count == 4) return 0;
    const int upper = lane() / 32 * 4;
    return Count == 2 ? upper : upper + lane() / 16 % 2 * 8;
  }
};

template <int Count>
AITER_MOE_DEVICE OwnedCodes<Count> owned_codes(const Fp4Blocks<Count>& blocks, u32 owned_scale) {
  // Halves of two registers; of neither where the block holds an infinity or NaN.
  constexpr u32 lower = 0x05040100u, upper = 0x07060302u, zero = 0x0c0c0c0cu;
  const bool finite = owned_scale != nan_scale;
  const u32 low = finite ? lower : zero, high = finite ? upper : zero;
  u32 exponents[Count], codes[Count];
  blocks.tell_exponents(owned_scale, exponents);
  unroll<Count>([&]<int i>() { codes[i] = blocks.template encode<i>(exponents[i]); });
  const auto join = [](u32 first, u32 second, u32 which) {
    return __builtin_amdgcn_perm(second, first, which);
  };
  if constexpr (Count == 4) {
    swap_lanes<32>(codes[0], codes[2]);
    swap_lanes<32>(codes[1], codes[3]);
    swap_lanes<16>(codes[0], codes[1]);
    swap_lanes<16>(codes[2], codes[3]);
    return {{join(codes[0], codes[1], low), join(codes[2], codes[3], low),
             join(codes[0], codes[1], high), join(codes[2], codes[3], high)}};
  } else if constexpr (Count == 2) {
    swap_lanes<16>(codes[0], codes[1]);
    return {{join(codes[0], codes[1], low), join(codes[0], codes[1], high)}};
  } else {
    u32 other = codes[0];
    swap_lanes<16>(codes[0], other);
    return {{join(codes[0], other, lane() / 16 % 2 ? high : low)}};
  }
}

// Where the scales of a stage's output rows go, for rows of SortedRows: S tiles over sorted rows,
// 0 in pads.
struct SortedScales {
  static AITER_MOE_DEVICE void store(
      const StageArgs& a, int sorted_row, Slot slot, int group, u32 scale) {
    const u32 row = sorted_row, column = group;
    const u32 of_row = row / strip_rows * (strip_rows * a.out_scale_stride) + row % 16 * 4 +
                       row % strip_rows / 16;
    const u32 of_column = column / 8 * s_step_bytes + column % 4 * 64 + column % 8 / 4 * 2;
    (global(a.out_scale) + of_column)[of_row] = static_cast<u8>(slot.used ? scale : 0);
  }
};
// Row-major, rows token * topk + slot.
struct RowScales {
  static AITER_MOE_DEVICE void store(const StageArgs& a, int, Slot slot, int group, u32 scale) {
    if (!slot.used) return;
    const i64 row = row_offset(slot.token * a.topk + slot.slot, a.out_scale_stride);
    global(a.out_scale)[row + group] = static_cast<u8>(scale);
  }
};

// The output row that a lane stores codes of, when it owns blocks of Count row tiles from
// `first_row` of the block of rows on.
template <int Count> AITER_MOE_DEVICE int owned_row(int first_row) {
  return first_row + lane() % (16 * Count);
}

// Stores the blocks of columns 32 * group onwards: `row` and `slot` are those of `owned_row`.
template <class Scales, int Count>
AITER_MOE_DEVICE void store_blocks(
    const StageArgs& a, const Fp4Blocks<Count>& blocks, int sorted_row, Slot slot, int group) {
  const u32 scale = blocks.owned_scale();
  const OwnedCodes<Count> codes = owned_codes(blocks, scale);
  if (Count == 4 || lane() < 16 * Count) Scales::store(a, sorted_row, slot, group, scale);
  if (!slot.used) return;
  const u32 row_bytes = static_cast<u32>(a.out_stride) / 2;
  auto* to = global(static_cast<u8*>(a.out)) + group * 16 + OwnedCodes<Count>::first_byte() +
             row_offset(slot.token * a.topk + slot.slot, row_bytes);
  if constexpr (Count == 4) {
    typedef u32 u32x4_row __attribute__((ext_vector_type(4), aligned(4)));
    *reinterpret_cast<u32x4_row AITER_MOE_GLOBAL*>(to) =
        u32x4{codes.part[0], codes.part[1], codes.part[2], codes.part[3]};
  } else {
    unroll<Count>([&]<int i>() {
      *reinterpret_cast<u32 AITER_MOE_GLOBAL*>(to + 8 * i) = codes.part[i];
    });
  }
}

}  // namespace aiter_moe::hip
