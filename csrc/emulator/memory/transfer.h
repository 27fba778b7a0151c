// SPDX-License-Identifier: MIT
// Moves dwords between 64 places in memory and rows of 64 lanes. Addresses are those of the host,
// all 64 valid: who has idle or faulty lanes points them to a place that is not missed. Not here:
// where lanes point to (lane_addresses.h) and which registers they fill.
#pragma once

#include "emulator/wave.h"

namespace aiter_moe::emulator {

// What a load from nowhere yields: a NaN in f32, and in the upper half as bf16.
constexpr u32 poison = 0x7fc0dead;

struct alignas(64) LaneAddresses {
  u64 at[lanes];
};

typedef u32 Dwords4 __attribute__((vector_size(16)));
typedef u32 Dwords8 __attribute__((vector_size(32)));
typedef u32 Dwords16 __attribute__((vector_size(64)));

// Vectors go by reference: without AVX-512, compilers disagree on how to pass them.
template <class Value>
inline void load_unaligned(u64 address, Value& value) {
  __builtin_memcpy(&value, reinterpret_cast<const void*>(address), sizeof value);
}

template <class Value>
inline void store_unaligned(u64 address, const Value& value) {
  __builtin_memcpy(reinterpret_cast<void*>(address), &value, sizeof value);
}

// Turns four vectors, each four groups of four dwords, around in every group: dword k of vector j
// becomes dword j of vector k. Its own inverse.
inline void turn_groups(Dwords16 (&v)[4]) {
#define AITER_MOE_LOW(a, b)                                                                       \
  __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29)
#define AITER_MOE_HIGH(a, b)                                                                      \
  __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31)
  const Dwords16 a = AITER_MOE_LOW(v[0], v[2]), b = AITER_MOE_LOW(v[1], v[3]);
  const Dwords16 c = AITER_MOE_HIGH(v[0], v[2]), d = AITER_MOE_HIGH(v[1], v[3]);
  v[0] = AITER_MOE_LOW(a, b);
  v[1] = AITER_MOE_HIGH(a, b);
  v[2] = AITER_MOE_LOW(c, d);
  v[3] = AITER_MOE_HIGH(c, d);
#undef AITER_MOE_LOW
#undef AITER_MOE_HIGH
}

// The dwords at four addresses, one after the other.
inline void load_groups(Dwords16& to, u64 a, u64 b, u64 c, u64 d) {
  Dwords4 v[4];
  load_unaligned(a, v[0]);
  load_unaligned(b, v[1]);
  load_unaligned(c, v[2]);
  load_unaligned(d, v[3]);
  const Dwords8 low = __builtin_shufflevector(v[0], v[1], 0, 1, 2, 3, 4, 5, 6, 7);
  const Dwords8 high = __builtin_shufflevector(v[2], v[3], 0, 1, 2, 3, 4, 5, 6, 7);
  to = __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

// Four dwords a lane. Lane 4 * g + j goes through group g of vector j.
inline void gather4(const u64* at, Lanes* rows) {
  for (int part = 0; part < lanes; part += 16) {
    Dwords16 v[4];
    for (int j = 0; j < 4; ++j)
      load_groups(v[j], at[part + j], at[part + 4 + j], at[part + 8 + j], at[part + 12 + j]);
    turn_groups(v);
    for (int n = 0; n < 4; ++n) __builtin_memcpy(&rows[n].lane[part], &v[n], sizeof v[n]);
  }
}

inline void scatter4(const u64* at, const Lanes* rows) {
  for (int part = 0; part < lanes; part += 16) {
    Dwords16 v[4];
    for (int n = 0; n < 4; ++n) __builtin_memcpy(&v[n], &rows[n].lane[part], sizeof v[n]);
    turn_groups(v);
    for (int j = 0; j < 4; ++j) {
      store_unaligned(at[part + j], __builtin_shufflevector(v[j], v[j], 0, 1, 2, 3));
      store_unaligned(at[part + 4 + j], __builtin_shufflevector(v[j], v[j], 4, 5, 6, 7));
      store_unaligned(at[part + 8 + j], __builtin_shufflevector(v[j], v[j], 8, 9, 10, 11));
      store_unaligned(at[part + 12 + j], __builtin_shufflevector(v[j], v[j], 12, 13, 14, 15));
    }
  }
}

// `count` dwords a lane to the rows of `to`.
inline void gather(const LaneAddresses& from, u32 count, Lanes* to) {
  if (count == 4) return gather4(from.at, to);
  for (u32 n = 0; n < count; ++n)
    for (int lane = 0; lane < lanes; ++lane)
      load_unaligned(from.at[lane] + 4 * n, to[n].lane[lane]);
}

// In the order of lanes: where several write one place, the highest lane's value stays.
inline void scatter(const LaneAddresses& to, u32 count, const Lanes* from) {
  if (count == 4) return scatter4(to.at, from);
  for (int lane = 0; lane < lanes; ++lane)
    for (u32 n = 0; n < count; ++n) store_unaligned(to.at[lane] + 4 * n, from[n].lane[lane]);
}


}  // namespace aiter_moe::emulator
