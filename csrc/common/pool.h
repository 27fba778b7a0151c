// SPDX-License-Identifier: MIT
// The thread pool: one per process, started on first use and kept; the caller is worker 0.
// A task is a sequence of phases; a phase starts when all items of the one before have run. Items
// are handed out by an atomic counter, large chunks first; who comes late finds less to do, and
// nobody waits for a thread that has not come at all. Results never depend on who runs which item.
#pragma once

#include "common/gate.h"

namespace aiter_moe {

// The entry points of a task, laid out as the exported symbols of a kernel artifact.
struct Task {
  int (*phases)(const void* args);
  long (*items)(const void* args, int phase);
  void (*run)(const void* args, int phase, long begin, long end, int worker);
};

class Pool {
 public:
  static constexpr int kMaxThreads = 1024;
  static constexpr int kMaxPhases = 8;

  // Run all phases of `task` on up to `threads` threads; return how many were asked, or -1 where
  // the task has more phases than a pool takes. `items` must depend on `args` alone.
  static int run(const Task& task, const void* args, int threads) {
    Launch launch{};
    if (!launch.describe(task, args, threads)) return -1;
    if (launch.participants == 1 || inside_ != 0) {
      run_alone(launch);
      return 1;
    }
    return instance().run_together(launch);
  }

  static void set_spins(int spins) { __atomic_store_n(&spins_, spins, __ATOMIC_RELAXED); }

 private:
  struct Launch {
    Task task;
    const void* args;
    int phases;
    int participants;
    long items[kMaxPhases];

    bool describe(const Task& what, const void* with, int threads) {
      task = what;
      args = with;
      phases = task.phases(args);
      if (phases > kMaxPhases) return false;
      long most = 1;
      for (int phase = 0; phase < phases; ++phase) {
        items[phase] = task.items(args, phase);
        most = larger(most, items[phase]);
      }
      participants = static_cast<int>(smaller<long>(smaller(threads, kMaxThreads), most));
      participants = larger(participants, 1);
      return true;
    }
  };

  struct Worker {
    uint32_t seen;
    int index;
  };

  static int spins() { return __atomic_load_n(&spins_, __ATOMIC_RELAXED); }

  static void run_alone(const Launch& launch) {
    const DefaultFloats floats;
    for (int phase = 0; phase < launch.phases; ++phase) {
      if (launch.items[phase] > 0) {
        launch.task.run(launch.args, phase, 0, launch.items[phase], 0);
      }
    }
  }

  // The pool of this process. A child of fork has its parent's memory but none of its threads,
  // and locks may be held by threads it does not have: it starts from scratch.
  static Pool& instance() {
    const int pid = host_getpid();
    if (__atomic_load_n(&ready_pid_, __ATOMIC_ACQUIRE) == pid) return pool_;
    int claim = __atomic_load_n(&claim_pid_, __ATOMIC_ACQUIRE);
    if (claim != pid && __atomic_compare_exchange_n(&claim_pid_, &claim, pid, false,
                                                    __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
      pool_.init();
      __atomic_store_n(&ready_pid_, pid, __ATOMIC_RELEASE);
    }
    while (__atomic_load_n(&ready_pid_, __ATOMIC_ACQUIRE) != pid) host_yield();
    return pool_;
  }

  void init() {
    launches_.init();
    opened_.init();
    left_.init();
    visitors_ = 0;
    workers_started_ = 0;
  }

  int run_together(const Launch& launch) {
    launches_.lock();
    start_workers(launch.participants);
    const int participants = smaller(launch.participants, workers_started_ + 1);
    for (int phase = 0; phase < launch.phases; ++phase) run_phase(launch, phase, participants);
    launches_.unlock();
    return participants;
  }

  void run_phase(const Launch& launch, int phase, int participants) {
    if (launch.items[phase] <= 0) return;
    task_ = launch.task;
    args_ = launch.args;
    phase_ = phase;
    items_ = launch.items[phase];
    shares_ = 4L * participants;
    __atomic_store_n(&next_, 0, __ATOMIC_RELAXED);
    if (items_ > 1) open(participants);
    drain(0);
    if (items_ > 1) close();
  }

  // `visitors_` is the number of the open phase in the upper half and, in the lower, how many
  // workers are at it. A worker only touches the phase between enter and leave, and the caller
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

  void start_workers(int participants) {
    while (workers_started_ + 1 < participants) {
      Worker& worker = workers_[workers_started_];
      worker.index = workers_started_ + 1;
      worker.seen = opened_.word().number;
      uintptr_t thread = 0;
      if (host_thread_create(&thread, nullptr, &worker_main, &worker) != 0) return;
      host_thread_detach(thread);
      ++workers_started_;
    }
  }

  static void* worker_main(void* argument) {
    const Worker self = *static_cast<Worker*>(argument);
    Gate::Word word{self.seen, 0};
    for (;;) {
      word = pool_.opened_.await_change(word.number, spins());
      if (self.index >= static_cast<int>(word.value) || !pool_.enter(word.number)) continue;
      pool_.drain(self.index);
      pool_.leave();
    }
    return nullptr;
  }

  void drain(int worker) {
    const DefaultFloats floats;
    inside_ = 1;
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
    inside_ = 0;
  }

  static constexpr uint64_t kVisitors = 0xFFFFFFFFu;
  static constexpr uint64_t kClosed = 0;

  Mutex launches_;
  Gate opened_;  // a phase has started; its value is the number of participants
  Gate left_;    // the last worker at a phase has left
  alignas(64) uint64_t visitors_;
  alignas(64) long next_;
  alignas(64) Task task_;
  const void* args_;
  int phase_;
  long items_;
  long shares_;
  int workers_started_;
  Worker workers_[kMaxThreads];

  static Pool pool_;
  static int ready_pid_;
  static int claim_pid_;
  static int spins_;
  static __thread int inside_;
};

}  // namespace aiter_moe
