// SPDX-License-Identifier: MIT
// The one door to the micro-kernels. Each operand kind (A16W4, A4W4) is a struct with
//   kRows                        most rows of a call; fewer cost more each,
//   kRowWords                    dwords of packed data per row and block, at most,
//   kActivationBits              bits of an element of x as the caller has it,
//   words(rows, blocks)          dwords from the start of a pass to its block,
//   pack(rows, count, blocks, to)
//                                packs the activation rows of a pass,
//   multiply(panel, next, ahead, range, x, rows, groups, out)
//                                out[group][row][16] = x * the first `groups` column groups of a
//                                panel over blocks; x starts at range.begin, and `out` has room for
//                                all groups. `next` is where the tiles lie that are read after this
//                                panel, or null where the panel itself is read again; `ahead` is
//                                the least prefetch distance in tiles, 0 for none.
// Packed data are private to the micro-kernel; out is in natural column order.
#pragma once

#include "cpu/microkernel_portable.h"
#if defined(__AVX512F__) && defined(__AVX512BW__)
#include "cpu/avx512_f32.h"
#endif
#if defined(__AVX512BF16__) || defined(AITER_MOE_BF16_DOT_IN_F32)
#include "cpu/avx512_bf16.h"
#endif
#if defined(__AVX512VNNI__)
#include "cpu/avx512_a4w4.h"
#endif
#if defined(__AVX2__) && defined(__FMA__)
#include "cpu/avx2_a16w4.h"
#include "cpu/avx2_a4w4.h"
#endif
