// SPDX-License-Identifier: MIT
// A leader and helpers that work on one phase of a task at a time. Items are handed out by an
// atomic counter, large chunks first; who comes late finds less to do, and the leader never waits
// for a helper that has not come. Where helpers come from is not known here.
#pragma once

#include "common/gate.h"

namespace aiter_moe {

// The entry points of a task, laid out as the exported symbols of a kernel artifact. `items` of a
// phase is asked once, when all phases before it are over: 0 leaves the phase out, and a single
// item runs on the leader alone, at no cost beside its work.
struct Task {
  int (*phases)(const void* args);
  long (*items)(const void* args, int phase);
  void (*run)(const void* args, int phase, long begin, long end, int worker);
};

class Crew {
 public:
  void init() {
    opened_.init();
    left_.init();
    visitors_ = kClosed;
  }

  // By the leader, worker 0: run phases from `phase` on, the first of which has `items`; return
  // how many workers the phase with most could use.
  int lead(const Task& task, const void* args, int phase, long items, int threads) {
    const int phases = task.phases(args);
    int most = 1;
    for (;;) {
      const int participants = static_cast<int>(smaller<long>(threads, items));
      most = larger(most, participants);
      if (participants > 1) run_phase(task, args, phase, items, participants);
      if (participants == 1) run_alone(task, args, phase, items);
      if (++phase >= phases) return most;
      items = task.items(args, phase);
    }
  }

  // Send helpers home that came by `help_until_dismissed`.
  void dismiss() { opened_.publish(0); }

  // What a helper has seen so far; to be read before the leader starts.
  uint32_t seen() const { return opened_.word().number; }

  // By a helper: work on every phase that wants so many. `worker` is its number, from 1 on.
  void help_until_dismissed(uint32_t seen, int worker, int spins) {
    for (;;) {
      const Gate::Word word = opened_.await_change(seen, spins);
      if (word.value == 0) return;
      help(word, worker);
      seen = word.number;
    }
  }

  // The same until the next phase is over.
  uint32_t help_once(uint32_t seen, int worker, int spins) {
    const Gate::Word word = opened_.await_change(seen, spins);
    help(word, worker);
    return word.number;
  }

  // Whether the calling thread works for some crew.
  static bool inside() { return inside_ != 0; }

  static void set_spins(int spins) { __atomic_store_n(&spins_, spins, __ATOMIC_RELAXED); }

  static int spins() { return __atomic_load_n(&spins_, __ATOMIC_RELAXED); }

  // A phase by the calling thread alone.
  static void run_alone(const Task& task, const void* args, int phase, long items) {
    const AtWork work;
    task.run(args, phase, 0, items, 0);
  }

 private:
  // While items run: IEEE default arithmetic, and launches from inside stay on their thread.
  struct AtWork {
    AtWork() : outer(inside_) { inside_ = 1; }
    ~AtWork() { inside_ = outer; }
    const DefaultFloats floats;
    const int outer;
  };

  void run_phase(const Task& task, const void* args, int phase, long items, int participants) {
    task_ = task;
    args_ = args;
    phase_ = phase;
    items_ = items;
    shares_ = 4L * participants;
    __atomic_store_n(&next_, 0, __ATOMIC_RELAXED);
    open(participants);
    drain(0);
    close();
  }

  // `visitors_` is the number of the open phase in the upper half and, in the lower, how many
  // helpers are at it. A helper only touches the phase between enter and leave, and the leader
  // only changes it when it has closed it with nobody inside.
  void open(int participants) {
    const uint64_t number = opened_.word().number + 1;
    __atomic_store_n(&visitors_, number << 32, __ATOMIC_RELEASE);
    opened_.publish(static_cast<uint32_t>(participants));
  }

  void close() {
    for (;;) {
      const uint32_t seen = left_.word().number;
      uint64_t nobody = __atomic_load_n(&visitors_, __ATOMIC_ACQUIRE) & ~kVisitors;
      if (__atomic_compare_exchange_n(&visitors_, &nobody, kClosed, false, __ATOMIC_ACQ_REL,
                                      __ATOMIC_ACQUIRE)) {
        return;
      }
      left_.await_change(seen, spins());
    }
  }

  void help(Gate::Word word, int worker) {
    if (worker >= static_cast<int>(word.value) || !enter(word.number)) return;
    drain(worker);
    leave();
  }

  bool enter(uint32_t number) {
    uint64_t now = __atomic_load_n(&visitors_, __ATOMIC_ACQUIRE);
    while (now >> 32 == number && now != kClosed) {
      if (__atomic_compare_exchange_n(&visitors_, &now, now + 1, false, __ATOMIC_ACQ_REL,
                                      __ATOMIC_ACQUIRE)) {
        return true;
      }
    }
    return false;
  }

  void leave() {
    const uint64_t now = __atomic_sub_fetch(&visitors_, 1, __ATOMIC_ACQ_REL);
    if ((now & kVisitors) == 0) left_.publish(0);
  }

  void drain(int worker) {
    const AtWork work;
    long begin = __atomic_load_n(&next_, __ATOMIC_RELAXED);
    while (begin < items_) {
      const long chunk = larger<long>((items_ - begin) / shares_, 1);
      if (!__atomic_compare_exchange_n(&next_, &begin, begin + chunk, false, __ATOMIC_RELAXED,
                                       __ATOMIC_RELAXED)) {
        continue;
      }
      task_.run(args_, phase_, begin, begin + chunk, worker);
      begin = __atomic_load_n(&next_, __ATOMIC_RELAXED);
    }
  }

  static constexpr uint64_t kVisitors = 0xFFFFFFFFu;
  static constexpr uint64_t kClosed = 0;

  Gate opened_;  // a phase has started; its value is the number of participants, 0: dismissed
  Gate left_;    // the last helper at a phase has left
  alignas(64) uint64_t visitors_;
  alignas(64) long next_;
  alignas(64) Task task_;
  const void* args_;
  int phase_;
  long items_;
  long shares_;

  static inline int spins_ = 2000;
  static inline __thread int inside_ = 0;
};

}  // namespace aiter_moe
