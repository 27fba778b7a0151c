// SPDX-License-Identifier: MIT
// How a number of things is shared out evenly.
#pragma once

namespace aiter_moe::cpu {

inline int divided_up(int a, int b) { return (a + b - 1) / b; }

inline int bounded(int x, int least, int most) { return x < least ? least : x > most ? most : x; }

// Share `index` of `shares` in `total` things: consecutive, and sizes differ by at most one.
struct Share {
  int first;
  int count;

  int end() const { return first + count; }
};

inline Share share_of(int total, int shares, int index) {
  const int base = total / shares, extra = total % shares;
  return {index * base + (index < extra ? index : extra), base + (index < extra ? 1 : 0)};
}

}  // namespace aiter_moe::cpu
