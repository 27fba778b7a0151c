// SPDX-License-Identifier: MIT
// The memory a launch hands to its kernel beside tensors: the kernel argument segment with its
// hidden arguments, the dispatch packet and the queue. Layouts are those of the AMDGPU code
// object (version 5) and of HSA.
#pragma once

#include "emulator/machine/metadata.h"
#include "emulator/wave.h"

namespace aiter_moe::emulator {

// Sizes of a launch: workgroups, and lanes of each.
struct Shape {
  u32 grid[3];
  u32 block[3];
  u32 dynamic_lds;

  // Saturated, so that no product of three sizes wraps.
  u64 groups() const {
    const u64 plane = u64{grid[0]} * grid[1];
    return plane >> 32 != 0 ? plane : plane * grid[2];
  }
  u32 lanes_a_group() const { return block[0] * block[1] * block[2]; }
  // Workgroups are all full: a HIP grid is a number of workgroups.
  u32 dimensions() const {
    const bool deep = grid[2] > 1 || block[2] > 1, wide = grid[1] > 1 || block[1] > 1;
    return deep ? 3 : wide ? 2 : 1;
  }
};

// hsa_kernel_dispatch_packet_t.
struct DispatchPacket {
  u16 header;
  u16 setup;
  u16 workgroup_size[3];
  u16 reserved0;
  u32 grid_size[3];  // lanes
  u32 private_segment_bytes;
  u32 group_segment_bytes;
  u64 kernel_object;
  u64 arguments;
  u64 reserved1;
  u64 completion_signal;
};
static_assert(sizeof(DispatchPacket) == 64);

// The part of amd_queue_t that a kernel may read.
struct HsaQueue {
  u8 reserved0[64];
  u32 group_segment_aperture_high;
  u32 private_segment_aperture_high;
  u8 reserved1[184];
};
static_assert(sizeof(HsaQueue) == 256);

inline u64 hidden_value(ArgumentKind kind, const Shape& shape, u64 queue) {
  const int axis = (static_cast<int>(kind) - static_cast<int>(ArgumentKind::block_count_x)) % 3;
  switch (kind) {
    case ArgumentKind::block_count_x:
    case ArgumentKind::block_count_y:
    case ArgumentKind::block_count_z: return shape.grid[axis];
    case ArgumentKind::group_size_x:
    case ArgumentKind::group_size_y:
    case ArgumentKind::group_size_z: return shape.block[axis];
    case ArgumentKind::grid_dims: return shape.dimensions();
    case ArgumentKind::dynamic_lds_size: return shape.dynamic_lds;
    case ArgumentKind::private_base: return aperture::private_base >> 32;
    case ArgumentKind::shared_base: return aperture::shared_base >> 32;
    case ArgumentKind::queue_ptr: return queue;
    default: return 0;
  }
}

// Writes the hidden arguments that fit into a segment of `bytes`.
inline void write_hidden(u8* segment, u64 bytes, const KernelMetadata& kernel, const Shape& shape,
                         u64 queue) {
  for (const Argument& argument : kernel.arguments) {
    if (argument.kind == ArgumentKind::given) continue;
    if (argument.bytes > 8 || argument.offset > bytes || bytes - argument.offset < argument.bytes) {
      continue;
    }
    const u64 value = hidden_value(argument.kind, shape, queue);
    host_memcpy(segment + argument.offset, &value, argument.bytes);
  }
}

// How many bytes of the segment the caller gives.
inline u64 given_bytes(const KernelMetadata& kernel) {
  u64 end = 0;
  for (const Argument& argument : kernel.arguments) {
    if (argument.kind == ArgumentKind::given) {
      end = larger<u64>(end, u64{argument.offset} + argument.bytes);
    }
  }
  return end;
}

}  // namespace aiter_moe::emulator
