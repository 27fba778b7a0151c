// SPDX-License-Identifier: MIT
// Found where the HIP headers at hand lack hip_bfloat16.h (triton's do): the one name that
// CK-tile's numeric headers mention. Its own arithmetic is on __bf16.
#pragma once

struct hip_bfloat16 {
  unsigned short bits;
};
