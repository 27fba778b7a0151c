// SPDX-License-Identifier: MIT
// Where the bytes of an expert's weight lie on the CPU (Layout.PANEL): panels of 64 columns, each
// one sequential stream. Nothing here knows an instruction set.
//
// A panel is a row of tiles, one per MX block: 64 scale bytes, one per column, then four groups of
// 16 columns with 256 bytes of codes each. A group is four lines of 64 bytes; dword c of line l
// holds column c's eight codes k = 8 l to 8 l + 7, the first in the lowest nibble. Columns are rows
// of the weight; w1's are interleaved, 16 gate, 16 up, so that a panel holds 32 of each.
#pragma once

#include <stdint.h>

#include "common/stage_args.h"

namespace aiter_moe::cpu {

constexpr int kBlock = 32;                             // elements of k that share a scale
constexpr int kGroupColumns = 16;                      // columns of a vector of sums
constexpr int kPanelGroups = 4;
constexpr int kPanelColumns = kPanelGroups * kGroupColumns;
constexpr int kGroupBytes = kGroupColumns * kBlock / 2;
constexpr int kTileBytes = kPanelColumns + kPanelGroups * kGroupBytes;

// The tiles of a panel, or of its part from some block on.
struct Panel {
  const uint8_t* tiles;
};

inline const uint8_t* panel_tile(Panel panel, int block) {
  return panel.tiles + static_cast<long>(block) * kTileBytes;
}

inline const uint8_t* group_codes(const uint8_t* tile, int group) {
  return tile + kPanelColumns + group * kGroupBytes;
}

inline const uint8_t* group_scales(const uint8_t* tile, int group) {
  return tile + group * kGroupColumns;
}

// Panel `index` of `expert`; those of an expert lie one after the other.
inline Panel panel_of(const StageArgs& args, int expert, int index) {
  const long panels = args.w_rows / kPanelColumns;
  const long tiles = args.w_k / kBlock;
  return {args.w + (expert * panels + index) * tiles * kTileBytes};
}

}  // namespace aiter_moe::cpu
