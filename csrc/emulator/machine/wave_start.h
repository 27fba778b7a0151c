// SPDX-License-Identifier: MIT
// The registers a wave starts with, as the kernel descriptor asks for them (the AMDGPU code
// object's "initial kernel execution state" of gfx942 and gfx950). Everything else is undefined,
// and holds a NaN nobody would expect.
#pragma once

#include "emulator/code_object.h"
#include "emulator/machine/arguments.h"
#include "emulator/workgroup.h"

namespace aiter_moe::emulator {

constexpr u32 undefined_value = 0x7FC0DEAD;

// Addresses a kernel may ask for.
struct StartAddresses {
  u64 dispatch_packet;
  u64 queue;
  u64 arguments;
  u64 dispatch_id;
};

namespace wave_start {

// Bits of the kernel code properties, in the order of their registers.
constexpr u32 wants_private_segment_buffer = 1 << 0, wants_dispatch_packet = 1 << 1,
              wants_queue = 1 << 2, wants_arguments = 1 << 3, wants_dispatch_id = 1 << 4,
              wants_flat_scratch = 1 << 5, wants_private_segment_size = 1 << 6;

// Writes one scalar register after the other.
class Scalars {
 public:
  explicit Scalars(Wave& wave) : wave_(wave), next_(0) {}

  u32 next() const { return next_; }

  void add(u32 value) {
    if (next_ >= operand::flat_scratch) return;
    wave_.scalar[next_] = value;
    wave_.scalar_ready[next_ >> 6] |= 1ull << (next_ & 63);
    ++next_;
  }
  void add64(u64 value) {
    add(static_cast<u32>(value));
    add(static_cast<u32>(value >> 32));
  }

 private:
  Wave& wave_;
  u32 next_;
};

// Registers the caller's launch determines; the same for every wave.
inline void add_user_scalars(Scalars& scalars, const Program& program,
                             const StartAddresses& start) {
  const u32 wanted = program.kernel_code_properties;
  if (wanted & wants_private_segment_buffer) scalars.add64(0), scalars.add64(0);
  if (wanted & wants_dispatch_packet) scalars.add64(start.dispatch_packet);
  if (wanted & wants_queue) scalars.add64(start.queue);
  if (wanted & wants_arguments) scalars.add64(start.arguments);
  if (wanted & wants_dispatch_id) scalars.add64(start.dispatch_id);
  if (wanted & wants_flat_scratch) scalars.add64(aperture::private_base);
  if (wanted & wants_private_segment_size) scalars.add(program.scratch_bytes);
  const u8* preloaded = reinterpret_cast<const u8*>(start.arguments) + 4 * program.preload_offset;
  for (u32 i = 0; i < program.preload_length; ++i) {
    u32 word;
    __builtin_memcpy(&word, preloaded + 4 * i, 4);
    scalars.add(word);
  }
}

// Registers the hardware adds for each workgroup.
inline void add_system_scalars(Scalars& scalars, const Program& program, const Workgroup& group) {
  for (int axis = 0; axis < 3; ++axis) {
    if (program.rsrc2 >> (7 + axis) & 1) scalars.add(group.id[axis]);
  }
  if (program.rsrc2 >> 10 & 1) scalars.add(group.wave_count);
}

// v0 of every lane: x, y and z of its place in the workgroup, ten bits each, as far as wanted.
inline void set_work_items(Wave& wave, const Program& program, const u32 (&block)[3]) {
  const u32 axes = program.rsrc2 >> 11 & 3;
  for (u32 lane = 0; lane < lanes; ++lane) {
    const u32 item = wave.number * lanes + lane;
    u32 packed = item % block[0];
    if (axes >= 1) packed |= item / block[0] % block[1] << 10;
    if (axes >= 2) packed |= item / block[0] / block[1] << 20;
    wave.vector[0].lane[lane] = packed;
  }
}

inline u64 lanes_of_wave(u32 number, u32 lanes_a_group) {
  const u32 left = lanes_a_group - number * lanes;
  return left >= lanes ? all_lanes : (1ull << left) - 1;
}

inline void forget(Wave& wave, const Program& program) {
  const u32 vector = smaller<u32>(program.accum_offset, 256);
  const u32 accumulation = smaller<u32>(program.vgprs - smaller(vector, program.vgprs), 256);
  for (u32 n = 0; n < vector; ++n) fill(wave.vector[n], undefined_value);
  for (u32 n = 0; n < accumulation; ++n) fill(wave.vector[256 + n], undefined_value);
  host_memset(wave.vector_ready, 0, sizeof wave.vector_ready);
  for (u32& value : wave.scalar) value = undefined_value;
  wave.scalar_ready[0] = wave.scalar_ready[1] = 0;
}

}  // namespace wave_start

// Makes `wave` ready to run its first instruction. Its number and its workgroup are set.
inline void start_wave(Wave& wave, const StartAddresses& start) {
  const LaunchState& launch = *wave.group->launch;
  const Program& program = *launch.program;
  wave_start::forget(wave, program);
  wave.pc = program.entry;
  wave.scc = false;
  wave.state = State::running;
  // FLOAT_MODE, DX10_CLAMP, IEEE_MODE and FP16_OVFL of the descriptor, where MODE has them.
  wave.mode = (program.rsrc1 >> 12 & 0xFF) | (program.rsrc1 >> 21 & 1) << 8 |
              (program.rsrc1 >> 23 & 1) << 9 | (program.rsrc1 >> 26 & 1) << 23;
  wave.counters = {};
  wave_start::Scalars scalars(wave);
  wave_start::add_user_scalars(scalars, program, start);
  wave_start::add_system_scalars(scalars, program, *wave.group);
  wave.set_pair(operand::flat_scratch, aperture::private_base);
  const u32 lanes_a_group = launch.block[0] * launch.block[1] * launch.block[2];
  const u64 active = wave_start::lanes_of_wave(wave.number, lanes_a_group);
  wave.set_pair(operand::exec, active);
  wave.scalar_ready[1] |= 3ull << (operand::flat_scratch - 64) | 3ull << (operand::exec - 64);
  wave_start::set_work_items(wave, program, launch.block);
  wave.vector_ready[0] = active;
  start_requests(wave);
}

}  // namespace aiter_moe::emulator
