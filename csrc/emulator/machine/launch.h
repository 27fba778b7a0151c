// SPDX-License-Identifier: MIT
// A launch from its checked request to its results: workgroups over the threads of the pool,
// each thread with storage of its own that is kept, and faults, counters and hits joined at the
// end. One launch at a time in a process.
#pragma once

#include "common/pool.h"
#include "emulator/api.h"
#include "emulator/machine/scheduler.h"

namespace aiter_moe::emulator {

struct Options {
  u64 seed;
  u32 checks;
  u32 threads;  // 0: one for each CPU this process may use
  u64 instruction_limit;
};

struct LaunchRequest {
  const Program* program;
  u32 arch;
  const Allocations* memory;
  const Array<InstructionHits>* rows;  // every instruction of the program, with no hits
  Shape shape;
  StartAddresses start;
};

// Results of the last launch.
struct LaunchResults {
  FaultLog faults;
  Counters counters;
  Array<InstructionHits> instructions;
  double seconds;  // of CPU time
};

enum class Clock : int { monotonic = 1, cpu_of_thread = 3 };

inline double seconds_of(Clock clock) {
  long time[2] = {};
  host_clock_gettime(static_cast<int>(clock), time);
  return static_cast<double>(time[0]) + static_cast<double>(time[1]) * 1e-9;
}

inline u32 cpus() {
  u64 mask[16] = {};
  if (host_sched_getaffinity(0, sizeof mask, mask) != 0) return 1;
  u32 found = 0;
  for (u64 word : mask) found += static_cast<u32>(__builtin_popcountll(word));
  return larger(found, 1u);
}

class Launcher {
 public:
  // False where memory ran out.
  bool run(const LaunchRequest& request, const Options& options, LaunchResults& results) {
    request_ = &request;
    results_ = &results;
    results.faults.start();
    describe(request, options, results);
    out_of_memory_ = 0;
    for (Worker* worker : workers_) {
      if (worker != nullptr) clear(*worker);
    }
    static constexpr Task task{
        [](const void*) { return 1; },
        [](const void* self, int) {
          return static_cast<long>(static_cast<const Launcher*>(self)->request_->shape.groups());
        },
        [](const void* self, int, long begin, long end, int worker) {
          const Launcher* launcher = static_cast<const Launcher*>(self);
          const_cast<Launcher*>(launcher)->run_groups(begin, end, worker);
        }};
    const u32 threads = options.threads == 0 ? cpus() : options.threads;
    Pool::run(task, this, static_cast<int>(threads));
    results.faults.finish();
    return join(results) && out_of_memory_ == 0;
  }

 private:
  void describe(const LaunchRequest& request, const Options& options, LaunchResults& results) {
    const Shape& shape = request.shape;
    state_.program = request.program;
    state_.arch = request.arch;
    state_.memory = request.memory;
    state_.faults = &results.faults;
    state_.checks = options.checks;
    state_.seed = options.seed;
    state_.instruction_limit = options.instruction_limit;
    state_.arguments = reinterpret_cast<const u8*>(request.start.arguments);
    state_.dynamic_lds = shape.dynamic_lds;
    for (int axis = 0; axis < 3; ++axis) {
      state_.grid[axis] = shape.grid[axis];
      state_.block[axis] = shape.block[axis];
    }
  }

  void run_groups(long begin, long end, int thread) {
    Worker* worker = worker_of(thread);
    if (worker == nullptr) {
      __atomic_store_n(&out_of_memory_, 1, __ATOMIC_RELAXED);
      return;
    }
    const double start = seconds_of(Clock::cpu_of_thread);
    for (long number = begin; number < end; ++number) {
      if (results_->faults.stopped()) break;
      if (results_->faults.pointless(static_cast<u64>(number))) break;
      run_group(*worker, static_cast<u64>(number));
    }
    worker->seconds += seconds_of(Clock::cpu_of_thread) - start;
  }

  void run_group(Worker& worker, u64 number) {
    start_group(worker, number);
    Schedule(worker, number).run();
    ++worker.counters.workgroups;
    worker.counters.waves += worker.group.wave_count;
    for (u32 n = 0; n < worker.group.wave_count; ++n) {
      add_counters(worker.counters, worker.group.waves[n].counters);
      worker.counters.instructions += worker.executed[n];
    }
    results_->faults.join(number, worker.faults);
  }

  void start_group(Worker& worker, u64 number) {
    Workgroup& group = worker.group;
    const u32* grid = request_->shape.grid;
    group.id[0] = static_cast<u32>(number % grid[0]);
    group.id[1] = static_cast<u32>(number / grid[0] % grid[1]);
    group.id[2] = static_cast<u32>(number / grid[0] / grid[1]);
    group.lds.start(lds_bytes(), group.wave_count);
    for (u64 i = 0; i < scratch_bytes() / 4; ++i) {
      reinterpret_cast<u32*>(group.scratch)[i] = undefined_value;
    }
    worker.faults.start();
    for (u32 n = 0; n < group.wave_count; ++n) {
      group.waves[n].number = n;
      group.waves[n].group = &group;
      start_wave(group.waves[n], request_->start);
      worker.executed[n] = 0;
    }
  }

  u32 lds_bytes() const { return request_->program->lds_bytes + request_->shape.dynamic_lds; }
  u32 wave_count() const { return (request_->shape.lanes_a_group() + lanes - 1) / lanes; }
  u64 scratch_bytes() const {
    return u64{request_->program->scratch_bytes} * lanes * wave_count();
  }

  // The thread's storage, made fit for this launch; null where memory ran out.
  Worker* worker_of(int thread) {
    Worker*& worker = workers_[thread];
    if (worker == nullptr) {
      worker = static_cast<Worker*>(host_malloc(sizeof(Worker)));
      if (worker == nullptr) return nullptr;
      host_memset(static_cast<void*>(worker), 0, sizeof(Worker));
    }
    if (worker->hits.size() == 0 && !fit(*worker)) return nullptr;
    return worker;
  }

  bool fit(Worker& worker) {
    Workgroup& group = worker.group;
    const u32 instructions = request_->program->count;
    if (!worker.hits.reserve(instructions)) return false;
    if (!fit_waves(worker) || !fit_scratch(worker)) return false;
    group.launch = &state_;
    group.faults = &worker.faults;
    group.waves = worker.waves;
    group.wave_count = wave_count();
    group.scratch_bytes = request_->program->scratch_bytes;
    if (!group.lds.start(lds_bytes(), group.wave_count)) return false;
    for (u32 i = 0; i < instructions; ++i) worker.hits.append(0);
    group.hits = worker.hits.begin();
    return true;
  }

  bool fit_waves(Worker& worker) {
    if (wave_count() <= worker.wave_capacity) return true;
    host_free(worker.waves);
    worker.waves = nullptr;
    worker.wave_capacity = 0;
    void* memory = nullptr;
    if (host_posix_memalign(&memory, alignof(Wave), wave_count() * sizeof(Wave)) != 0) return false;
    worker.waves = static_cast<Wave*>(memory);
    worker.wave_capacity = wave_count();
    return true;
  }

  bool fit_scratch(Worker& worker) {
    if (scratch_bytes() <= worker.scratch_capacity) return true;
    host_free(worker.group.scratch);
    worker.scratch_capacity = 0;
    worker.group.scratch = static_cast<u8*>(host_malloc(scratch_bytes()));
    if (worker.group.scratch == nullptr) return false;
    worker.scratch_capacity = scratch_bytes();
    return true;
  }

  static void clear(Worker& worker) {
    worker.hits.shorten(0);
    worker.counters = {};
    worker.seconds = 0;
  }

  bool join(LaunchResults& results) {
    const Program& program = *request_->program;
    results.counters = {};
    results.seconds = 0;
    results.instructions.shorten(0);
    if (!results.instructions.reserve(program.count)) return false;
    for (const InstructionHits& row : *request_->rows) results.instructions.append(row);
    for (const Worker* worker : workers_) {
      if (worker == nullptr || worker->hits.size() == 0) continue;
      add_counters(results.counters, worker->counters);
      results.seconds += worker->seconds;
      for (u32 i = 0; i < program.count; ++i) results.instructions[i].hits += worker->hits[i];
    }
    return true;
  }

  const LaunchRequest* request_;
  LaunchResults* results_;
  LaunchState state_;
  int out_of_memory_;
  Worker* workers_[Pool::kMaxThreads];
};

}  // namespace aiter_moe::emulator
