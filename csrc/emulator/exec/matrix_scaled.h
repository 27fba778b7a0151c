// SPDX-License-Identifier: MIT
// v_mfma_(scale_)f32_16x16x128_f8f6f4 and 32x32x64: A and B each in one of five formats (cbsz,
// blgp), with a power of two for every row or column and every 32 elements of k.
//
// Per block of 32: products summed in f32, times both scales, added to the result; so a block of
// fp4 or fp6 e2m3 is exact until it is added.
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

inline float scale_exponent(u32 code) {
  return code == 0xff ? __builtin_nanf("") : static_cast<float>(static_cast<i32>(code) - 127);
}

// `which`: 0 for A, 1 for B. False after a fault.
inline bool read_scales(Wave& w, const Instruction& i, int which, Scales& out) {
  const Lanes* codes = registers_of(w, i, i.scale_src[which], 1);
  if (codes == nullptr) return false;
  const int byte = (i.scale_op_sel >> which & 1) + 2 * (i.scale_op_sel_hi >> which & 1);
  for (int lane = 0; lane < lanes; ++lane)
    out.exponent[lane] = scale_exponent(codes->lane[lane] >> 8 * byte & 0xff);
  return true;
}

// value * 2^exponent, rounded once; NaN for a NaN exponent.
inline float scaled_by(float value, float exponent) {
  if (exponent != exponent) return exponent;
  const u64 power = static_cast<u64>(1023 + static_cast<i32>(exponent)) << 52;
  return static_cast<float>(value * __builtin_bit_cast(double, power));
}

// tile += sums * 2^(a + b) for rows with exponents a and columns with exponents b.
template <int edge>
void add_scaled(const float* sums, const float* a, const float* b, float* tile) {
  for (int row = 0; row < edge; ++row)
    for (int column = 0; column < edge; ++column) {
      const int at = row * edge + column;
      tile[at] += scaled_by(sums[at], a[row] + b[column]);
    }
}

template <int edge>
void add_unscaled(const float* sums, float* tile) {
  for (int at = 0; at < edge * edge; ++at) tile[at] += sums[at];
}

template <int edge>
void multiply_scaled(Wave& w, const Instruction& i, Element a_format, Element b_format,
                     const Operands& operands, float* tile) {
  Panel<float> a, b;
  unpack<edge>(a_format, operands.a, scaled_layout(a_format), a.at);
  unpack<edge>(b_format, operands.b, scaled_layout(b_format), b.at);
  Scales a_scales, b_scales;
  if (i.scaled) {
    read_scales(w, i, 0, a_scales);
    read_scales(w, i, 1, b_scales);
  }
  alignas(64) float sums[edge * edge];
  for (int block = 0; block < lanes / edge; ++block) {
    const int first = block * scale_block * edge;
    for (float& sum : sums) sum = 0;
    multiply<edge>(a.at + first, b.at + first, scale_block, sums);
    if (i.scaled)
      add_scaled<edge>(sums, a_scales.exponent + block * edge, b_scales.exponent + block * edge,
                       tile);
    else
      add_unscaled<edge>(sums, tile);
  }
}

template <int edge>
void scaled(Wave& w, const Instruction& i) {
  if (i.cbsz >= scaled_formats || i.blgp >= scaled_formats)
    return w.fault(FaultKind::bad_instruction, i, 0, 0, "cbsz or blgp name no format");
  const Element a_format = scaled_elements[i.cbsz], b_format = scaled_elements[i.blgp];
  Operands operands;
  if (!operands.fetch(w, i, scaled_registers(a_format), scaled_registers(b_format))) return;
  alignas(64) float tile[edge * edge];
  if (!load_addend<edge>(w, i, i.src[2], 1, tile)) return;
  multiply_scaled<edge>(w, i, a_format, b_format, operands, tile);
  store_result<edge>(w, i, 1, tile);
}

}  // namespace aiter_moe::emulator::matrix
