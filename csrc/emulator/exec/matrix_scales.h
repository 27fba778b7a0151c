// SPDX-License-Identifier: MIT
// Operands of the f8f6f4 instructions: five formats, and E8M0 scales, a power of two for every row
// or column and every 32 elements of k.
#pragma once

#include "emulator/exec/matrix_dense.h"

namespace aiter_moe::emulator::matrix {

constexpr int scale_block = 32;  // elements of k under one scale

// Number of codes that cbsz and blgp know.
constexpr int scaled_formats = 5;
constexpr Element scaled_elements[scaled_formats] = {Element::fp8, Element::bf8, Element::fp6,
                                                     Element::bf6, Element::fp4};

// A lane holds 32 elements: a block of 32 below 8 bits; two runs of 16 of 8-bit formats.
constexpr Layout scaled_layout(Element element) {
  return {scale_block, bits_of(element) == 8 ? scale_block / 2 : scale_block};
}

constexpr int scaled_registers(Element element) { return scale_block * bits_of(element) / 32; }

// E8M0 exponents of an operand, one for each lane: lane block * edge + row is that of a row (or
// column) and block. NaN where the code says so.
struct alignas(64) Scales {
  float exponent[lanes];
};

// `which`: 0 for A, 1 for B. Zeros for instructions without scales; false after a fault.
inline bool read_scales(Wave& w, const Instruction& i, int which, Scales& out) {
  if (!i.scaled) {
    out = {};
    return true;
  }
  const Lanes* codes = registers_of(w, i, i.scale_src[which], 1);
  if (codes == nullptr) return false;
  const int byte = (i.scale_op_sel >> which & 1) + 2 * (i.scale_op_sel_hi >> which & 1);
  for (int lane = 0; lane < lanes; lane += width) {
    const Ints code = load<Ints>(&codes->lane[lane]) >> 8 * byte & 0xff;
    const Floats exponent = __builtin_convertvector(code - 127, Floats);
    store(out.exponent + lane, code == 0xff ? splat(__builtin_nanf("")) : exponent);
  }
  return true;
}

// value * 2^exponent, rounded once; NaN for a NaN exponent.
inline float scaled_by(float value, float exponent) {
  if (exponent != exponent) return exponent;
  const u64 power = static_cast<u64>(1023 + static_cast<i32>(exponent)) << 52;
  return static_cast<float>(value * __builtin_bit_cast(double, power));
}

AITER_MOE_MATRIX_INLINE Floats scaled_by(Floats values, Floats exponents) {
#if defined(__AVX512F__)
  // The form with a mask, as GCC 12 warns of what the plain one leaves undefined.
  return reinterpret_cast<Floats>(_mm512_maskz_scalef_ps(
      0xffff, reinterpret_cast<__m512>(values), reinterpret_cast<__m512>(exponents)));
#else
  for (int n = 0; n < width; ++n) values[n] = scaled_by(values[n], exponents[n]);
  return values;
#endif
}

// What an f8f6f4 instruction multiplies.
struct ScaledOperands {
  Element a_format;
  Element b_format;
  Operands registers;
  Scales a_scales;
  Scales b_scales;

  bool fetch(Wave& w, const Instruction& i) {
    if (i.cbsz >= scaled_formats || i.blgp >= scaled_formats) {
      w.fault(FaultKind::bad_instruction, i, 0, 0, "cbsz or blgp name no format");
      return false;
    }
    a_format = scaled_elements[i.cbsz];
    b_format = scaled_elements[i.blgp];
    return registers.fetch(w, i, scaled_registers(a_format), scaled_registers(b_format)) &&
           read_scales(w, i, 0, a_scales) && read_scales(w, i, 1, b_scales);
  }
};

// tile[row][column ...] += sums * 2^(exponents of the row and the columns).
template <int edge>
AITER_MOE_MATRIX_INLINE void add_scaled(Floats sums, float row_exponent, Floats exponents, int row,
                                        int column, float* tile) {
  float* to = tile + row * edge + column;
  store(to, load<Floats>(to) + scaled_by(sums, row_exponent + exponents));
}

}  // namespace aiter_moe::emulator::matrix
