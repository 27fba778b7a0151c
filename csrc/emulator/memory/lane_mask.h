// SPDX-License-Identifier: MIT
// Masks of a bit a lane, made from what a loop over lanes found, and lanes chosen by them.
#pragma once

#include "emulator/wave.h"

namespace aiter_moe::emulator {

// One truth value a lane, 0 or 1: what vectorised comparisons write.
struct alignas(64) LaneFlags {
  u8 lane[lanes];
};

inline u64 mask_of(const LaneFlags& flags) {
#if defined(__AVX512BW__)
  const __m512i all = _mm512_load_si512(flags.lane);
  return _mm512_test_epi8_mask(all, all);
#else
  u64 mask = 0;
  for (int part = 0; part < lanes; part += 8) {
    u64 eight;
    __builtin_memcpy(&eight, flags.lane + part, sizeof eight);
    // Byte n's bit goes to bit n of the top byte.
    mask |= eight * 0x0102040810204080 >> 56 << part;
  }
  return mask;
#endif
}

// Bit n: values[n] is values[n - distance]; lanes before `distance` have none.
template <int distance>
inline u64 equal_at_distance(const u32* values) {
#if defined(__AVX512F__)
  u64 mask = 0;
  for (int part = distance / 16 * 16; part < lanes; part += 16) {
    const u32 there = part < distance ? 0xffffu << distance % 16 : 0xffffu;
    const __m512i before =
        _mm512_maskz_loadu_epi32(static_cast<__mmask16>(there), values + part - distance);
    const __m512i now = _mm512_loadu_si512(values + part);
    mask |= u64{_mm512_mask_cmpeq_epi32_mask(static_cast<__mmask16>(there), now, before)} << part;
  }
  return mask;
#else
  LaneFlags equal = {};
  for (int lane = distance; lane < lanes; ++lane)
    equal.lane[lane] = values[lane] == values[lane - distance];
  return mask_of(equal);
#endif
}

// Which lanes repeat a value that an earlier one of their group has, as far as cheap comparisons
// tell: with the lane before (broadcasts, narrow accesses), and with those 16 and 32 before (rows
// and columns of matrix fragments). Groups are `group` consecutive lanes, a power of two from 8 on.
inline u64 likely_repeats(const u32* values, int group = lanes) {
  const u64 groups = all_lanes / (group == lanes ? all_lanes : (1ull << group) - 1);  // first lanes
  u64 found = equal_at_distance<1>(values) & ~groups;
  if (group > 16) found |= equal_at_distance<16>(values) & ~(groups * 0xffff);
  if (group > 32) found |= equal_at_distance<32>(values) & ~(groups * 0xffffffff);
  return found;
}

// values[lane] = `other` in the lanes outside `which`.
inline void replace_outside(u64* values, u64 which, u64 other) {
#if defined(__AVX512F__)
  const __m512i all_other = _mm512_set1_epi64(static_cast<long long>(other));
  for (int part = 0; part < lanes; part += 8)
    _mm512_mask_storeu_epi64(values + part, static_cast<__mmask8>(~which >> part), all_other);
#else
  for (int lane = 0; lane < lanes; ++lane)
    values[lane] = which >> lane & 1 ? values[lane] : other;
#endif
}

inline void replace_outside(u32* values, u64 which, u32 other) {
#if defined(__AVX512F__)
  const __m512i all_other = _mm512_set1_epi32(static_cast<int>(other));
  for (int part = 0; part < lanes; part += 16)
    _mm512_mask_storeu_epi32(values + part, static_cast<__mmask16>(~which >> part), all_other);
#else
  for (int lane = 0; lane < lanes; ++lane)
    values[lane] = which >> lane & 1 ? values[lane] : other;
#endif
}

}  // namespace aiter_moe::emulator
