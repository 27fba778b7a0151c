// SPDX-License-Identifier: MIT
// What follows the operands in assembly text: modifiers, offsets, cache policies.
#pragma once

#include "emulator/isa/text_operands.h"

namespace aiter_moe::emulator::formatting {

inline void write_clamp_omod(TextWriter& out, const Instruction& i) {
  constexpr const char* multipliers[] = {"", " mul:2", " mul:4", " div:2"};
  if (i.clamp) out.text(" clamp");
  out.text(multipliers[i.omod]);
}

// VOP3 lists the bits of the sources, then that of the destination.
inline void write_op_sel(TextWriter& out, const Instruction& i, int sources) {
  if (i.op_sel == 0) return;
  if (i.opcode->traits & trait::long_op_sel) {
    out.bit_list("op_sel", i.op_sel, 4);
    return;
  }
  const u32 of_sources = i.op_sel & ((1u << sources) - 1);
  out.bit_list("op_sel", of_sources | u32{i.op_sel} >> 3 << sources, sources + 1);
}

inline void write_vop3(TextWriter& out, const Instruction& i, const OperandList& list) {
  if (i.opcode->traits & trait::bound) {
    if (i.dpp.bound_control) out.text(" bound_ctrl:1");
    if (i.op_sel & 1) out.text(" fi:1");
    return;
  }
  if ((i.opcode->traits & trait::bitop3) && i.immediate != 0) {
    out.text(" bitop3:");
    if (i.immediate <= 10)
      out.decimal(i.immediate);
    else
      out.hexadecimal(static_cast<u32>(i.immediate));
  }
  write_op_sel(out, i, source_count(list));
  write_clamp_omod(out, i);
}

inline void write_matrix(TextWriter& out, const Instruction& i) {
  if (i.scaled) {
    if (i.scale_op_sel != 0) out.bit_list("op_sel", i.scale_op_sel, 3);
    out.bit_list("op_sel_hi", i.scale_op_sel_hi, 3);
  }
  if (i.cbsz != 0) out.text(" cbsz:").decimal(i.cbsz);
  if (i.abid != 0) out.text(" abid:").decimal(i.abid);
  if (i.blgp == 0) return;
  if (ends_with(i.opcode->name, "_f64"))
    out.bit_list("neg", i.blgp, 3);
  else
    out.text(" blgp:").decimal(i.blgp);
}

inline void write_vop3p(TextWriter& out, const Instruction& i, const OperandList& list) {
  if (i.opcode->kind == Class::mfma) return write_matrix(out, i);
  const int sources = source_count(list);
  const u32 all = (1u << sources) - 1;
  const u32 usual = i.opcode->traits & trait::packed ? all : 0;
  if ((i.op_sel & all) != 0) out.bit_list("op_sel", i.op_sel, sources);
  if ((i.op_sel_hi & all) != usual) out.bit_list("op_sel_hi", i.op_sel_hi, sources);
  if (i.opcode->traits & trait::packed) {
    if (i.negate != 0) out.bit_list("neg_lo", i.negate, sources);
    if (i.negate_hi != 0) out.bit_list("neg_hi", i.negate_hi, sources);
  }
  write_clamp_omod(out, i);
}

inline void write_sdwa(TextWriter& out, const Instruction& i, const OperandList& list) {
  constexpr const char* selections[] = {"BYTE_0", "BYTE_1", "BYTE_2", "BYTE_3",
                                        "WORD_0", "WORD_1", "DWORD"};
  constexpr const char* unused[] = {"UNUSED_PAD", "UNUSED_SEXT", "UNUSED_PRESERVE"};
  write_clamp_omod(out, i);
  if (i.format != Format::vopc) {
    out.text(" dst_sel:").text(selections[i.sdwa.dst_sel]);
    out.text(" dst_unused:").text(unused[i.sdwa.dst_unused]);
  }
  for (int n = 0; n < 2; ++n)
    if (list.has("ab"[n]))
      out.text(" src").decimal(n).text("_sel:").text(selections[i.sdwa.sel[n]]);
}

inline void write_dpp_control(TextWriter& out, u32 control) {
  constexpr const char* amounts[] = {" row_shl:", " row_shr:", " row_ror:"};
  constexpr const char* shifts[] = {" wave_shl:1", " wave_rol:1", " wave_shr:1", " wave_ror:1"};
  constexpr const char* fixed[] = {" row_mirror", " row_half_mirror", " row_bcast:15",
                                   " row_bcast:31"};
  if (control < 0x100) {
    out.text(" quad_perm:[");
    for (int n = 0; n < 4; ++n) out.text(n == 0 ? "" : ",").decimal(control >> 2 * n & 3);
    out.character(']');
  } else if (control < 0x130) {
    out.text(amounts[(control - 0x100) >> 4]).decimal(control & 15);
  } else if (control < 0x140) {
    out.text(shifts[control >> 2 & 3]);
  } else if (control < 0x150) {
    out.text(fixed[control & 3]);
  } else {
    out.text(" row_newbcast:").decimal(control & 15);
  }
}

inline void write_dpp(TextWriter& out, const Instruction& i) {
  write_dpp_control(out, i.dpp.control);
  out.text(" row_mask:").hexadecimal(i.dpp.row_mask);
  out.text(" bank_mask:").hexadecimal(i.dpp.bank_mask);
  if (i.dpp.bound_control) out.text(" bound_ctrl:1");
}

inline void write_ds(TextWriter& out, const Instruction& i) {
  const char* const name = i.opcode->name;
  if (__builtin_strcmp(name, "ds_swizzle_b32") == 0) {
    if (i.offset != 0) write_swizzle(out, static_cast<u32>(i.offset));
  } else if (contains(name, "read2") || contains(name, "write2") || contains(name, "wrxchg2")) {
    for (int n = 0; n < 2; ++n)
      if (i.offsets[n] != 0) out.text(" offset").decimal(n).character(':').decimal(i.offsets[n]);
  } else if (i.offset != 0) {
    out.text(" offset:").decimal(i.offset);
  }
}

// Offset and cache policy of the vector memory encodings.
inline void write_vector_memory(TextWriter& out, const Instruction& i) {
  if (i.format == Format::mtbuf) write_buffer_format(out, static_cast<u32>(i.immediate));
  if (i.index_enabled) out.text(" idxen");
  if (i.offset_enabled) out.text(" offen");
  if (i.offset != 0) out.text(" offset:").decimal(i.offset);
  if (i.returns) out.text(" sc0");
  if (i.non_temporal) out.text(" nt");
  if (i.system_scope) out.text(" sc1");
  if (i.to_lds) out.text(" lds");
}

inline void write_modifiers(TextWriter& out, const Instruction& i, const OperandList& list) {
  switch (i.format) {
    case Format::vop1: case Format::vop2: case Format::vopc:
      if (i.variant == Variant::sdwa) write_sdwa(out, i, list);
      if (i.variant == Variant::dpp) write_dpp(out, i);
      break;
    case Format::vop3: write_vop3(out, i, list); break;
    case Format::vop3p: write_vop3p(out, i, list); break;
    case Format::smem:
      if (i.returns) out.text(" glc");
      break;
    case Format::ds: write_ds(out, i); break;
    case Format::mubuf: case Format::mtbuf: case Format::flat: case Format::global:
    case Format::scratch: write_vector_memory(out, i); break;
    default: break;
  }
}

}  // namespace aiter_moe::emulator::formatting
