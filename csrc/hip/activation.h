// SPDX-License-Identifier: MIT
// The gate/up activations of stage 1 in f32, over the hardware's exp2 and reciprocal (there is
// no math library). Relative errors stay far below one bf16 step, also near zero and in the
// tails. A NaN stays a NaN, which v_min and v_max would drop.
#pragma once

#include "common/stage_args.h"
#include "hip/runtime.h"

namespace aiter_moe::hip {

enum class Activation { silu = 0, gelu = 1, swiglu = 2, situv2 = 3 };  // values of ActivationType

constexpr float log2_e = 1.44269504088896340736f;

AITER_MOE_DEVICE float exponential(float x) { return __builtin_amdgcn_exp2f(x * log2_e); }
AITER_MOE_DEVICE float reciprocal(float x) { return __builtin_amdgcn_rcpf(x); }
AITER_MOE_DEVICE float sigmoid(float x) { return reciprocal(1.0f + exponential(-x)); }
#if defined(__gfx950__)
AITER_MOE_DEVICE float clamp_above(float x, float limit) {
  return __builtin_elementwise_minimum(x, limit);
}
AITER_MOE_DEVICE float clamp_both(float x, float limit) {
  return __builtin_elementwise_maximum(clamp_above(x, limit), -limit);
}
#else
AITER_MOE_DEVICE float clamp_above(float x, float limit) { return x > limit ? limit : x; }
AITER_MOE_DEVICE float clamp_both(float x, float limit) {
  return x > limit ? limit : (x < -limit ? -limit : x);
}
#endif

// Beyond 1/4 by the exponential; below it that form cancels, so the odd Taylor polynomial, whose
// first dropped term is 2e-8 of x there.
AITER_MOE_DEVICE float hyperbolic_tangent(float x) {
  const float s = x * x;
  float p = __builtin_fmaf(s, -1382.0f / 155925.0f, 62.0f / 2835.0f);
  p = __builtin_fmaf(s, p, -17.0f / 315.0f);
  p = __builtin_fmaf(s, p, 2.0f / 15.0f);
  p = __builtin_fmaf(s, p, -1.0f / 3.0f);
  const float small = __builtin_fmaf(x * s, p, x);
  const float large = 1.0f - 2.0f * reciprocal(1.0f + exponential(2.0f * magnitude(x)));
  return magnitude(x) < 0.25f ? small : __builtin_copysignf(large, x);
}

// erfc(x) for x >= 0 as exp(-x * x) * t * P(t), t = 1 / (1 + x / 2); P was fitted by reweighted
// least squares to a relative error of 7e-8 over [0, 10].
AITER_MOE_DEVICE float erfc_positive(float x) {
  const float t = reciprocal(__builtin_fmaf(0.5f, x, 1.0f));
  float p = -0.05907047539949417f;
  p = __builtin_fmaf(t, p, 0.28458112478256226f);
  p = __builtin_fmaf(t, p, -0.48720988631248474f);
  p = __builtin_fmaf(t, p, 0.2780752182006836f);
  p = __builtin_fmaf(t, p, -0.026628801599144936f);
  p = __builtin_fmaf(t, p, 0.20268714427947998f);
  p = __builtin_fmaf(t, p, 0.24310395121574402f);
  p = __builtin_fmaf(t, p, 0.2823752462863922f);
  p = __builtin_fmaf(t, p, 0.28208643198013306f);
  return t * p * exponential(-x * x);
}

// Half of 1 + erf(x / sqrt(2)), without cancellation for negative x.
AITER_MOE_DEVICE float normal_distribution(float x) {
  const float tail = 0.5f * erfc_positive(magnitude(x) * 0.70710678118654752440f);
  return x < 0.0f ? tail : 1.0f - tail;
}

template <Activation Which>
AITER_MOE_DEVICE float activate(float gate, float up, const StageArgs& a) {
  if constexpr (Which == Activation::silu) {
    // No branch: it would be one for every value.
    const float limit = a.limit > 0.0f ? a.limit : __builtin_inff();
    gate = clamp_above(gate, limit);
    up = clamp_both(up, limit);
    return gate * sigmoid(gate) * up;
  } else if constexpr (Which == Activation::gelu) {
    return gate * normal_distribution(gate) * up;
  } else if constexpr (Which == Activation::swiglu) {
    gate = clamp_above(gate, a.limit);
    up = clamp_both(up, a.limit);
    return gate * sigmoid(1.702f * gate) * (up + 1.0f);
  } else {
    const float bounded_gate = a.beta * hyperbolic_tangent(gate * reciprocal(a.beta));
    const float bounded_up =
        a.linear_beta * hyperbolic_tangent(up * reciprocal(a.linear_beta));
    return bounded_gate * sigmoid(gate) * bounded_up;
  }
}

}  // namespace aiter_moe::hip
