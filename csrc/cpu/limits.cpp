// SPDX-License-Identifier: MIT
// What bounds a micro-kernel on this CPU: dot products on registers alone, and a sequential read.
// Compiled with every instruction set of the CPU; each dot is there if its instructions are.
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "common/export.h"
#include "cpu/vector.h"

namespace {

using aiter_moe::cpu::U32;

constexpr int kChains = 14;  // independent sums: latency times ports of every CPU we know, and some
constexpr int kPrefetchBytes = 4096;

// `rounds` times kChains independent `step`s, each one instruction.
template <class Vector, class Step>
AITER_MOE_INLINE void repeat(long rounds, Vector zero, const Step& step) {
  Vector sum[kChains];
  AITER_MOE_UNROLL
  for (int i = 0; i < kChains; ++i) sum[i] = zero;
  for (long round = 0; round < rounds; ++round) {
    AITER_MOE_UNROLL
    for (int i = 0; i < kChains; ++i) {
      sum[i] = step(sum[i]);
      asm volatile("" : "+x"(sum[i]));  // the compiler may neither merge steps nor drop them
    }
  }
}

}  // namespace

#define AITER_MOE_DOT(name, Vector, zero, a, b, step)       \
  AITER_MOE_EXPORT void name(long rounds) {                 \
    Vector a = zero, b = zero;                              \
    asm("" : "+x"(a), "+x"(b));                             \
    repeat(rounds, zero, [&](Vector sum) { return step; }); \
  }

#if defined(__AVX512BF16__)
AITER_MOE_DOT(vdpbf16ps_512, __m512, _mm512_setzero_ps(), a, b,
              _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b))
#endif
#if defined(__AVX512VNNI__)
AITER_MOE_DOT(vpdpbusd_512, __m512i, _mm512_setzero_si512(), a, b,
              _mm512_dpbusd_epi32(sum, a, b))
#endif
#if defined(__AVX512F__)
AITER_MOE_DOT(vfmadd_512, __m512, _mm512_setzero_ps(), a, b, _mm512_fmadd_ps(a, b, sum))
#endif
#if defined(__AVXVNNI__)
AITER_MOE_DOT(vpdpbusd_256, __m256i, _mm256_setzero_si256(), a, b,
              _mm256_dpbusd_avx_epi32(sum, a, b))
#endif
#if defined(__AVX2__)
AITER_MOE_DOT(vpmaddubsw_256, __m256i, _mm256_setzero_si256(), a, b,
              ((void)a, (void)b, _mm256_maddubs_epi16(sum, b)))
#endif
#if defined(__FMA__)
AITER_MOE_DOT(vfmadd_256, __m256, _mm256_setzero_ps(), a, b, _mm256_fmadd_ps(a, b, sum))
#endif

// Reads `bytes` (a multiple of 256) in order; the result keeps the compiler from leaving it out.
AITER_MOE_EXPORT uint32_t read_stream(const void* from, long bytes) {
  const char* const begin = static_cast<const char*>(from);
  U32 sum[4] = {};
  for (const char* at = begin; at < begin + bytes; at += sizeof(sum)) {
    AITER_MOE_UNROLL
    for (int j = 0; j < 4; ++j) {
      const char* const part = at + j * sizeof(U32);
      __builtin_prefetch(part + kPrefetchBytes);
      sum[j] ^= *reinterpret_cast<const U32*>(part);
    }
  }
  return (sum[0] ^ sum[1] ^ sum[2] ^ sum[3])[0];
}
