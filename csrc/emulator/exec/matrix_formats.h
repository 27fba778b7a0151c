// SPDX-License-Identifier: MIT
// The element formats of matrix operands, and how the elements that lanes hold become rows of
// floats. Every value of these formats is exact in f32.
#pragma once

#include "emulator/exec/matrix_vectors.h"

namespace aiter_moe::emulator::matrix {

// What the codes with the largest exponent (or, in FNUZ formats, negative zero) mean.
enum class Specials : u8 { infinities, one_nan, nan_is_negative_zero, none };

// A floating-point format below 32 bits.
struct FloatFormat {
  int bits;
  int mantissa;
  int bias;
  Specials specials;
};

constexpr FloatFormat half{16, 10, 15, Specials::infinities};
constexpr FloatFormat e4m3{8, 3, 7, Specials::one_nan};
constexpr FloatFormat e5m2{8, 2, 15, Specials::infinities};
constexpr FloatFormat e4m3_fnuz{8, 3, 8, Specials::nan_is_negative_zero};
constexpr FloatFormat e5m2_fnuz{8, 2, 16, Specials::nan_is_negative_zero};
constexpr FloatFormat e2m3{6, 3, 1, Specials::none};
constexpr FloatFormat e3m2{6, 2, 3, Specials::none};
constexpr FloatFormat e2m1{4, 1, 1, Specials::none};

template <FloatFormat f>
AITER_MOE_MATRIX_INLINE Floats decode(Words code) {
  constexpr u32 sign_bit = 1u << (f.bits - 1);
  constexpr u32 hidden_bit = 1u << 23, nan = 0x7fc00000, float_infinity = 0x7f800000;
  constexpr u32 rebias = static_cast<u32>(127 - f.bias) << 23;
  const Words magnitude = code & (sign_bit - 1);
  const Words fraction = magnitude << (23 - f.mantissa);
  // A subnormal's value is what the hidden bit adds too much; no f32 here is ever subnormal.
  const Floats small = as_floats(fraction + (rebias + hidden_bit)) -
                       __builtin_bit_cast(float, rebias + hidden_bit);
  Words out = magnitude < (1u << f.mantissa) ? as_words(small) : fraction + rebias;
  if constexpr (f.specials == Specials::infinities) {
    constexpr u32 infinity = (sign_bit - 1) >> f.mantissa << f.mantissa;
    out = magnitude >= infinity ? (fraction & (hidden_bit - 1)) | float_infinity : out;
  } else if constexpr (f.specials == Specials::one_nan) {
    out = magnitude == sign_bit - 1 ? Words{} + nan : out;
  } else if constexpr (f.specials == Specials::nan_is_negative_zero) {
    out = code == sign_bit ? Words{} + nan : out;
  }
  return as_floats(out | (code & sign_bit) << (32 - f.bits));
}

enum class Element : u8 {
  f32, xf32, f16, bf16, fp8, bf8, fp8_fnuz, bf8_fnuz, fp6, bf6, fp4, i8
};

constexpr int bits_of(Element element) {
  switch (element) {
    case Element::f32:
    case Element::xf32: return 32;
    case Element::f16:
    case Element::bf16: return 16;
    case Element::fp6:
    case Element::bf6: return 6;
    case Element::fp4: return 4;
    default: return 8;
  }
}

// How the elements of an operand lie in the lanes: groups of `edge` lanes hold the rows (of A) or
// columns (of B), each lane `per_lane` consecutive bit fields. Runs of consecutive k are dealt to
// the groups in turn: `run` elements of the first group, `run` of the second, and so on.
struct Layout {
  int per_lane;
  int run;
};

constexpr Layout plain_layout(int per_lane) { return {per_lane, per_lane}; }

// Fields repeat their places in registers after this many: 16 of six bits take three registers.
template <int bits>
constexpr int period = 32 % bits == 0 ? 32 / bits : 16;

// Field n of sixteen lanes, counted from the first of `registers`, which is at their first lane.
template <int bits>
AITER_MOE_MATRIX_INLINE Words field(const u32* registers, int n) {
  constexpr u32 mask = bits == 32 ? ~0u : (1u << (bits % 32)) - 1;
  const int shift = bits * n % 32;
  const u32* low = registers + bits * n / 32 * lanes;
  Words code = load<Words>(low) >> shift;
  if (shift + bits > 32) code |= load<Words>(low + lanes) << (32 - shift);
  return code & mask;
}

// Panels are k-major: element (k, row) at k * edge + row.
template <int edge, int bits, class T, class Decode>
void unpack_codes(const Lanes* registers, Layout layout, T* panel, Decode decode_words) {
  constexpr int groups = lanes / edge, fields = period<bits>;
  for (int lane = 0; lane < lanes; lane += width)
    for (int first = 0; first < layout.per_lane; first += layout.run) {
      T* to = panel + (first * groups + lane / edge * layout.run) * edge + lane % edge;
      for (int e = first; e < first + layout.run; e += fields) {
        const u32* from = &registers[bits * e / 32].lane[lane];
        AITER_MOE_MATRIX_UNROLL
        for (int n = 0; n < fields; ++n)
          store(to + n * edge, decode_words(field<bits>(from, n)));
        to += fields * edge;
      }
    }
}

template <int edge, FloatFormat f>
void unpack_floats(const Lanes* registers, Layout layout, float* panel) {
  unpack_codes<edge, f.bits>(registers, layout, panel,
                             [](Words code) { return decode<f>(code); });
}

// bf16, whose layout is always plain: the halves of registers are upper halves of f32.
template <int edge>
void unpack_bf16(const Lanes* registers, int per_lane, float* panel) {
  for (int lane = 0; lane < lanes; lane += width) {
    float* to = panel + lane / edge * per_lane * edge + lane % edge;
    for (int n = 0; n < per_lane; n += 2, to += 2 * edge) {
      const Words codes = load<Words>(&registers[n / 2].lane[lane]);
      store(to, codes << 16);
      store(to + edge, codes & 0xffff0000u);
    }
  }
}

template <int edge>
void unpack(Element element, const Lanes* registers, Layout layout, float* panel) {
  switch (element) {
    case Element::bf16: return unpack_bf16<edge>(registers, layout.per_lane, panel);
    case Element::f16: return unpack_floats<edge, half>(registers, layout, panel);
    case Element::fp8: return unpack_floats<edge, e4m3>(registers, layout, panel);
    case Element::bf8: return unpack_floats<edge, e5m2>(registers, layout, panel);
    case Element::fp8_fnuz: return unpack_floats<edge, e4m3_fnuz>(registers, layout, panel);
    case Element::bf8_fnuz: return unpack_floats<edge, e5m2_fnuz>(registers, layout, panel);
    case Element::fp6: return unpack_floats<edge, e2m3>(registers, layout, panel);
    case Element::bf6: return unpack_floats<edge, e3m2>(registers, layout, panel);
    case Element::fp4: return unpack_floats<edge, e2m1>(registers, layout, panel);
    case Element::f32:
      return unpack_codes<edge, 32>(registers, layout, panel, [](Words code) {
        return as_floats(code);
      });
    case Element::xf32:  // f32 cut to ten bits of mantissa
      return unpack_codes<edge, 32>(registers, layout, panel, [](Words code) {
        return as_floats(code & ~0x1fffu);
      });
    case Element::i8: break;
  }
}

template <int edge>
void unpack(Element, const Lanes* registers, Layout layout, i32* panel) {
  unpack_codes<edge, 8>(registers, layout, panel, [](Words code) {
    return reinterpret_cast<Ints>(code << 24) >> 24;
  });
}

}  // namespace aiter_moe::emulator::matrix
