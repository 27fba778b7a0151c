// SPDX-License-Identifier: MIT
// f8f6f4 with fp4 on both sides, for hosts with VNNI: codes become twice their values as bytes, so
// that the products of a block of 32 are summed exactly in integers, 64 of them an instruction.
// Gives the bits of the general path (matrix_scaled.h), whose sums of such a block are exact too.
#pragma once

#include "emulator/exec/matrix_scales.h"

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
#define AITER_MOE_FP4_BYTES 1

namespace aiter_moe::emulator::matrix {

// The 32 elements of a lane as bytes. Even codes of a register are in one dword and odd ones in
// the next, on both sides, so that the same k meet.
struct alignas(64) Fp4Bytes {
  static constexpr int dwords = 8;
  u32 dword[dwords][lanes];
};

// VNNI multiplies unsigned bytes by signed ones: B is stored plus this, and sums start at what
// that adds, negated.
constexpr int fp4_offset = 12;

// What a code becomes, four times over: the table of a byte shuffle.
struct alignas(64) Fp4Table {
  i8 byte[64];
};

constexpr Fp4Table fp4_table(int offset) {
  constexpr int twice[8] = {0, 1, 2, 3, 4, 6, 8, 12};
  Fp4Table out{};
  for (int n = 0; n < 64; ++n)
    out.byte[n] = static_cast<i8>((n & 8 ? -twice[n & 7] : twice[n & 7]) + offset);
  return out;
}

template <int offset>
void expand_fp4(const Lanes* registers, Fp4Bytes& out) {
  static constexpr Fp4Table table = fp4_table(offset);
  const __m512i values = _mm512_load_si512(&table);
  const auto look_up = [&](Words codes) {
    return _mm512_shuffle_epi8(values, reinterpret_cast<__m512i>(codes & 0x0f0f0f0fu));
  };
  for (int reg = 0; reg < Fp4Bytes::dwords / 2; ++reg)
    for (int lane = 0; lane < lanes; lane += width) {
      const Words codes = load<Words>(&registers[reg].lane[lane]);
      store(&out.dword[2 * reg][lane], look_up(codes));
      store(&out.dword[2 * reg + 1][lane], look_up(codes >> 4));
    }
}

// Where the sums of each row and block start.
inline void fp4_starts(const Fp4Bytes& a, i32* out) {
  const __m512i offsets = _mm512_set1_epi8(fp4_offset);
  for (int lane = 0; lane < lanes; lane += width) {
    __m512i sums = _mm512_setzero_si512();
    for (const auto& dword : a.dword)
      sums = _mm512_dpbusd_epi32(sums, offsets, _mm512_load_si512(&dword[lane]));
    _mm512_store_si512(out + lane, _mm512_sub_epi32(_mm512_setzero_si512(), sums));
  }
}

template <int edge>
void multiply_fp4(const ScaledOperands& operands, float* tile) {
  constexpr int vectors = edge / width, dwords = Fp4Bytes::dwords;
  constexpr float quarter = -2;  // exponent of what doubling both sides multiplied by
  Fp4Bytes a, b;
  alignas(64) i32 starts[lanes];
  expand_fp4<0>(operands.registers.a, a);
  expand_fp4<fp4_offset>(operands.registers.b, b);
  fp4_starts(a, starts);
  for (int first = 0; first < lanes; first += edge) {  // lanes of a block of k
    __m512i columns[vectors][dwords];
    Floats exponents[vectors];
    AITER_MOE_MATRIX_UNROLL
    for (int v = 0; v < vectors; ++v) {
      exponents[v] = load<Floats>(&operands.b_scales.exponent[first + v * width]) + quarter;
      AITER_MOE_MATRIX_UNROLL
      for (int n = 0; n < dwords; ++n)
        columns[v][n] = _mm512_load_si512(&b.dword[n][first + v * width]);
    }
    for (int row = 0; row < edge; ++row) {
      __m512i sums[vectors];
      for (__m512i& sum : sums) sum = _mm512_set1_epi32(starts[first + row]);
      AITER_MOE_MATRIX_UNROLL
      for (int n = 0; n < dwords; ++n) {
        const __m512i codes = _mm512_set1_epi32(static_cast<i32>(a.dword[n][first + row]));
        AITER_MOE_MATRIX_UNROLL
        for (int v = 0; v < vectors; ++v)
          sums[v] = _mm512_dpbusd_epi32(sums[v], columns[v][n], codes);
      }
      AITER_MOE_MATRIX_UNROLL
      for (int v = 0; v < vectors; ++v) {
        const Floats dots = __builtin_convertvector(reinterpret_cast<Ints>(sums[v]), Floats);
        add_scaled<edge>(dots, operands.a_scales.exponent[first + row], exponents[v], row,
                         v * width, tile);
      }
    }
  }
}

}  // namespace aiter_moe::emulator::matrix

#endif
