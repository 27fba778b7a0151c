// SPDX-License-Identifier: MIT
// Scratch memory of a stage kernel, and its first phase: pack the activations of sorted rows.
// Scratch holds the table of segments, then block after block of packed rows (64-byte aligned).
#pragma once

#include "common/stage_args.h"
#include "cpu/microkernel.h"
#include "cpu/sorted.h"

namespace aiter_moe::cpu {

// Sorting must be done before any of these is asked: sizes follow from the used blocks.
template <class Micro, int BlockM>
struct Scratch {
  static long segment_bytes(const StageArgs& args) {
    const long bytes = static_cast<long>(used_blocks<BlockM>(args)) * sizeof(Segment);
    return (bytes + 63) / 64 * 64;
  }

  static long block_words(const StageArgs& args) {
    return static_cast<long>(BlockM) * Micro::kRowWords * (args.k / kBlock);
  }

  static long bytes(const StageArgs& args) {
    return segment_bytes(args) + used_blocks<BlockM>(args) * block_words(args) * 4;
  }

  static Segment* segments(const StageArgs& args) { return static_cast<Segment*>(args.scratch); }

  // Packed rows of a pass that starts at row `first` of `block`.
  static uint32_t* packed(const StageArgs& args, int block, int first) {
    char* const base = static_cast<char*>(args.scratch) + segment_bytes(args);
    return reinterpret_cast<uint32_t*>(base) + block * block_words(args) +
           static_cast<long>(first) * Micro::kRowWords * (args.k / kBlock);
  }
};

template <class Micro>
RowSource row_source(const StageArgs& args, long row) {
  const char* const values = static_cast<const char*>(args.x);
  const long bytes = static_cast<long>(args.x_stride) * Micro::kActivationBits / 8;
  const uint8_t* const scales =
      args.x_scale == nullptr ? nullptr : args.x_scale + row * args.x_scale_stride;
  return {values + row * bytes, scales};
}

// Number of passes over the valid rows of a block.
template <class Micro>
int pass_count(int rows) {
  return (rows + Micro::kRows - 1) / Micro::kRows;
}

// `Gather` maps a slot to its row of x.
template <class Micro, int BlockM, class Gather>
void pack_block(const StageArgs& args, int block, const Gather& gather) {
  const int valid = valid_rows<BlockM>(args, block);
  const int passes = pass_count<Micro>(valid);
  for (int index = 0; index < passes; ++index) {
    const Pass pass = pass_of(valid, passes, index);
    RowSource rows[Micro::kRows];
    for (int m = 0; m < pass.rows; ++m) {
      const long row = static_cast<long>(block) * BlockM + pass.first + m;
      rows[m] = row_source<Micro>(args, gather(sorted_slot(args, row)));
    }
    Micro::pack(rows, pass.rows, args.k / kBlock,
                Scratch<Micro, BlockM>::packed(args, block, pass.first));
  }
}

// Phase 0 of both stages: items are blocks, and the first one also writes the segment table.
template <class Micro, int BlockM, class Gather>
void run_pack(const StageArgs& args, long begin, long end, const Gather& gather) {
  for (long block = begin; block < end; ++block) {
    if (block == 0) find_segments<BlockM>(args, Scratch<Micro, BlockM>::segments(args));
    pack_block<Micro, BlockM>(args, static_cast<int>(block), gather);
  }
}

// Calls visit(block, pass, packed rows) for every pass over the valid rows of a segment.
template <class Micro, int BlockM, class Visit>
void for_each_pass(const StageArgs& args, const Segment& segment, const Visit& visit) {
  for (int block = segment.block; block < segment.block + segment.blocks; ++block) {
    const int valid = valid_rows<BlockM>(args, block);
    const int passes = pass_count<Micro>(valid);
    for (int index = 0; index < passes; ++index) {
      const Pass pass = pass_of(valid, passes, index);
      const uint32_t* const x = Scratch<Micro, BlockM>::packed(args, block, pass.first);
      visit(static_cast<long>(block) * BlockM + pass.first, pass.rows, x);
    }
  }
}

}  // namespace aiter_moe::cpu
