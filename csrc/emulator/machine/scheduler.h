// SPDX-License-Identifier: MIT
// Runs one workgroup: its waves in random order with random preemption, all by the seed, so that
// what only works in one order is found, and found again. Barriers are those of the hardware: they
// open when every wave that has not ended has arrived, wherever it waits.
#pragma once

#include "emulator/machine/fault_log.h"
#include "emulator/machine/random.h"
#include "emulator/machine/wave_start.h"

namespace aiter_moe::emulator {

// What one thread needs to run workgroups; kept from launch to launch.
struct Worker {
  static constexpr u32 max_waves = 16;

  Workgroup group;
  GroupFaults faults;
  Wave* waves;            // wave_capacity of them
  u32 wave_capacity;
  u64 scratch_capacity;   // bytes behind group.scratch
  Array<u64> hits;        // per instruction
  Counters counters;
  double seconds;         // of CPU time
  u64 executed[max_waves];  // instructions of each wave
};

inline void add_counters(Counters& sum, const Counters& more) {
  const u64 requests = larger(sum.peak_vector_requests, more.peak_vector_requests);
  const u64 bytes = larger(sum.peak_vector_bytes, more.peak_vector_bytes);
  const u64 other = larger(sum.peak_other_requests, more.peak_other_requests);
  u64* words = reinterpret_cast<u64*>(&sum);
  const u64* added = reinterpret_cast<const u64*>(&more);
  for (u64 i = 0; i < sizeof sum / sizeof *words; ++i) words[i] += added[i];
  sum.peak_vector_requests = requests;
  sum.peak_vector_bytes = bytes;
  sum.peak_other_requests = other;
}

class Schedule {
 public:
  Schedule(Worker& worker, u64 number)
      : worker_(worker),
        group_(worker.group),
        launch_(*worker.group.launch),
        random_(worker.group.launch->seed, number),
        number_(number) {}

  void run() {
    while (!worker_.faults.fatal() && !launch_.faults->pointless(number_) &&
           !launch_.faults->stopped()) {
      const u32 running = count(State::running);
      if (running == 0 && !open_barrier()) break;
      if (running != 0) run_some(nth_running(random_.below(running)), running == 1);
    }
  }

 private:
  // Instructions until the next choice: from a few to thousands, so that both waves in lockstep
  // and waves far apart occur.
  u32 quantum() { return (8u << random_.below(9)) + random_.below(8); }

  void run_some(Wave& wave, bool alone) {
    const u64 left = launch_.instruction_limit - worker_.executed[wave.number];
    const u64 most = smaller<u64>(alone ? 1u << 16 : quantum(), left);
    worker_.executed[wave.number] += interpret(wave, most);
    if (wave.state == State::ended) {
      finish_requests(wave);
    } else if (worker_.executed[wave.number] >= launch_.instruction_limit) {
      report_hang(wave);
    }
  }

  u64 interpret(Wave& wave, u64 most) {
    const Instruction* const code = launch_.program->code;
    const u32 end = launch_.program->count;
    u64* const hits = group_.hits;
    u64 done = 0;
    while (done < most && wave.state == State::running) {
      const u32 at = wave.pc;
      if (__builtin_expect(at >= end, 0)) {
        wave.fault(FaultKind::bad_instruction, code[end - 1], 0, 0,
                   "the wave ran past the last instruction");
        break;
      }
      const Instruction& i = code[at];
      wave.pc = at + 1;
      ++hits[at];
      ++done;
      i.run(wave, i);
    }
    return done;
  }

  bool open_barrier() {
    if (count(State::at_barrier) == 0) return false;
    for (u32 n = 0; n < group_.wave_count; ++n) {
      Wave& wave = group_.waves[n];
      if (wave.state != State::at_barrier) continue;
      wave.state = State::running;
      ++wave.counters.barriers;
    }
    group_.lds.barrier();
    return true;
  }

  void report_hang(Wave& wave) {
    const Instruction& i = launch_.program->code[smaller(wave.pc, launch_.program->count - 1)];
    for (u32 n = 0; n < group_.wave_count; ++n) {
      Wave& other = group_.waves[n];
      if (other.state != State::at_barrier) continue;
      const Instruction& barrier = launch_.program->code[other.pc - 1];
      other.fault(FaultKind::barrier_divergence, barrier, 0, 0,
                  "this wave waits for one that never arrives");
    }
    wave.fault(FaultKind::hang, i, 0, 0, "the wave reached the limit of instructions");
  }

  u32 count(State state) const {
    u32 found = 0;
    for (u32 n = 0; n < group_.wave_count; ++n) found += group_.waves[n].state == state;
    return found;
  }

  Wave& nth_running(u32 which) {
    u32 n = 0;
    while (group_.waves[n].state != State::running || which-- != 0) ++n;
    return group_.waves[n];
  }

  Worker& worker_;
  Workgroup& group_;
  const LaunchState& launch_;
  Random random_;
  u64 number_;
};

}  // namespace aiter_moe::emulator
