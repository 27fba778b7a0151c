// SPDX-License-Identifier: MIT
// Found where the HIP headers at hand lack hip_fp16.h (triton's do): the names that CK-tile's
// numeric headers mention. Its own arithmetic is on _Float16.
#pragma once

struct __half {
  _Float16 value;
};
struct __half2 {
  __half low, high;
};
using half = __half;
using half2 = __half2;
