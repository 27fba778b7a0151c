// SPDX-License-Identifier: MIT
// Operands as assembly text: registers, constants, immediates with a meaning of their own.
#pragma once

#include "emulator/isa/encoding.h"
#include "emulator/isa/text_writer.h"

namespace aiter_moe::emulator::formatting {

// A register or a tuple: `v7`, `s[2:3]`.
inline void write_range(TextWriter& out, const char* file, u32 first, u32 width) {
  out.text(file);
  if (width <= 1) {
    out.decimal(first);
  } else {
    out.character('[').decimal(first).character(':').decimal(first + width - 1).character(']');
  }
}

struct NamedPair {
  u16 code;
  const char* name;
};
constexpr NamedPair named_pairs[] = {{operand::flat_scratch, "flat_scratch"},
                                     {operand::xnack_mask, "xnack_mask"},
                                     {operand::vcc, "vcc"},
                                     {operand::exec, "exec"}};

// Scalar registers behind s101.
inline void write_special_register(TextWriter& out, u32 code, u32 width) {
  if (code == operand::m0) {
    out.text("m0");
    return;
  }
  if (code >= operand::ttmp0 && code < operand::m0)
    return write_range(out, "ttmp", code - operand::ttmp0, width);
  for (const NamedPair& pair : named_pairs) {
    if ((code & ~1u) != pair.code) continue;
    out.text(pair.name);
    if (width == 1) out.text(code & 1 ? "_hi" : "_lo");
  }
}

inline void write_register(TextWriter& out, u32 code, u32 width) {
  if (code >= operand::a0) return write_range(out, "a", code - operand::a0, width);
  if (code >= operand::v0) return write_range(out, "v", code - operand::v0, width);
  if (code < operand::flat_scratch) return write_range(out, "s", code, width);
  write_special_register(out, code, width);
}

constexpr bool is_register(u32 code) { return code >= operand::v0 || code < operand::scalars; }

constexpr const char* float_names[] = {"0.5", "-0.5", "1.0", "-1.0", "2.0", "-2.0", "4.0", "-4.0"};

inline const char* status_name(u32 code) {
  switch (code) {
    case operand::shared_base: return "src_shared_base";
    case operand::shared_limit: return "src_shared_limit";
    case operand::private_base: return "src_private_base";
    case operand::private_limit: return "src_private_limit";
    case operand::vccz: return "src_vccz";
    case operand::execz: return "src_execz";
    default: return "src_scc";
  }
}

constexpr bool is_status(u32 code) {
  return (code >= operand::shared_base && code <= operand::private_limit) ||
         (code >= operand::vccz && code <= operand::scc);
}

constexpr u32 float_words[] = {0x3f000000, 0xbf000000, 0x3f800000, 0xbf800000,
                               0x40000000, 0xc0000000, 0x40800000, 0xc0800000, 0x3e22f983};

// The source code of a 32-bit constant that needs no literal; operand::literal for others.
constexpr u32 inline_code(u32 word) {
  if (word <= 64) return operand::zero + word;
  if (word >= 0xfffffff0) return operand::minus_one - 1 - word;  // modulo 2^32
  for (u32 n = 0; n < 9; ++n)
    if (float_words[n] == word) return operand::half + n;
  return operand::literal;
}

// A literal that says what an inline constant could have said is marked as one.
inline void write_literal(TextWriter& out, u32 word) {
  const bool marked = inline_code(word) != operand::literal;
  if (marked) out.text("lit(");
  out.hexadecimal(word);
  if (marked) out.character(')');
}

// A source: a register or a constant. `literal` is the word behind code 255.
inline void write_source(TextWriter& out, u32 code, u32 width, u32 literal) {
  if (is_register(code)) return write_register(out, code, width);
  if (code <= 208) {
    out.decimal(code < operand::minus_one ? i64{code} - operand::zero
                                          : i64{operand::minus_one} - 1 - code);
  } else if (is_status(code)) {
    out.text(status_name(code));
  } else if (code == operand::literal) {
    write_literal(out, literal);
  } else if (code == operand::inverse_two_pi) {
    out.text(width == 2 ? "0.15915494309189532" : "0.15915494");
  } else {
    out.text(float_names[code - operand::half]);
  }
}

struct NumberName {
  u32 number;
  const char* name;
};

inline const char* name_of(const NumberName* names, u32 count, u32 number) {
  for (u32 n = 0; n < count; ++n)
    if (names[n].number == number) return names[n].name;
  return nullptr;
}

constexpr NumberName hardware_registers[] = {
    {1, "MODE"}, {2, "STATUS"}, {3, "TRAPSTS"}, {4, "HW_ID"}, {5, "GPR_ALLOC"},
    {6, "LDS_ALLOC"}, {7, "IB_STS"}, {15, "SH_MEM_BASES"}, {16, "TBA_LO"}, {17, "TBA_HI"},
    {18, "TMA_LO"}, {19, "TMA_HI"}, {20, "XCC_ID"}, {21, "SQ_PERF_SNAPSHOT_DATA"},
    {22, "SQ_PERF_SNAPSHOT_DATA1"}, {23, "SQ_PERF_SNAPSHOT_PC_LO"},
    {24, "SQ_PERF_SNAPSHOT_PC_HI"}};

// hwreg(name[, offset, size]) of s_getreg and s_setreg.
inline void write_hardware_register(TextWriter& out, u32 value) {
  const u32 number = bits(value, 5, 0), offset = bits(value, 10, 6), size = bits(value, 15, 11) + 1;
  constexpr u32 count = sizeof hardware_registers / sizeof hardware_registers[0];
  const char* const name = name_of(hardware_registers, count, number);
  out.text("hwreg(");
  if (name != nullptr)
    out.text("HW_REG_").text(name);
  else
    out.decimal(number);
  if (offset != 0 || size != 32) out.text(", ").decimal(offset).text(", ").decimal(size);
  out.character(')');
}

// The counters of s_waitcnt that wait for something; all where none does.
inline void write_waits(TextWriter& out, u32 value) {
  const u32 vm = bits(value, 3, 0) | bits(value, 15, 14) << 4, exports = bits(value, 6, 4),
            lgkm = bits(value, 11, 8);
  const bool all = vm == 63 && exports == 7 && lgkm == 15;
  const char* space = "";
  const auto counter = [&](const char* name, u32 count, u32 most) {
    if (count == most && !all) return;
    out.text(space).text(name).character('(').decimal(count).character(')');
    space = " ";
  };
  counter("vmcnt", vm, 63);
  counter("expcnt", exports, 7);
  counter("lgkmcnt", lgkm, 15);
}

constexpr NumberName messages[] = {
    {1, "MSG_INTERRUPT"}, {4, "MSG_SAVEWAVE"}, {5, "MSG_STALL_WAVE_GEN"}, {6, "MSG_HALT_WAVES"},
    {7, "MSG_ORDERED_PS_DONE"}, {9, "MSG_GS_ALLOC_REQ"}, {10, "MSG_GET_DOORBELL"}};

// Messages of compute by name; graphics' ones, which have operations, in numbers.
inline void write_message(TextWriter& out, u32 value) {
  constexpr u32 count = sizeof messages / sizeof messages[0];
  const char* const name = name_of(messages, count, value);
  out.text("sendmsg(");
  if (name != nullptr) {
    out.text(name);
  } else {
    out.decimal(bits(value, 3, 0)).text(", ").decimal(bits(value, 6, 4));
    out.text(", ").decimal(bits(value, 9, 8));
  }
  out.character(')');
}

inline void write_index_mode(TextWriter& out, u32 value) {
  constexpr const char* names[] = {"SRC0", "SRC1", "SRC2", "DST"};
  out.text("gpr_idx(");
  const char* comma = "";
  for (int n = 0; n < 4; ++n) {
    if (!(value >> n & 1)) continue;
    out.text(comma).text(names[n]);
    comma = ",";
  }
  out.character(')');
}

// How the bits of a lane's number change under a mask: kept (p), inverted (i) or fixed.
inline void write_bitmask(TextWriter& out, u32 kept, u32 set, u32 flipped) {
  const u32 of_zeros = set ^ flipped, of_ones = (kept | set) ^ flipped;
  out.text("BITMASK_PERM,\"");
  for (int n = 4; n >= 0; --n) {
    const u32 from_zero = of_zeros >> n & 1, from_one = of_ones >> n & 1;
    out.character("0ip1"[from_zero + 2 * from_one]);
  }
  out.character('"');
}

constexpr bool is_power_of_two(u32 value) { return value != 0 && (value & (value - 1)) == 0; }

inline void write_lane_mask(TextWriter& out, u32 value) {
  const u32 kept = bits(value, 4, 0), set = bits(value, 9, 5), flipped = bits(value, 14, 10);
  const u32 group = 32 - kept;
  if (kept == 31 && set == 0 && is_power_of_two(flipped))
    out.text("SWAP,").decimal(flipped);
  else if (kept == 31 && set == 0 && flipped != 0 && is_power_of_two(flipped + 1))
    out.text("REVERSE,").decimal(flipped + 1);
  else if (group > 1 && is_power_of_two(group) && set < group && flipped == 0)
    out.text("BROADCAST,").decimal(group).character(',').decimal(set);
  else
    write_bitmask(out, kept, set, flipped);
}

// The pattern of ds_swizzle_b32.
inline void write_swizzle(TextWriter& out, u32 value) {
  const bool is_quad = (value & 0xff00) == 0x8000, is_rotation = (value & 0xe000) == 0xc000;
  out.text(" offset:");
  if ((value & 0x8000) != 0 && value < 0xe000 && !is_quad && !is_rotation) {
    out.decimal(value);
    return;
  }
  out.text("swizzle(");
  if (value >= 0xe000) {
    out.text("FFT,").decimal(value & 31);
  } else if (is_quad) {
    out.text("QUAD_PERM");
    for (int n = 0; n < 4; ++n) out.character(',').decimal(value >> 2 * n & 3);
  } else if (is_rotation) {
    out.text("ROTATE,").decimal(value >> 10 & 1).character(',').decimal(value >> 5 & 31);
  } else {
    write_lane_mask(out, value);
  }
  out.character(')');
}

constexpr const char* data_formats[] = {
    "INVALID", "8", "16", "8_8", "32", "16_16", "10_11_11", "11_11_10", "10_10_10_2",
    "2_10_10_10", "8_8_8_8", "32_32", "16_16_16_16", "32_32_32", "32_32_32_32", "RESERVED_15"};
constexpr const char* number_formats[] = {"UNORM", "SNORM", "USCALED", "SSCALED",
                                          "UINT", "SINT", "RESERVED_6", "FLOAT"};

inline void write_buffer_format(TextWriter& out, u32 value) {
  constexpr u32 default_data = 1, default_number = 0;
  const u32 data = value & 15, number = value >> 4;
  if (data == default_data && number == default_number) return;
  out.text(" format:[");
  if (data != default_data || number == default_number)
    out.text("BUF_DATA_FORMAT_").text(data_formats[data]);
  if (data != default_data && number != default_number) out.character(',');
  if (number != default_number) out.text("BUF_NUM_FORMAT_").text(number_formats[number]);
  out.character(']');
}

}  // namespace aiter_moe::emulator::formatting
