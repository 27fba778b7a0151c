// SPDX-License-Identifier: MIT
// Control flow: branches, calls, barriers, the end of a wave, and instructions that only affect
// timing. Waits are memory's (memory/waits.h).
#pragma once

#include "emulator/exec/scalar_form.h"

namespace aiter_moe::emulator {

// Between an instruction's index and its address in the loaded image (machine). No instruction
// starts at an address whose index is `nowhere`.
u64 address_of(const Workgroup& group, u32 index);
u32 index_of(const Workgroup& group, u64 address);
constexpr u32 nowhere = ~0u;

namespace scalar {

inline void jump(Wave& w, const Instruction& i) { w.pc = i.target; }

inline void jump_if(Wave& w, const Instruction& i, bool taken) {
  if (taken) w.pc = i.target;
}
template <bool wanted>
void jump_scc(Wave& w, const Instruction& i) {
  jump_if(w, i, w.scc == wanted);
}
template <bool wanted>
void jump_vccz(Wave& w, const Instruction& i) {
  jump_if(w, i, read_status(w, i, operand::vccz) == wanted);
}
template <bool wanted>
void jump_execz(Wave& w, const Instruction& i) {
  jump_if(w, i, (w.exec() == 0) == wanted);
}

// w.pc is past the instruction already.
inline void get_pc(Wave& w, const Instruction& i) {
  w.write_scalar64(i, i.dst, address_of(*w.group, w.pc));
}

inline void jump_to_address(Wave& w, const Instruction& i, u64 address) {
  const u32 index = index_of(*w.group, address);
  if (index != nowhere) {
    w.pc = index;
    return;
  }
  w.fault(FaultKind::bad_instruction, i, address, 0, "no instruction starts at the target");
  w.state = State::ended;
}
inline void set_pc(Wave& w, const Instruction& i) {
  jump_to_address(w, i, w.read_scalar64(i, i.src[0]));
}
inline void swap_pc(Wave& w, const Instruction& i) {
  const u64 target = w.read_scalar64(i, i.src[0]);
  get_pc(w, i);
  jump_to_address(w, i, target);
}
inline void call(Wave& w, const Instruction& i) {
  get_pc(w, i);
  w.pc = i.target;
}

inline void barrier(Wave& w, const Instruction&) { w.state = State::at_barrier; }
inline void end_program(Wave& w, const Instruction&) { w.state = State::ended; }

inline void timing_only(Wave&, const Instruction&) {}

inline void stop(Wave& w, const Instruction& i, const char* why) {
  w.fault(FaultKind::bad_instruction, i, 0, 0, why);
  w.state = State::ended;
}
inline void trap(Wave& w, const Instruction& i) { stop(w, i, "the kernel trapped"); }
inline void halt(Wave& w, const Instruction& i) {
  if (i.immediate & 1) stop(w, i, "the kernel halted itself");
}

}  // namespace scalar
}  // namespace aiter_moe::emulator
