// SPDX-License-Identifier: MIT
// What random kernels are made of, for a GPU and for the host alike: exact types, guarded
// operations without undefined behaviour, NaNs of one form. A kernel is a row of steps on the
// state of a lane; on the host each step runs for all lanes before the next one, which is what a
// barrier does on the GPU. Nothing here may round differently on the two: no reciprocals, no
// transcendental functions, no contraction.
#pragma once

using u8 = unsigned char;
using i8 = signed char;
using u16 = unsigned short;
using i16 = short;
using u32 = unsigned int;
using i32 = int;
using u64 = unsigned long;
using i64 = long;
using f16 = _Float16;
using f32 = float;
using f64 = double;
typedef f32 f32x2 __attribute__((ext_vector_type(2)));
typedef f16 f16x2 __attribute__((ext_vector_type(2)));
typedef u16 u16x2 __attribute__((ext_vector_type(2)));
typedef i16 i16x2 __attribute__((ext_vector_type(2)));

#if defined(__AMDGCN__)
#define INLINE static __attribute__((device, always_inline))
#else
#define INLINE static inline __attribute__((always_inline))
#endif

constexpr int window_bytes = 64;  // memory of its own that a lane reads and writes at any offset

struct State {
  u32 u[6];
  u64 w[2];
  f32 f[3];
  f64 d[2];
  f16 h[2];
};
constexpr int state_words = 19;

INLINE f32 one_nan(f32 x) { return x != x ? __builtin_nanf("") : x; }
INLINE f64 one_nan(f64 x) { return x != x ? __builtin_nan("") : x; }
INLINE f16 one_nan(f16 x) { return x != x ? __builtin_bit_cast(f16, u16(0x7e00)) : x; }
INLINE u32 bits(f32 x) { return __builtin_bit_cast(u32, one_nan(x)); }
INLINE u64 bits(f64 x) { return __builtin_bit_cast(u64, one_nan(x)); }
INLINE u32 bits(f16 x) { return __builtin_bit_cast(u16, one_nan(x)); }

INLINE u32 divide(u32 a, u32 b) { return a / (b ? b : 7); }
INLINE u32 modulo(u32 a, u32 b) { return a % (b ? b : 7); }
INLINE u32 signed_divide(u32 a, u32 b) { return i32(a) / (b && b != ~0u ? i32(b) : 7); }
INLINE u64 divide(u64 a, u64 b) { return a / (b ? b : 7); }
INLINE u64 signed_modulo(u64 a, u64 b) { return i64(a) % (b && b != ~0ul ? i64(b) : 7); }
INLINE u32 high_product(u32 a, u32 b) { return u64(a) * b >> 32; }
INLINE u32 signed_high_product(u32 a, u32 b) { return i64(i32(a)) * i32(b) >> 32; }
INLINE u64 wide_product(u32 a, u32 b, u64 c) { return u64(a) * b + c; }
INLINE u64 signed_wide_product(u32 a, u32 b, u64 c) { return i64(i32(a)) * i32(b) + c; }
INLINE u32 shifted_right(u32 a, u32 b) { return i32(a) >> (b & 31); }
INLINE u64 shifted_right(u64 a, u32 b) { return i64(a) >> (b & 63); }
INLINE u32 field(u32 a, u32 at, u32 width) { return a >> (at & 31) & ((1u << (width & 31)) - 1); }
INLINE u32 funnel(u32 a, u32 b, u32 by) { return u32((u64(a) << 32 | b) >> (by & 31)); }
INLINE u32 low_24_product(u32 a, u32 b) { return (a & 0xffffff) * (b & 0xffffff); }
INLINE u32 first_bit(u32 a) { return a ? __builtin_ctz(a) : 32; }
INLINE u32 last_bit(u32 a) { return a ? __builtin_clz(a) : 32; }
INLINE u32 last_bit(u64 a) { return a ? __builtin_clzl(a) : 64; }
INLINE u32 median(u32 a, u32 b, u32 c) {
  const u32 low = a < b ? a : b, high = a < b ? b : a;
  return c < low ? low : (c > high ? high : c);
}
INLINE u32 signed_smaller(u32 a, u32 b) { return i32(a) < i32(b) ? a : b; }
INLINE u32 byte_sum(u32 a, u32 b) {  // sum of products of signed bytes
  i32 sum = 0;
  for (int n = 0; n < 4; ++n) sum += i32(i8(a >> 8 * n)) * i8(b >> 8 * n);
  return sum;
}
INLINE u32 halves_added(u32 a, u32 b) {
  return __builtin_bit_cast(u32, __builtin_bit_cast(u16x2, a) + __builtin_bit_cast(u16x2, b));
}
INLINE u32 halves_multiplied(u32 a, u32 b) {
  return __builtin_bit_cast(u32, __builtin_bit_cast(u16x2, a) * __builtin_bit_cast(u16x2, b));
}
INLINE u32 halves_larger(u32 a, u32 b) {
  const i16x2 x = __builtin_bit_cast(i16x2, a), y = __builtin_bit_cast(i16x2, b);
  return __builtin_bit_cast(u32, x > y ? x : y);
}
INLINE u32 halves_shifted(u32 a, u32 b) {
  const u16x2 by = __builtin_bit_cast(u16x2, b) & u16x2{15, 15};
  return __builtin_bit_cast(u32, __builtin_bit_cast(u16x2, a) >> by);
}
INLINE u32 carried(u32 a, u32 b, u32 c) {  // 96-bit sum, folded
  u32 low, carry = __builtin_add_overflow(a, b, &low);
  u32 high, more = __builtin_sub_overflow(low, c, &high);
  return high + carry * 3 + more * 5;
}

INLINE f32 fused(f32 a, f32 b, f32 c) { return __builtin_fmaf(a, b, c); }
INLINE f64 fused(f64 a, f64 b, f64 c) { return __builtin_fma(a, b, c); }
// The sign of a zero is dropped: clang makes v_min and v_max of some selections, which keep the
// smaller or larger one.
template <class T> INLINE T unsigned_zero(T x) { return x == T(0) ? T(0) : x; }
template <class T> INLINE T smaller_of(T a, T b) { return unsigned_zero(a < b ? a : b); }
template <class T> INLINE T larger_of(T a, T b) { return unsigned_zero(a > b ? a : b); }
INLINE f32 packed(f32 a, f32 b, f32 c, f32 d) {
  const f32x2 r = f32x2{a, b} * f32x2{c, d} + f32x2{d, a};
  return one_nan(r.x) - one_nan(r.y);
}
INLINE f16 packed(f16 a, f16 b, f16 c) {
  const f16x2 r = f16x2{a, b} * f16x2{c, a} + f16x2{b, c};
  return r.x - r.y;
}
INLINE u32 to_u32(f32 x) { return x > -1.0f && x < 4.0e9f ? u32(x) : 77; }
INLINE u32 to_i32(f32 x) { return x > -2.0e9f && x < 2.0e9f ? u32(i32(x)) : 78; }
INLINE u32 to_i32(f64 x) { return x > -2.0e9 && x < 2.0e9 ? u32(i32(x)) : 79; }
INLINE u64 to_u64(f64 x) { return x > -1.0 && x < 1.0e19 ? u64(x) : 80; }
INLINE u32 to_i32(f16 x) { return x == x && x < 60000 && x > -60000 ? u32(i32(x)) : 81; }
// Here too: clang fuses a product that is narrowed into v_fma_mixlo_f16 with an addend of +0.
INLINE f16 narrowed(f32 x) { return unsigned_zero(f16(x)); }
INLINE f32 classified(f32 x) {
  return (__builtin_isinf(x) ? 1.0f : 0.0f) + (__builtin_isnormal(x) ? 2.0f : 0.0f) +
         (x == 0 ? 4.0f : 0.0f);
}

// State as words: what a kernel starts from and leaves behind.
INLINE State read_state(const u32* in) {
  State s;
  for (int n = 0; n < 6; ++n) s.u[n] = in[n];
  for (int n = 0; n < 2; ++n) s.w[n] = u64(in[7 + 2 * n]) << 32 | in[6 + 2 * n];
  for (int n = 0; n < 3; ++n) s.f[n] = one_nan(__builtin_bit_cast(f32, in[10 + n]));
  for (int n = 0; n < 2; ++n)
    s.d[n] = one_nan(__builtin_bit_cast(f64, u64(in[14 + 2 * n]) << 32 | in[13 + 2 * n]));
  for (int n = 0; n < 2; ++n) s.h[n] = one_nan(__builtin_bit_cast(f16, u16(in[17 + n])));
  return s;
}
INLINE void write_state(u32* out, const State& s) {
  for (int n = 0; n < 6; ++n) out[n] = s.u[n];
  for (int n = 0; n < 2; ++n) out[6 + 2 * n] = u32(s.w[n]), out[7 + 2 * n] = u32(s.w[n] >> 32);
  for (int n = 0; n < 3; ++n) out[10 + n] = bits(s.f[n]);
  for (int n = 0; n < 2; ++n)
    out[13 + 2 * n] = u32(bits(s.d[n])), out[14 + 2 * n] = u32(bits(s.d[n]) >> 32);
  for (int n = 0; n < 2; ++n) out[17 + n] = bits(s.h[n]);
}
