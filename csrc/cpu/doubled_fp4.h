// SPDX-License-Identifier: MIT
// What the a4w4 micro-kernels of x86 share: fp4 values doubled to integers, and the scales under
// which their sums become f32 by adding exponents.
#pragma once

#include <immintrin.h>

#include "cpu/operands.h"

namespace aiter_moe::cpu {

// Twice the value of each code.
AITER_MOE_INLINE __m128i doubled_fp4() {
  return _mm_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12);
}

// A sum of products has the scale 2^(w + x - 127 - kExponentBias) for scale bytes w and x.
constexpr int kExponentBias = 129;  // 127, and 2 for the doubling of both sides

// To add to the bits of a weight's scale.
inline uint32_t packed_exponent(int x_byte) {
  return static_cast<uint32_t>(x_byte - kExponentBias) << 23;
}

// Scale bytes [first, first + count).
struct ByteRange {
  int first;
  int count;
};

// Weight bytes w for which w + x - kExponentBias is the exponent field of a normal number, 1 to
// 254, for x from `least` to `most`; none at all for a NaN.
inline ByteRange normal_weights(int least, int most) {
  const int first = least <= kExponentBias ? kExponentBias + 1 - least : 0;
  const int last = most >= kExponentBias ? 254 + kExponentBias - most : 254;
  return {first, most == kNanScale || last < first ? 0 : last - first + 1};
}

}  // namespace aiter_moe::cpu
