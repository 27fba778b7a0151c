// SPDX-License-Identifier: MIT
// A segment of rows times a range of panels: panels outermost, so that each stays in the second
// cache for all passes over it, and is read from memory while the one before is still computed.
#pragma once

#include "cpu/microkernel.h"
#include "cpu/scratch.h"

namespace aiter_moe::cpu {

// What a work item does with one expert.
struct Product {
  Segment segment;
  Share panels;
  BlockRange blocks;
  int groups;             // of all panels of the expert
  const uint32_t* packed; // where the segment's rows begin
  const uint8_t* next;    // tiles the same worker reads afterwards, or null
};

// Sums of a pass with one panel: [group][row][16].
struct PassSums {
  int row;                // first sorted row
  int rows;
  int panel;
  int groups;
  const float* sums;

  const float* of(int group, int m) const { return sums + (group * rows + m) * kLanes; }
};

// Panels of a work item: as many as args.columns says, unless that leaves some threads without
// work. `all`: panels of all segments together.
inline int panels_of_item(const StageArgs& args, int asked, long all) {
  constexpr int kItemsPerThread = 4;
  const long fair = all / (kItemsPerThread * args.threads);
  return fair >= asked ? asked : bounded(static_cast<int>(fair), 1, asked);
}

inline const uint8_t* tiles_of(const StageArgs& args, int expert, int panel, BlockRange blocks) {
  return panel_tile(panel_of(args, expert, panel), blocks.begin);
}

inline const uint8_t* first_tiles(const StageArgs& args, const Product& product) {
  return tiles_of(args, product.segment.expert, product.panels.first, product.blocks);
}

// Calls take(sums) for every panel and every pass.
template <class Micro, class Take>
void multiply(const StageArgs& args, const Product& product, const Take& take) {
  alignas(64) float sums[kPanelGroups * Micro::kRows * kLanes];
  const Segment& segment = product.segment;
  const BlockRange blocks = product.blocks;
  for (int j = product.panels.first; j < product.panels.end(); ++j) {
    const Panel panel = panel_of(args, segment.expert, j);
    const bool last_panel = j + 1 == product.panels.end();
    const uint8_t* const after =
        last_panel ? product.next : tiles_of(args, segment.expert, j + 1, blocks);
    const int groups = bounded(product.groups - j * kPanelGroups, 0, kPanelGroups);
    for (int index = 0; index < segment.passes; ++index) {
      const Share pass = segment.pass(index);
      const uint32_t* const x = product.packed +
                                static_cast<long>(pass.first) * Scratch<Micro>::row_words(args) +
                                Micro::words(pass.count, blocks.begin);
      const uint8_t* const next = index + 1 == segment.passes ? after : nullptr;
      Micro::multiply(panel, next, args.ahead, blocks, x, pass.count, groups, sums);
      take(PassSums{segment.row + pass.first, pass.count, j, groups, sums});
    }
  }
}

}  // namespace aiter_moe::cpu
