// SPDX-License-Identifier: MIT
// All of a code object's text decoded once: kernels call functions of the same text; data between
// them decodes to unknown instructions and is harmless.
#pragma once

#include "common/host.h"
#include "emulator/isa/decode.h"

namespace aiter_moe::emulator {

constexpr u32 no_instruction = ~0u;  // target of a branch to where none begins

// pc values count from the start of the text, which is the executable segment.
struct Code {
  u32 arch;  // 942 or 950
  Instruction* code;
  u32 count;
  u8* text;
  u32 text_bytes;
};

// Words of the text at which functions begin: decoding starts anew there.
class Starts {
 public:
  explicit Starts(u32 words) : words_(words) {
    bits_ = static_cast<u8*>(host_malloc(words / 8 + 1));
    if (bits_ != nullptr) host_memset(bits_, 0, words / 8 + 1);
  }
  ~Starts() { host_free(bits_); }
  Starts(const Starts&) = delete;
  Starts& operator=(const Starts&) = delete;

  bool usable() const { return bits_ != nullptr; }
  void add(u64 offset) {
    if (offset % 4 == 0 && offset / 4 < words_) bits_[offset / 32] |= 1 << (offset / 4 % 8);
  }
  // Bytes from a word to the next start or the end, at most 16.
  u32 available(u32 word) const {
    u32 end = word + 1;
    while (end < words_ && end < word + 4 && !(bits_[end / 8] >> (end % 8) & 1)) ++end;
    return (end - word) * 4;
  }

 private:
  u8* bits_;
  u32 words_;
};

// Notes in `index` the number of the instruction that begins at a word.
inline void decode_words(Code& code, const Starts& starts, const DecodeOptions& options,
                         u32* index) {
  const u32 words = code.text_bytes / 4;
  for (u32 word = 0; word < words;) {
    const Instruction i =
        decode(code.text + u64{word} * 4, starts.available(word), word * 4, options);
    index[word] = code.count;
    code.code[code.count++] = i;
    word += i.bytes / 4;
  }
}

// Turns branch offsets into indices.
inline void aim_branches(Code& code, const u32* index) {
  const i64 words = code.text_bytes / 4;
  for (u32 n = 0; n < code.count; ++n) {
    Instruction& i = code.code[n];
    if (!has_target(i)) continue;
    const i64 word = branch_target(i) / 4;
    i.target = word >= 0 && word < words ? index[word] : no_instruction;
  }
}

// False where memory ran out. The instructions are the caller's to free in any case.
inline bool decode_text(Code& code, const Starts& starts, const DecodeOptions& options) {
  const u32 words = code.text_bytes / 4;
  code.count = 0;
  code.code = static_cast<Instruction*>(host_malloc(u64{words} * sizeof(Instruction)));
  u32* const index = static_cast<u32*>(host_malloc(u64{words} * sizeof(u32)));
  const bool usable = code.code != nullptr && index != nullptr;
  if (usable) {
    host_memset(index, 0xff, u64{words} * sizeof(u32));  // no_instruction
    decode_words(code, starts, options, index);
    aim_branches(code, index);
  }
  host_free(index);
  return usable;
}

// Index of the instruction at a byte offset in the text.
inline u32 index_at(const Code& code, u64 pc) {
  u32 low = 0, high = code.count;
  while (low < high) {
    const u32 middle = low + (high - low) / 2;
    if (code.code[middle].pc < pc)
      low = middle + 1;
    else
      high = middle;
  }
  return low < code.count && code.code[low].pc == pc ? low : no_instruction;
}

}  // namespace aiter_moe::emulator
