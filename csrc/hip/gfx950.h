// SPDX-License-Identifier: MIT
// What gfx950 does by instructions of its own: loads straight to the LDS, fp4 to bf16 with a
// scale, matrix products over 32 bf16 or 128 scaled fp4 elements.
// Counterpart: gfx942.h, of the same names where it can.
#pragma once

#include "hip/layout.h"

namespace aiter_moe::hip {

// 16 bytes a lane from the buffer to lds + lane * 16, without passing registers. The compiler
// puts no wait between this and a read of the LDS: see `wait_loads`.
// `Offset` is added to both addresses.
template <int Offset = 0>
AITER_MOE_DEVICE void load_to_lds(Buffer b, AITER_MOE_LDS u8* lds, int vector, int scalar) {
  __builtin_amdgcn_raw_ptr_buffer_load_lds(
      descriptor(b), (AITER_MOE_LDS void*)(lds), 16, vector, scalar, Offset, 0);
}

// The rows of a step that a wave has requested: they land in the LDS by themselves, so that a
// stage belongs to a request from its start. Request I fills the LDS from I * Pitch on.
//
// An instruction's offset counts on both sides, in the LDS and in memory. So up to `near` requests
// share an LDS base (a write of M0 each otherwise), and lane offsets make up for it: `source` is
// a descriptor that begins before the rows, by what the last of them adds.
template <int Requests, int Pitch = fragment_bytes> struct GatheredRows {
  static constexpr bool through_registers = false;
  static constexpr int largest_offset = 4095;
  static constexpr int near = smaller(Requests, largest_offset / Pitch + 1);
  static constexpr int before = (near - 1) * Pitch;

  AITER_MOE_DEVICE static Buffer source(Buffer rows) {
    return {static_cast<const u8*>(rows.base) - before, rows.bytes + before};
  }
  // The lane offset into `source` that request I takes for byte `offset` of the rows.
  template <int I> AITER_MOE_DEVICE static int lane_offset(int offset) {
    return offset + before - I % near * Pitch;
  }
  template <int I>
  AITER_MOE_DEVICE void request(Buffer source, AITER_MOE_LDS u8* lds, int vector, int scalar) {
    load_to_lds<I % near * Pitch>(source, lds + (I - I % near) * Pitch, vector, scalar);
  }
  // Returns once the rows lie in the LDS; `Later` requests have been made since.
  template <int Later> AITER_MOE_DEVICE void land(AITER_MOE_LDS u8*) const { wait_loads<Later>(); }
};

// Where gathered bf16 rows lie in a stage of the LDS. A fragment is 2 whole rows of a step, so that
// a request reads whole lines of the caches: lane l fetches row l / 8 % 2, MX block
// 4 * (l / 4 % 2) + l / 16, its 16 bytes l % 4. Bytes of a row that are multiplied together (by
// quarter of the lanes) are 256 bytes apart, and a fragment 16 bytes more than it takes from the
// next: any 16 lanes that read different rows use all banks once.
struct RowLayout {
  static constexpr int pitch = fragment_bytes + 16;
  static constexpr int sharing = 1;  // consecutive fragments of the same rows
  // A wait costs few rows as much as many, and few rows leave registers for more pieces of them.
  static constexpr int pieces_at_a_time(int row_tiles) {
    return row_tiles <= 2 ? 8 / row_tiles : 1;
  }

  AITER_MOE_DEVICE static int row(int fragment) { return 2 * fragment + lane() / 8 % 2; }
  AITER_MOE_DEVICE static int block(int) { return lane() / 4 % 2 * 4 + lane() / 16; }
  AITER_MOE_DEVICE static int piece() { return lane() % 4; }
  // Where a lane reads row l % 16 of the first tile, block l / 16, its first 16 bytes; and how
  // much further row tile m, half of the step and piece j are.
  AITER_MOE_DEVICE static int first() {
    return row_of_lane() / 2 * pitch + row_of_lane() % 2 * 128 + quarter_of_lane() * 256;
  }
  static constexpr int further(int m, int half, int j) {
    return m * 8 * pitch + half * 64 + j * 16;
  }
};

// The 8 fp4 codes of a dword times the power of two of their block, as 8 bf16. Exact where bf16
// has the product.
struct Fp4Decoder {
  static constexpr int ahead = 1;  // fragments decoded before their matrix instructions
  float scale;  // the instruction reads its exponent bits alone

  AITER_MOE_DEVICE u32x4 operator()(u32 codes) const {
    return u32x4{pair<0>(codes), pair<1>(codes), pair<2>(codes), pair<3>(codes)};
  }
  template <int Byte> AITER_MOE_DEVICE u32 pair(u32 codes) const {
    return __builtin_bit_cast(u32, __builtin_amdgcn_cvt_scalef32_pk_bf16_fp4(codes, scale, Byte));
  }
};

// The 8 elements of a row in the order of decoded codes.
AITER_MOE_DEVICE u32x4 in_decoder_order(u32x4 row) { return row; }

// One instruction, which the compiler makes of the last byte only: others it shifts and masks.
template <int Byte> AITER_MOE_DEVICE Fp4Decoder fp4_decoder(u32 scales) {
  float scale;
  asm("v_lshlrev_b32_sdwa %0, %1, %2 dst_sel:DWORD dst_unused:UNUSED_PAD src0_sel:DWORD "
      "src1_sel:BYTE_%3" : "=v"(scale) : "s"(23), "v"(scales), "n"(Byte));
  return {scale};
}

// 16x16x32 product of bf16 operands: lane l holds 8 elements of row (column) l % 16.
AITER_MOE_DEVICE f32x4 mfma_bf16(u32x4 a, u32x4 b, f32x4 c) {
  return __builtin_amdgcn_mfma_f32_16x16x32_bf16(
      __builtin_bit_cast(bf16x8, a), __builtin_bit_cast(bf16x8, b), c, 0, 0, 0);
}

// 16x16x128 product of fp4 operands with e8m0 block scales, byte `A`/`B` of each scale register.
// Lane l holds row l % 16 of `a` (of `b`: column), elements 32 * (l / 16) onwards; the result's
// register i is row 4 * (l / 16) + i, column l % 16.
template <int A, int B>
AITER_MOE_DEVICE f32x4 mfma_fp4(u32x4 a, u32x4 b, f32x4 c, u32 a_scale, u32 b_scale) {
  constexpr int fp4 = 4;
  const i32x8 wide_a = {(int)a.x, (int)a.y, (int)a.z, (int)a.w, 0, 0, 0, 0};
  const i32x8 wide_b = {(int)b.x, (int)b.y, (int)b.z, (int)b.w, 0, 0, 0, 0};
  return __builtin_amdgcn_mfma_scale_f32_16x16x128_f8f6f4(
      wide_a, wide_b, c, fp4, fp4, A, (int)a_scale, B, (int)b_scale);
}

// The same with `c` in the registers it has: the compiler likes to put sums into others, which
// takes more registers than tall tiles have. Nor does it know what it would have to wait for, so:
// nothing but loads may write operands less than 2 instructions ahead, unless `Settle` waits that
// long; sums are read behind `settle` alone.
template <int A, int B, bool Settle>
AITER_MOE_DEVICE void mfma_fp4_in_place(f32x4& c, u32x4 a, u32x4 b, u32 a_scale, u32 b_scale) {
  // One statement each: between two the compiler may put an instruction.
#define AITER_MOE_MFMA_FP4                                               \
  "v_mfma_scale_f32_16x16x128_f8f6f4 %0, %1, %2, %0, %3, %4 "            \
  "op_sel:[%5,%6,0] op_sel_hi:[%7,%8,0] cbsz:4 blgp:4"
#define AITER_MOE_MFMA_OPERANDS                                          \
  "v"(a), "v"(b), "v"(a_scale), "v"(b_scale), "n"(A % 2), "n"(B % 2),    \
      "n"(A / 2), "n"(B / 2)
  if constexpr (Settle)
    asm volatile("s_nop 1\n\t" AITER_MOE_MFMA_FP4 : "+v"(c) : AITER_MOE_MFMA_OPERANDS);
  else
    asm volatile(AITER_MOE_MFMA_FP4 : "+v"(c) : AITER_MOE_MFMA_OPERANDS);
#undef AITER_MOE_MFMA_FP4
#undef AITER_MOE_MFMA_OPERANDS
}

}  // namespace aiter_moe::hip
