// SPDX-License-Identifier: MIT
// The register access of wave.h, which includes this at its end: how operand codes become values.
// Inline because every handler goes through it. Not here: what a fault does (Wave::fault is
// machine's) and what is in flight (register_fault and check_overwrite are memory's).
#pragma once

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace aiter_moe::emulator {

// Where the flat address space shows the LDS and the scratch memory: 4 GiB windows at addresses
// no host allocation has.
namespace aperture {
constexpr u64 shared_base = 1ull << 48, private_base = 1ull << 49, bytes = 1ull << 32;
}

inline void fill(Lanes& out, u32 value) {
  for (int lane = 0; lane < lanes; ++lane) out.lane[lane] = value;
}

// out = value in the lanes of `which`, the rest stays.
inline void merge(Lanes& out, const Lanes& value, u64 which) {
#if defined(__AVX512F__)
  for (int part = 0; part < lanes; part += 16)
    _mm512_mask_store_epi32(&out.lane[part], static_cast<__mmask16>(which >> part),
                            _mm512_load_si512(&value.lane[part]));
#else
  for (int half = 0; half < lanes; half += 32) {
    const u32 bits = static_cast<u32>(which >> half);
    for (int lane = 0; lane < 32; ++lane) {
      const u32 mask = 0u - (bits >> lane & 1);
      const u32 old = out.lane[half + lane];
      out.lane[half + lane] = old ^ ((old ^ value.lane[half + lane]) & mask);
    }
  }
#endif
}

// Inline floats by code, 240 to 248: 0.5, -0.5, 1, -1, 2, -2, 4, -4, 1/(2 pi).
constexpr u32 inline_floats[9] = {0x3f000000, 0xbf000000, 0x3f800000, 0xbf800000, 0x40000000,
                                  0xc0000000, 0x40800000, 0xc0800000, 0x3e22f983};
constexpr u64 inline_doubles[9] = {0x3fe0000000000000, 0xbfe0000000000000, 0x3ff0000000000000,
                                   0xbff0000000000000, 0x4000000000000000, 0xc000000000000000,
                                   0x4010000000000000, 0xc010000000000000, 0x3fc45f306dc9c882};

constexpr bool is_inline_integer(u16 code) { return code >= operand::zero && code <= 208; }
constexpr i32 inline_integer(u16 code) {
  return code < operand::minus_one ? code - operand::zero : operand::minus_one - 1 - code;
}
constexpr bool is_inline_float(u16 code) {
  return code >= operand::half && code <= operand::inverse_two_pi;
}
constexpr bool is_vector(u16 code) { return code >= operand::v0 && code < operand::end; }

inline u32 read_status(Wave& w, const Instruction& i, u16 code) {
  if (code == operand::scc) return w.scc;
  if (code == operand::execz) return w.exec() == 0;
  w.need_scalar(i, operand::vcc);
  w.need_scalar(i, operand::vcc + 1);
  return w.vcc() == 0;
}

inline u64 aperture_value(u16 code) {
  switch (code) {
    case operand::shared_base: return aperture::shared_base;
    case operand::shared_limit: return aperture::shared_base + aperture::bytes - 1;
    case operand::private_base: return aperture::private_base;
    default: return aperture::private_base + aperture::bytes - 1;
  }
}

inline u64 read_special(Wave& w, const Instruction& i, u16 code) {
  if (code >= operand::shared_base && code <= operand::private_limit) return aperture_value(code);
  if (code >= operand::vccz && code <= operand::scc) return read_status(w, i, code);
  w.fault(FaultKind::bad_instruction, i, 0, 0, "scalar source that cannot be read");
  return 0;
}

// Scalar sources that are no register.
[[gnu::noinline]] inline u32 read_constant(Wave& w, const Instruction& i, u16 code) {
  if (is_inline_integer(code)) return static_cast<u32>(inline_integer(code));
  if (code == operand::literal) return i.literal;
  if (is_inline_float(code)) return inline_floats[code - operand::half];
  return static_cast<u32>(read_special(w, i, code));
}

[[gnu::noinline]] inline u64 read_constant64(Wave& w, const Instruction& i, u16 code) {
  if (is_inline_integer(code)) return static_cast<u64>(static_cast<i64>(inline_integer(code)));
  if (code == operand::literal) return i.literal;
  if (is_inline_float(code)) return inline_doubles[code - operand::half];
  return read_special(w, i, code);
}

[[gnu::always_inline]] inline u32 Wave::read_scalar(const Instruction& i, u16 code) {
  if (code >= operand::scalars) return read_constant(*this, i, code);
  need_scalar(i, code);
  return scalar[code];
}

[[gnu::always_inline]] inline u64 Wave::read_scalar64(const Instruction& i, u16 code) {
  if (code >= operand::scalars - 1) return read_constant64(*this, i, code);
  need_scalar(i, code);
  need_scalar(i, code + 1);
  return pair(code);
}

[[gnu::always_inline]] inline void Wave::write_scalar(const Instruction& i, u16 code, u32 value) {
  if (__builtin_expect(code >= operand::scalars, 0))
    return fault(FaultKind::bad_instruction, i, 0, 0, "scalar destination that cannot be written");
  u64& ready = scalar_ready[code >> 6];
  const u64 bit = 1ull << (code & 63);
  if (__builtin_expect(!(ready & bit), 0)) check_overwrite(i, code, 0);
  scalar[code] = value;
  ready |= bit;
}

inline void Wave::write_scalar64(const Instruction& i, u16 code, u64 value) {
  write_scalar(i, code, static_cast<u32>(value));
  write_scalar(i, code + 1, static_cast<u32>(value >> 32));
}

inline const Lanes& Wave::source(const Instruction& i, u16 code, Lanes& room, u64 which) {
  if (__builtin_expect(is_vector(code), 1)) {
    need(i, code, which);
    return vector[code - operand::v0];
  }
  fill(room, read_scalar(i, code));
  return room;
}

inline void Wave::write(const Instruction& i, u16 code, const Lanes& value, u64 which) {
  if (__builtin_expect(!is_vector(code), 0))
    return fault(FaultKind::bad_instruction, i, 0, 0, "vector destination that is no register");
  overwrite(i, code, which);
  Lanes& out = vector[code - operand::v0];
  if (which == all_lanes)
    out = value;
  else
    merge(out, value, which);
}

}  // namespace aiter_moe::emulator
