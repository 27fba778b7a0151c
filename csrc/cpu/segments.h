// SPDX-License-Identifier: MIT
// How the rows of experts are shared out: an expert's rows become passes of the micro-kernel, all
// of about the same size, and consecutive passes a segment, which one work item computes.
#pragma once

#include "cpu/share.h"
#include "cpu/sorted.h"

namespace aiter_moe::cpu {

// Rows of one expert that meet a panel of its weight, in so many passes of the micro-kernel.
struct Segment {
  int expert;
  int row;      // first sorted row
  int rows;
  int passes;
  int rows_before;     // of the segments before it
  int passes_before;

  Share pass(int index) const { return share_of(rows, passes, index); }
};

// All segments in sorted order, `entries` behind it.
struct alignas(64) Segments {
  int count;
  int rows;
  int passes;

  Segment* entries() { return reinterpret_cast<Segment*>(this + 1); }
  const Segment* entries() const { return reinterpret_cast<const Segment*>(this + 1); }

  void append(int expert, int row, int count_of_rows, int count_of_passes) {
    entries()[count++] = {expert, row, count_of_rows, count_of_passes, rows, passes};
    rows += count_of_rows;
    passes += count_of_passes;
  }
};

// Cuts the rows of experts into segments.
class Cutter {
 public:
  // What the packed rows of a segment may take of the second cache, beside two panels.
  static constexpr int kSegmentBytes = 512 * 1024;
  static constexpr int kSegmentBlocks = 4;

  // Most rows of a segment whose packed rows have `row_bytes` each: as many as block_m says, as far
  // as the cache allows.
  static int most_rows(const StageArgs& args, int row_bytes) {
    return bounded(kSegmentBytes / row_bytes, 1, kSegmentBlocks * args.block_m);
  }

  // `pass_rows`: most rows of a pass.
  Cutter(const StageArgs& args, int pass_rows, int row_bytes) : args_(args) {
    const int rows = most_rows(args, row_bytes);
    pass_rows_ = rows < pass_rows ? rows : pass_rows;
    segment_passes_ = rows / pass_rows_;
  }

  void cut(Segments& to) const {
    const int blocks = used_blocks(args_);
    to = {};
    for (int block = 0, next; block < blocks; block = next) {
      const int expert = args_.sorted_expert_ids[block];
      for (next = block + 1; next < blocks && args_.sorted_expert_ids[next] == expert;) ++next;
      const int rows = (next - 1 - block) * args_.block_m + valid_rows(args_, next - 1);
      cut_expert(expert, block * args_.block_m, rows, to);
    }
  }

 private:
  void cut_expert(int expert, int row, int rows, Segments& to) const {
    const int passes = divided_up(rows, pass_rows_);
    const int segments = divided_up(passes, segment_passes_);
    for (int index = 0; index < segments; ++index) {
      const Share mine = share_of(passes, segments, index);
      const int begin = share_of(rows, passes, mine.first).first;
      const int end = share_of(rows, passes, mine.end() - 1).end();
      to.append(expert, row + begin, end - begin, mine.count);
    }
  }

  const StageArgs& args_;
  int pass_rows_;
  int segment_passes_;
};

// The segment that holds pass `pass`, by bisection.
inline int segment_of_pass(const Segments& segments, int pass) {
  int low = 0, high = segments.count - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (segments.entries()[middle].passes_before <= pass) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

}  // namespace aiter_moe::cpu
