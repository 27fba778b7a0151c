// SPDX-License-Identifier: MIT
// Micro-kernels for AVX-512 with BF16, VNNI and VBMI. Included through microkernel.h.
#pragma once

#include "cpu/avx512_a16w4.h"
#include "cpu/avx512_a4w4.h"
