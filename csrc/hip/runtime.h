// SPDX-License-Identifier: MIT
// What gfx9 device code needs instead of the ROCm headers: types, buffer access, waits. Compiled
// with -nogpuinc -nogpulib, so nothing here may include or call a library.
// Not here: what the GPUs do differently (gfx950.h, gfx942.h), where bytes lie (layout.h) and what
// is computed (stage1.h, stage2.h).
#pragma once

// At least `waves_per_simd` waves fit a SIMD, which bounds the registers. No upper bound: given
// one, the compiler asks for more registers than it uses, to keep further waves out.
#define AITER_MOE_KERNEL(threads, waves_per_simd)                 \
  extern "C" __attribute__((global))                             \
  __attribute__((amdgpu_flat_work_group_size(threads, threads))) \
  __attribute__((amdgpu_waves_per_eu(waves_per_simd))) void
#define AITER_MOE_DEVICE __attribute__((device, always_inline)) inline
#define AITER_MOE_GLOBAL __attribute__((address_space(1)))
#define AITER_MOE_LDS __attribute__((address_space(3)))
#define AITER_MOE_CONSTANT __attribute__((address_space(4)))

namespace aiter_moe::hip {

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned;
using i64 = long;
typedef short i16x4 __attribute__((ext_vector_type(4)));
typedef u32 u32x2 __attribute__((ext_vector_type(2)));
typedef u32 u32x4 __attribute__((ext_vector_type(4)));
typedef int i32x8 __attribute__((ext_vector_type(8)));
typedef float f32x2 __attribute__((ext_vector_type(2)));
typedef float f32x4 __attribute__((ext_vector_type(4)));
typedef __bf16 bf16x4 __attribute__((ext_vector_type(4)));
typedef __bf16 bf16x8 __attribute__((ext_vector_type(8)));

constexpr int wave_lanes = 64;

AITER_MOE_DEVICE int thread() { return __builtin_amdgcn_workitem_id_x(); }
AITER_MOE_DEVICE int lane() { return thread() & (wave_lanes - 1); }
// A value derived from the thread id counts as divergent; descriptors and LDS bases must not.
AITER_MOE_DEVICE int uniform(int value) { return __builtin_amdgcn_readfirstlane(value); }
AITER_MOE_DEVICE int wave() { return uniform(thread() / wave_lanes); }
AITER_MOE_DEVICE int group_x() { return __builtin_amdgcn_workgroup_id_x(); }
AITER_MOE_DEVICE int group_y() { return __builtin_amdgcn_workgroup_id_y(); }
// Workgroups of a launch in x, `threads` being the size of each.
AITER_MOE_DEVICE int groups(int threads) { return __builtin_amdgcn_grid_size_x() / threads; }

AITER_MOE_DEVICE constexpr int smaller(int a, int b) { return a < b ? a : b; }
AITER_MOE_DEVICE float magnitude(float x) { return __builtin_fabsf(x); }

// Calls f<0>() ... f<N-1>(), or up to the first that returns false.
template <class T, T... I> struct Sequence {};
template <int N, class F> AITER_MOE_DEVICE void unroll(F f) {
  [&]<int... I>(Sequence<int, I...>) { (f.template operator()<I>(), ...); }(
      __make_integer_seq<Sequence, int, N>{});
}
template <int N, class F> AITER_MOE_DEVICE bool unroll_while(F f) {
  return [&]<int... I>(Sequence<int, I...>) { return (f.template operator()<I>() && ...); }(
      __make_integer_seq<Sequence, int, N>{});
}

// Pointers of a by-value argument struct are generic; these say what they point to, so that
// loads become scalar (constant) or global instead of flat.
template <class T> AITER_MOE_DEVICE const T AITER_MOE_CONSTANT* constant(const T* p) {
  return (const T AITER_MOE_CONSTANT*)(p);
}
template <class T> AITER_MOE_DEVICE const T AITER_MOE_GLOBAL* global(const T* p) {
  return (const T AITER_MOE_GLOBAL*)(p);
}
template <class T> AITER_MOE_DEVICE T AITER_MOE_GLOBAL* global(T* p) {
  return (T AITER_MOE_GLOBAL*)(p);
}

// Four floats of rows that need no more than a float's alignment.
typedef float f32x4_row __attribute__((ext_vector_type(4), aligned(4)));
AITER_MOE_DEVICE f32x4 load_f32x4(const float* p) {
  return *reinterpret_cast<const f32x4_row AITER_MOE_GLOBAL*>(global(p));
}
// `offset` floats past a uniform address.
AITER_MOE_DEVICE f32x4 load_f32x4(const float* p, int offset) {
  return *reinterpret_cast<const f32x4_row AITER_MOE_GLOBAL*>(
      global(p) + static_cast<u32>(offset));
}
AITER_MOE_DEVICE void store_f32x4(float* p, f32x4 value) {
  *reinterpret_cast<f32x4_row AITER_MOE_GLOBAL*>(global(p)) = value;
}

// A uniform count that the compiler does not express by another.
AITER_MOE_DEVICE int counted_apart(int value) {
  asm volatile("" : "+s"(value));
  return value;
}

// A byte range read through a buffer descriptor: what lies outside reads as 0. Whether the
// scalar offset takes part in the range check is documented both ways, so callers mask lanes by
// the vector offset alone (`outside`) and keep every scalar offset below 2 GiB.
struct Buffer {
  const void* base;
  int bytes;
  // Each descriptor its own copy: one that several share is copied into place in every loop.
  int flags = counted_apart(raw_dwords);
  static constexpr int raw_dwords = 0x00020000;
};
constexpr int outside = static_cast<int>(0x80000000u);
constexpr int non_temporal = 2;

AITER_MOE_DEVICE __amdgpu_buffer_rsrc_t descriptor(Buffer b) {
  return __builtin_amdgcn_make_buffer_rsrc(const_cast<void*>(b.base), 0, b.bytes, b.flags);
}
template <int Hint = 0> AITER_MOE_DEVICE u32x4 load128(Buffer b, int vector, int scalar) {
  return __builtin_amdgcn_raw_buffer_load_b128(descriptor(b), vector, scalar, Hint);
}
AITER_MOE_DEVICE u32 load32(Buffer b, int vector, int scalar) {
  return __builtin_amdgcn_raw_buffer_load_b32(descriptor(b), vector, scalar, 0);
}
AITER_MOE_DEVICE u32x2 load64(Buffer b, int vector, int scalar) {
  return __builtin_amdgcn_raw_buffer_load_b64(descriptor(b), vector, scalar, 0);
}
AITER_MOE_DEVICE u32 load8(Buffer b, int vector, int scalar) {
  return __builtin_amdgcn_raw_buffer_load_b8(descriptor(b), vector, scalar, 0);
}

// An ordering point of data and memory that costs no instruction: loads issued before it stay
// before, matrix instructions on `value` too. Without it the compiler mixes the loads of the
// next step among the current ones, which makes copies of the prefetch registers.
AITER_MOE_DEVICE void pin(f32x4& value) { asm volatile("" : "+v"(value)::"memory"); }
// The same for a value that is kept in accumulation registers from here on.
AITER_MOE_DEVICE void pin_apart(f32x4& value) { asm volatile("" : "+a"(value)::"memory"); }
// Waits until a matrix instruction that the compiler knows nothing of has written its result.
AITER_MOE_DEVICE void settle() { asm volatile("s_nop 15\n\ts_nop 7" ::: "memory"); }
// Nothing made of `value` is computed before this point: conversions would otherwise drift to an
// earlier step and wait there for loads that are meant to stay in flight.
AITER_MOE_DEVICE u32 not_before(u32 value) {
  asm volatile("" : "+v"(value));
  return value;
}
AITER_MOE_DEVICE u32x4 not_before(u32x4 value) {
  asm volatile("" : "+v"(value));
  return value;
}
// The same, and this point comes after that of `earlier`.
AITER_MOE_DEVICE u32x4 not_before(u32x4 value, const u32x4& earlier) {
  asm volatile("" : "+v"(value) : "v"(earlier));
  return value;
}
AITER_MOE_DEVICE int not_before(int value) {
  asm volatile("" : "+v"(value));
  return value;
}
AITER_MOE_DEVICE void memory_order() { asm volatile("" ::: "memory"); }

// Waits until at most `Pending` vector-memory requests of this wave are unfinished.
template <int Pending> AITER_MOE_DEVICE void wait_loads() {
  static_assert(Pending >= 0 && Pending < 64, "vmcnt has 6 bits");
  constexpr int other_counters = (7 << 4) | (15 << 8);
  __builtin_amdgcn_s_waitcnt((Pending & 15) | ((Pending >> 4) << 14) | other_counters);
}
// Waits until the LDS has done all but the last `Pending` accesses this wave asked of it.
template <int Pending = 0> AITER_MOE_DEVICE void wait_lds() {
  static_assert(Pending >= 0 && Pending < 16, "lgkmcnt has 4 bits");
  constexpr int other_counters = 15 | (3 << 14) | (7 << 4);
  memory_order();
  __builtin_amdgcn_s_waitcnt(other_counters | (Pending << 8));
}
AITER_MOE_DEVICE void barrier() {
  memory_order();
  __builtin_amdgcn_s_barrier();
  memory_order();
}

}  // namespace aiter_moe::hip
