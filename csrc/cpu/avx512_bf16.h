// SPDX-License-Identifier: MIT
// bf16 activations x MXFP4 weights with AVX-512 BF16: pairs of k by vdpbf16ps, which adds two exact
// products to an f32 sum and takes denormals, of products and sums too, as zero. Sums of a block
// then meet their scale in an fma that keeps denormals.
#pragma once

#include "cpu/avx512_a16w4.h"
#include "cpu/bf16_dot.h"

namespace aiter_moe::cpu::avx512_bf16 {

struct Dot {
  static constexpr int kSteps = 4;  // of the eight k of a line of codes: (k, k + 4) together

  // Bits 16 i to 16 i + 15 hold fp4 value i in bf16; the 16-bit view of codes is the index.
  static AITER_MOE_INLINE __m512i table() {
    return _mm512_broadcast_i64x4(_mm256_setr_epi16(
        0x0000, 0x3F00, 0x3F80, 0x3FC0, 0x4000, 0x4040, 0x4080, 0x40C0,
        static_cast<short>(0x8000), static_cast<short>(0xBF00), static_cast<short>(0xBF80),
        static_cast<short>(0xBFC0), static_cast<short>(0xC000), static_cast<short>(0xC040),
        static_cast<short>(0xC080), static_cast<short>(0xC0C0)));
  }

  static AITER_MOE_INLINE __m512i weights(__m512i codes, int step, __m512i table) {
    return _mm512_permutexvar_epi16(_mm512_srli_epi16(codes, 4 * step), table);
  }

  static AITER_MOE_INLINE __m512 add(__m512 sum, __m512i weights, uint32_t activations) {
    return zmm::bf16_dot(sum, weights, _mm512_set1_epi32(static_cast<int>(activations)));
  }

  // What the sixteen steps of a block multiply, one pair each.
  static AITER_MOE_INLINE __m512i steps(const uint16_t* block, int) {
    const __m512i order = _mm512_setr_epi32(
        0x00040000, 0x00050001, 0x00060002, 0x00070003, 0x000C0008, 0x000D0009, 0x000E000A,
        0x000F000B, 0x00140010, 0x00150011, 0x00160012, 0x00170013, 0x001C0018, 0x001D0019,
        0x001E001A, 0x001F001B);
    return _mm512_permutexvar_epi16(order, _mm512_loadu_si512(block));
  }
};

template <int Rows, int Groups>
using A16W4 = zmm::A16W4<Dot, Rows, Groups>;

}  // namespace aiter_moe::cpu::avx512_bf16
