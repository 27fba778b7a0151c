// SPDX-License-Identifier: MIT
// One piece of memory cut into parts, each on cache lines of its own.
#pragma once

#include "common/host.h"

namespace aiter_moe {

class Arena {
 public:
  static constexpr long kLine = 64;

  // `memory` on a cache line; or null, to find out how much is needed.
  explicit Arena(void* memory) : base_(static_cast<char*>(memory)), used_(0), most_(0) {}

  template <typename T>
  T* take(long count) {
    char* const part = base_ + used_;
    used_ += (count * static_cast<long>(sizeof(T)) + kLine - 1) / kLine * kLine;
    most_ = larger(most_, used_);
    return reinterpret_cast<T*>(part);
  }

  // Give everything back that was taken since used() was `mark`.
  void rewind(long mark) { used_ = mark; }

  long used() const { return used_; }

  // Bytes that were in use at once.
  long most() const { return most_; }

 private:
  char* base_;
  long used_;
  long most_;
};

}  // namespace aiter_moe
