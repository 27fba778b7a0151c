// SPDX-License-Identifier: MIT
// A word that threads wait on until it changes: they spin for a moment, then sleep.
#pragma once

#include "common/host.h"

namespace aiter_moe {

class Gate {
 public:
  // What is published: a number that grows by one each time, and a value that goes with it.
  struct alignas(8) Word {
    uint32_t number;
    uint32_t value;
  };

  void init() {
    store({0, 0});
    __atomic_store_n(&sleepers_, 0, __ATOMIC_RELAXED);
  }

  Word word() const {
    Word now;
    __atomic_load(&word_, &now, __ATOMIC_SEQ_CST);
    return now;
  }

  // Make the next word visible with everything written before it, and wake who sleeps.
  void publish(uint32_t value) {
    store({word().number + 1, value});
    // Either this sees the sleeper's count, or the sleeper sees the new number: both sides store
    // first and load second, in one total order.
    if (__atomic_load_n(&sleepers_, __ATOMIC_SEQ_CST) != 0) futex_wake_all(&word_.number);
  }

  // Return the first word whose number is not `seen`, after at most `spins` pauses awake.
  Word await_change(uint32_t seen, int spins) {
    for (int i = 0; i < spins; ++i) {
      const Word now = word();
      if (now.number != seen) return now;
      pause_briefly();
    }
    return sleep_until_change(seen);
  }

 private:
  void store(Word word) { __atomic_store(&word_, &word, __ATOMIC_SEQ_CST); }

  __attribute__((noinline)) Word sleep_until_change(uint32_t seen) {
    __atomic_add_fetch(&sleepers_, 1, __ATOMIC_SEQ_CST);
    Word now = word();
    while (now.number == seen) {
      futex_wait(&word_.number, seen);
      now = word();
    }
    __atomic_sub_fetch(&sleepers_, 1, __ATOMIC_SEQ_CST);
    return now;
  }

  alignas(64) Word word_;
  unsigned int sleepers_;
};

}  // namespace aiter_moe
