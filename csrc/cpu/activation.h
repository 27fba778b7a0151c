// SPDX-License-Identifier: MIT
// The four gate/up activations of stage 1 in f32, with exp, tanh and a normal tail of their own.
// Polynomials are Chebyshev fits; functions are good to about 1e-6 relative and keep NaN.
#pragma once

#include "common/stage_args.h"
#include "cpu/vector.h"

namespace aiter_moe::cpu {

// e^x. Below -104 it is 0, above 89 infinite; denormal results are rounded once.
AITER_MOE_INLINE F32 exp(F32 x) {
  const F32 bounded = at_least(at_most(x, 89.0f), -104.0f);
  const F32 shifter = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  const F32 shifted = bounded * 1.44269504f + shifter;
  const F32 n = shifted - shifter;
  const F32 r = (bounded - n * 0.693359375f) - n * -2.12194440e-4f;
  F32 p = r * 1.3934544986e-3f + 8.3637768403e-3f;
  p = p * r + 4.166645557e-2f;
  p = p * r + 1.666657329e-1f;
  p = p * r + 0.5f;
  p = p * (r * r) + r + 1.0f;
  const I32 whole = reinterpret_cast<I32>(shifted) - reinterpret_cast<I32>(shifter);
  const I32 half = whole >> 1;  // two factors reach 2^128 and the denormals
  const F32 first = reinterpret_cast<F32>((half + 127) << 23);
  const F32 second = reinterpret_cast<F32>((whole - half + 127) << 23);
  return p * first * second;
}

AITER_MOE_INLINE F32 sigmoid(F32 x) { return 1.0f / (1.0f + exp(-x)); }

AITER_MOE_INLINE F32 tanh(F32 x) {
  const F32 a = magnitude(x);
  const F32 z = a * a;
  F32 p = z * -6.053691264e-3f + 2.0968182013e-2f;
  p = p * z + -5.3844988346e-2f;
  p = p * z + 1.3332733512e-1f;
  p = p * z + -3.3333328366e-1f;
  const F32 near = a + a * z * p;
  const F32 far = 1.0f - 2.0f / (exp(a + a) + 1.0f);
  return with_sign_of(a < 0.625f ? near : far, x);
}

// e^(-x^2 / 2). The square of x's upper half is exact, so a large x does not lose the digits that
// rounding x^2 would cost; the rest of the square is at most 0.02 wherever the result counts.
AITER_MOE_INLINE F32 bell(F32 x) {
  const F32 high = reinterpret_cast<F32>(reinterpret_cast<U32>(x) & 0xFFFFF000u);
  const F32 rest = (x - high) * (x + high) * -0.5f;
  const F32 small = 1.0f + rest * (1.0f + rest * (0.5f + rest * 1.666666667e-1f));
  return exp(high * high * -0.5f) * small;
}

// Upper tail of the normal distribution at x >= 0, erfc(x / sqrt 2) / 2, as t * p(t) * bell(x)
// with t = 1 / (1 + x / sqrt 8); 0 in f32 from x = 15 on, but the square must not overflow.
AITER_MOE_INLINE F32 normal_tail(F32 x) {
  const F32 t = 1.0f / (1.0f + 3.535533906e-1f * x);
  F32 p = t * -5.8989327401e-2f + 2.8443410993e-1f;
  p = p * t + -4.8743313551e-1f;
  p = p * t + 2.7893850207e-1f;
  p = p * t + -2.7635464445e-2f;
  p = p * t + 2.0327891409e-1f;
  p = p * t + 2.4291639030e-1f;
  p = p * t + 2.8240543604e-1f;
  p = p * t + 2.8208449483e-1f;
  return 0.5f * t * p * bell(x);
}

struct Silu {
  static AITER_MOE_INLINE F32 apply(F32 gate, F32 up, const StageArgs& args) {
    if (args.limit > 0.0f) {
      gate = at_most(gate, args.limit);
      up = at_least(at_most(up, args.limit), -args.limit);
    }
    return gate * sigmoid(gate) * up;
  }
};

struct Gelu {
  static AITER_MOE_INLINE F32 apply(F32 gate, F32 up, const StageArgs&) {
    const F32 tail = normal_tail(at_most(magnitude(gate), 20.0f));
    return gate * (gate < 0.0f ? tail : 1.0f - tail) * up;
  }
};

struct Swiglu {
  static AITER_MOE_INLINE F32 apply(F32 gate, F32 up, const StageArgs& args) {
    gate = at_most(gate, args.limit);
    up = at_least(at_most(up, args.limit), -args.limit);
    return gate * sigmoid(1.702f * gate) * (up + 1.0f);
  }
};

struct Situv2 {
  static AITER_MOE_INLINE F32 apply(F32 gate, F32 up, const StageArgs& args) {
    const F32 gated = args.beta * tanh(gate / args.beta) * sigmoid(gate);
    return gated * (args.linear_beta * tanh(up / args.linear_beta));
  }
};

}  // namespace aiter_moe::cpu
