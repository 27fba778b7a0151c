// SPDX-License-Identifier: MIT
// The thread pool: one per process, started on first use and kept; the caller is worker 0.
// A task is a sequence of phases with a barrier between them; the items of a phase are handed
// out by an atomic counter, large chunks first. Results never depend on who runs which item.
#pragma once

#include "cpu/runtime/gate.h"

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

  // Run all phases of `task` on up to `threads` threads; return how many took part, or -1 where
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

  struct alignas(64) Counter {
    long next;
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
    start_.init();
    barrier_.init();
    arrived_ = 0;
    workers_started_ = 0;
  }

  int run_together(const Launch& launch) {
    launches_.lock();
    launch_ = launch;
    start_workers(launch.participants);
    launch_.participants = smaller(launch.participants, workers_started_ + 1);
    const int took_part = launch_.participants;
    for (int phase = 0; phase < launch_.phases; ++phase) counters_[phase].next = 0;
    // The gate carries the number of participants, so that a worker that sits a launch out never
    // reads a launch that is being written.
    start_.publish(static_cast<uint32_t>(took_part));
    take_part(0);
    launches_.unlock();
    return took_part;
  }

  void start_workers(int participants) {
    while (workers_started_ + 1 < participants) {
      Worker& worker = workers_[workers_started_];
      worker.index = workers_started_ + 1;
      worker.seen = start_.word().number;
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
      word = pool_.start_.await_change(word.number, spins());
      if (self.index < static_cast<int>(word.value)) pool_.take_part(self.index);
    }
    return nullptr;
  }

  void take_part(int worker) {
    const DefaultFloats floats;
    inside_ = 1;
    const int last = launch_.phases - 1;
    for (int phase = 0; phase <= last; ++phase) {
      drain(phase, worker);
      // After the last barrier only the caller must wait: the others have nothing to read.
      pass_barrier(phase < last || worker == 0);
    }
    inside_ = 0;
  }

  void drain(int phase, int worker) {
    const long items = launch_.items[phase];
    long* next = &counters_[phase].next;
    long begin = __atomic_load_n(next, __ATOMIC_RELAXED);
    while (begin < items) {
      const long chunk = larger<long>((items - begin) / (4L * launch_.participants), 1);
      if (!__atomic_compare_exchange_n(next, &begin, begin + chunk, false, __ATOMIC_RELAXED,
                                       __ATOMIC_RELAXED)) {
        continue;
      }
      launch_.task.run(launch_.args, phase, begin, begin + chunk, worker);
      begin = __atomic_load_n(next, __ATOMIC_RELAXED);
    }
  }

  void pass_barrier(bool wait) {
    const uint32_t seen = barrier_.word().number;
    // Read before arriving: afterwards the next launch may already be written.
    const int participants = launch_.participants;
    if (__atomic_add_fetch(&arrived_, 1, __ATOMIC_ACQ_REL) == participants) {
      __atomic_store_n(&arrived_, 0, __ATOMIC_RELAXED);
      barrier_.publish(0);
    } else if (wait) {
      barrier_.await_change(seen, spins());
    }
  }

  Mutex launches_;
  Gate start_;
  Gate barrier_;
  alignas(64) int arrived_;
  alignas(64) Launch launch_;
  int workers_started_;
  Counter counters_[kMaxPhases];
  Worker workers_[kMaxThreads];

  static Pool pool_;
  static int ready_pid_;
  static int claim_pid_;
  static int spins_;
  static __thread int inside_;
};

}  // namespace aiter_moe
