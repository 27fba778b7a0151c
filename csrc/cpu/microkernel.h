// SPDX-License-Identifier: MIT
// The one door to the micro-kernels. Each operand kind (A16W4, A4W4) is a struct with
//   kRows                                      most rows of a pass,
//   kRowWords                                  dwords of packed data per row and block, at most,
//   kActivationBits                            bits of an element of x as the caller has it,
//   words(rows, blocks)                        dwords from the start of a pass to its block,
//   pack(rows, count, blocks, to)              packs the activation rows of a pass,
//   multiply(tile, next, range, x, count, out) out[count][16] = x * one weight tile over blocks;
//                                              x starts at range.begin, next is read afterwards.
// Packed data are private to the micro-kernel; out is in natural column order.
#pragma once

#include "cpu/microkernel_portable.h"
#if defined(__AVX512BF16__) && defined(__AVX512VNNI__) && defined(__AVX512VBMI__)
#include "cpu/microkernel_avx512.h"
#endif
