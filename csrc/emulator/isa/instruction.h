// SPDX-License-Identifier: MIT
// A decoded instruction: one flat record for every encoding, made once per kernel load by
// isa/decode.h and read by the handlers of exec/ and memory/. Fields an encoding does not have
// are zero (operands: none).
#pragma once

#include <stdint.h>

namespace aiter_moe::emulator {

using u8 = uint8_t;
using u16 = uint16_t;
using u32 = uint32_t;
using u64 = uint64_t;
using i8 = int8_t;
using i16 = int16_t;
using i32 = int32_t;
using i64 = int64_t;

// Operand codes are the ISA's nine-bit source codes; accumulation registers follow the vector
// registers, so that `code - operand::v0` is a row of the wave's vector file.
namespace operand {
constexpr u16 flat_scratch = 102, xnack_mask = 104, vcc = 106, ttmp0 = 108, m0 = 124, exec = 126;
constexpr u16 scalars = 128;         // codes below are rows of the wave's scalar file
constexpr u16 zero = 128, one = 129, minus_one = 193;  // 129..192 are 1..64, 193..208 -1..-16
constexpr u16 shared_base = 235, shared_limit = 236, private_base = 237, private_limit = 238;
constexpr u16 half = 240, minus_half = 241, float_one = 242, inverse_two_pi = 248;
constexpr u16 vccz = 251, execz = 252, scc = 253, literal = 255;
constexpr u16 v0 = 256, a0 = 512, end = 768;
constexpr u16 none = 0xffff;
}  // namespace operand

enum class Format : u8 {
  sop1, sop2, sopk, sopc, sopp, smem, vop1, vop2, vopc, vop3, vop3p, ds, mubuf, mtbuf, flat,
  global, scratch, unknown
};

// How VOP1, VOP2 and VOPC fetch their operands.
enum class Variant : u8 { plain, sdwa, dpp };

// What counters add an instruction to.
enum class Class : u8 {
  salu, branch, wait, barrier, smem, valu, mfma, lds, vmem_load, vmem_store, vmem_atomic, scratch,
  other
};

// A row of the opcode table (isa/opcodes.inc). Mnemonics are the assembler's without _e32, _e64,
// _dpp and _sdwa.
struct Opcode {
  Format format;
  u16 code;
  const char* name;
  u8 archs;  // bit 0: gfx942, bit 1: gfx950
  Class kind;
  const char* operands;  // isa/opcode.h says how to read these two
  u32 traits;
};

struct Sdwa {
  u8 dst_sel;     // 0..3 byte, 4..5 word, 6 dword
  u8 dst_unused;  // 0 pad with zeros, 1 sign extend, 2 preserve
  u8 sel[2];
  u8 sign_extend[2];
};

struct Dpp {
  u16 control;
  u8 row_mask;
  u8 bank_mask;
  bool bound_control;
};

struct Wave;

struct Instruction {
  using Handler = void (*)(Wave&, const Instruction&);

  Handler run;           // executes it; reports an unknown instruction where nobody does
  const Opcode* opcode;  // null where the words match no row
  u32 pc;                // byte offset of the first word in the code object's text section
  u8 bytes;              // 4, 8, 12 or 16
  Format format;
  Variant variant;

  u16 dst;         // vdst, sdst, vdata or vdst of loads; the mask of comparisons (VCC in VOPC)
  u16 second_dst;  // sdst of VOP3B (carry out, div_scale); operand::vcc where implied by VOP2/VOPC
  // src0, src1, src2; implied ones too: vcc of v_cndmask_b32 and v_addc, dst of v_fmac, the
  // constant of v_madmk and v_madak at its place (operand::literal), the register of SOPK.
  u16 src[3];
  u32 literal;     // word behind code 255, or the K of v_madmk/v_fmaak
  // SOPK and SOPP: sign-extended where the opcode takes it signed; gpr_idx of s_set_gpr_idx_on;
  // truth table of v_bitop3; data and number format (dfmt | nfmt << 4) of MTBUF.
  i32 immediate;
  u32 target;      // of a branch: index of the instruction it goes to

  // VOP3, VOP3P, SDWA; bit n belongs to source n
  u8 negate;
  u8 absolute;
  u8 op_sel;       // bit 3: destination
  u8 op_sel_hi;
  u8 negate_hi;
  bool clamp;
  u8 omod;
  Sdwa sdwa;
  Dpp dpp;

  // MFMA
  u8 cbsz;
  u8 abid;
  u8 blgp;
  bool scaled;         // v_mfma_scale_*: the two fields below hold
  u16 scale_src[2];    // scale operands of A and B
  u8 scale_op_sel;     // bits 0, 1: low bit of the byte of A, of B
  u8 scale_op_sel_hi;  // bits 0, 1: high bit

  // Memory: DS, MUBUF, FLAT, SMEM
  u16 address;     // vaddr (first register), operand::none where there is none ("off")
  u16 data[2];     // vdata of stores and atomics; data0, data1 of DS
  u16 base;        // saddr of global, srsrc of MUBUF, sbase of SMEM
  u16 scalar_offset;  // soffset of MUBUF and SMEM
  i32 offset;      // DS: the two bytes as one 16-bit offset
  u8 offsets[2];   // DS: offset0, offset1
  bool offset_enabled;  // MUBUF offen; SMEM: a constant offset, alone or beside the register
  bool index_enabled;   // MUBUF idxen
  bool to_lds;          // MUBUF lds flag; global_load_lds_* are opcodes of their own
  bool returns;         // sc0 (glc): an atomic returns the old value
  bool system_scope;    // sc1
  bool non_temporal;    // nt
};

}  // namespace aiter_moe::emulator
