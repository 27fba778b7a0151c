// SPDX-License-Identifier: MIT
// A growing array of plain values on malloc. All bytes zero is the empty array, so that static
// ones need no constructor; memory is given back by clear().
#pragma once

#include "common/host.h"
#include "emulator/isa/instruction.h"

namespace aiter_moe::emulator {

template <typename T>
class Array {
 public:
  // False where memory ran out; the array is unchanged then.
  bool append(const T& value) {
    if (!reserve(count_ + 1)) return false;
    items_[count_++] = value;
    return true;
  }

  bool reserve(u64 wanted) {
    if (wanted <= capacity_) return true;
    const u64 capacity = larger(wanted, 2 * capacity_);
    T* grown = static_cast<T*>(host_malloc(capacity * sizeof(T)));
    if (grown == nullptr) return false;
    if (count_ != 0) host_memcpy(grown, items_, count_ * sizeof(T));
    host_free(items_);
    items_ = grown;
    capacity_ = capacity;
    return true;
  }

  // The order of the others stays.
  void remove(u64 at) {
    --count_;
    for (u64 i = at; i < count_; ++i) items_[i] = items_[i + 1];
  }

  void shorten(u64 count) { count_ = count; }

  void clear() {
    host_free(items_);
    items_ = nullptr;
    count_ = capacity_ = 0;
  }

  u64 size() const { return count_; }
  T& operator[](u64 i) { return items_[i]; }
  const T& operator[](u64 i) const { return items_[i]; }
  T* begin() { return items_; }
  T* end() { return items_ + count_; }
  const T* begin() const { return items_; }
  const T* end() const { return items_ + count_; }

 private:
  T* items_;
  u64 count_;
  u64 capacity_;
};

}  // namespace aiter_moe::emulator
