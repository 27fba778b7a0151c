// SPDX-License-Identifier: MIT
// The operations of the GPU that is compiled for: gfx950.h or gfx942.h.
#pragma once

#if defined(__gfx950__)
#include "hip/gfx950.h"
#elif defined(__gfx942__)
#include "hip/gfx942.h"
#else
#error "there are tiles for gfx950 and gfx942"
#endif
