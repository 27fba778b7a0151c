// SPDX-License-Identifier: MIT
// Runs a task's phases over threads: those somebody lends (torch's OpenMP team, whose threads
// already own the CPUs), else the pool's own, one pool per process, started on first use and kept.
// The caller is worker 0, and takes leading phases of a single item before it calls anybody.
// Results never depend on who runs which item.
#pragma once

#include "common/crew.h"

namespace aiter_moe {

// The entry points of an OpenMP library, whichever compiler it is of.
struct Team {
  void (*parallel)(void (*body)(void*), void* data, unsigned threads, unsigned flags);
  int (*thread_number)();
  int (*in_parallel)();
};

class Pool {
 public:
  static constexpr int kMaxThreads = 1024;

  // Run all phases of `task` on up to `threads` threads; return how many could take part.
  static int run(const Task& task, const void* args, int threads) {
    const int phases = task.phases(args);
    const bool alone = threads <= 1 || Crew::inside();
    for (int phase = 0; phase < phases; ++phase) {
      const long items = task.items(args, phase);
      if (items > 1 && !alone) {
        return instance().run_together({task, args, phase, items, smaller(threads, kMaxThreads)});
      }
      if (items > 0) Crew::run_alone(task, args, phase, items);
    }
    return 1;
  }

  static void set_spins(int spins) { Crew::set_spins(spins); }

  // Let launches of exactly `threads` threads run on `team`, in this process; 0: none any more.
  // Waits for a launch of another thread, which may just be calling the team.
  static void lend(const Team& team, int threads) {
    Pool& pool = instance();
    pool.launches_.lock();
    lent_ = team;
    team_pid_ = pool.pid_;
    team_threads_ = threads;
    pool.launches_.unlock();
  }

 private:
  // A task from its first phase of several items on.
  struct Launch {
    Task task;
    const void* args;
    int phase;
    long items;
    int threads;
  };

  struct Worker {
    uint32_t seen;
    int index;
  };

  // The pool of this process. A child of fork has its parent's memory but none of its threads,
  // and locks may be held by threads it does not have: it starts from scratch.
  static Pool& instance() {
    const int pid = host_getpid();
    if (__atomic_load_n(&ready_pid_, __ATOMIC_ACQUIRE) == pid) return pool_;
    int claim = __atomic_load_n(&claim_pid_, __ATOMIC_ACQUIRE);
    if (claim != pid && __atomic_compare_exchange_n(&claim_pid_, &claim, pid, false,
                                                    __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
      pool_.init(pid);
      __atomic_store_n(&ready_pid_, pid, __ATOMIC_RELEASE);
    }
    while (__atomic_load_n(&ready_pid_, __ATOMIC_ACQUIRE) != pid) host_yield();
    return pool_;
  }

  void init(int pid) {
    launches_.init();
    own_.init();
    borrowed_.init();
    pid_ = pid;
    workers_started_ = 0;
  }

  int run_together(const Launch& launch) {
    launches_.lock();
    const int most = borrows(launch.threads) ? run_borrowed(launch) : run_own(launch);
    launches_.unlock();
    return most;
  }

  int run_own(const Launch& launch) {
    start_workers(launch.threads);
    const int threads = smaller(launch.threads, workers_started_ + 1);
    return own_.lead(launch.task, launch.args, launch.phase, launch.items, threads);
  }

  void start_workers(int participants) {
    while (workers_started_ + 1 < participants) {
      Worker& worker = workers_[workers_started_];
      worker.index = workers_started_ + 1;
      worker.seen = own_.seen();
      uintptr_t thread = 0;
      if (host_thread_create(&thread, nullptr, &worker_main, &worker) != 0) return;
      host_thread_detach(thread);
      ++workers_started_;
    }
  }

  static void* worker_main(void* argument) {
    const Worker self = *static_cast<Worker*>(argument);
    uint32_t seen = self.seen;
    for (;;) seen = pool_.own_.help_once(seen, self.index, Crew::spins());
    return nullptr;
  }

  // OpenMP threads do not survive a fork either, and a team inside a team is one thread.
  bool borrows(int threads) const {
    return team_threads_ == threads && team_pid_ == pid_ && lent_.in_parallel() == 0;
  }

  // All of the team come, since OpenMP ends and starts threads where sizes of teams differ.
  int run_borrowed(const Launch& launch) {
    launch_ = &launch;
    borrowed_seen_ = borrowed_.seen();
    lent_.parallel(&team_main, this, static_cast<unsigned>(launch.threads), 0);
    return borrowed_most_;
  }

  static void team_main(void* argument) {
    Pool& pool = *static_cast<Pool*>(argument);
    const int worker = pool.lent_.thread_number();
    if (worker != 0) {
      pool.borrowed_.help_until_dismissed(pool.borrowed_seen_, worker, Crew::spins());
      return;
    }
    const Launch& launch = *pool.launch_;
    pool.borrowed_most_ = pool.borrowed_.lead(launch.task, launch.args, launch.phase,
                                              launch.items, launch.threads);
    pool.borrowed_.dismiss();
  }

  Mutex launches_;
  Crew own_;
  Crew borrowed_;
  const Launch* launch_;
  uint32_t borrowed_seen_;
  int borrowed_most_;
  int pid_;
  int workers_started_;
  Worker workers_[kMaxThreads];

  static Pool pool_;
  static inline Team lent_{};
  static inline int team_threads_ = 0;
  static inline int team_pid_ = 0;
  static inline int ready_pid_ = 0;
  static inline int claim_pid_ = 0;
};

inline Pool Pool::pool_;

}  // namespace aiter_moe
