// SPDX-License-Identifier: MIT
// The devices the library claims to have: an MI355X and an MI300X, with the sizes that programs
// plan by. Figures of speed are those of the data sheets; nothing here runs at them.
#pragma once

#include "emulator/exec/architecture.h"
#include "emulator/hip/types.h"
#include "emulator/machine/text.h"

namespace aiter_moe::emulator {

struct Device {
  u32 arch;
  u8 machine;  // EF_AMDGPU_MACH of its code objects
  const char* name;
  const char* arch_name;
  int minor;
  int compute_units;
  int lds_bytes;
  u64 memory_bytes;
  int clock_khz;
  int memory_clock_khz;
};

constexpr Device devices[] = {
    {gfx950, 0x4F, "AMD Instinct MI355X (emulated)", "gfx950:sramecc+:xnack-", 5, 256, 160 << 10,
     288ull << 30, 2400000, 2000000},
    {gfx942, 0x4C, "AMD Instinct MI300X (emulated)", "gfx942:sramecc+:xnack-", 4, 304, 64 << 10,
     192ull << 30, 2100000, 1300000},
};
constexpr int device_count = sizeof devices / sizeof devices[0];

namespace device {
constexpr int max_threads = 1024, threads_a_unit = 2048, registers_a_group = 65536;
constexpr int max_grid = 2147483647, max_grid_yz = 65536;
}  // namespace device

inline void describe(hipDeviceProp_tR0600& p, const Device& d) {
  host_memset(&p, 0, sizeof p);
  copy_text(p.name, d.name);
  copy_text(p.gcnArchName, d.arch_name);
  p.totalGlobalMem = d.memory_bytes;
  p.sharedMemPerBlock = p.sharedMemPerMultiprocessor = static_cast<size_t>(d.lds_bytes);
  p.sharedMemPerBlockOptin = p.maxSharedMemoryPerMultiProcessor = static_cast<size_t>(d.lds_bytes);
  p.regsPerBlock = p.regsPerMultiprocessor = device::registers_a_group;
  p.warpSize = lanes;
  p.memPitch = device::max_grid;
  p.maxThreadsPerBlock = device::max_threads;
  for (int& extent : p.maxThreadsDim) extent = device::max_threads;
  p.maxGridSize[0] = device::max_grid;
  p.maxGridSize[1] = p.maxGridSize[2] = device::max_grid_yz;
  p.clockRate = d.clock_khz;
  p.memoryClockRate = d.memory_clock_khz;
  p.memoryBusWidth = 8192;
  p.totalConstMem = device::max_grid;
  p.major = 9;
  p.minor = d.minor;
  p.textureAlignment = p.texturePitchAlignment = p.surfaceAlignment = 256;
  p.multiProcessorCount = d.compute_units;
  p.canMapHostMemory = p.concurrentKernels = p.ECCEnabled = p.unifiedAddressing = 1;
  p.l2CacheSize = 4 << 20;
  p.maxThreadsPerMultiProcessor = device::threads_a_unit;
  p.maxBlocksPerMultiProcessor = 2;
  p.canUseHostPointerForRegisteredMem = p.hostRegisterSupported = p.isLargeBar = 1;
  p.clockInstructionRate = 100000;
}

// False where the attribute is none of those answered here.
inline bool attribute_of(const Device& d, hipDeviceAttribute_t attribute, int& value) {
  switch (attribute) {
    case hipDeviceAttributeClockRate: value = d.clock_khz; return true;
    case hipDeviceAttributeComputeCapabilityMajor: value = 9; return true;
    case hipDeviceAttributeComputeCapabilityMinor: value = d.minor; return true;
    case hipDeviceAttributeMaxBlockDimX:
    case hipDeviceAttributeMaxBlockDimY:
    case hipDeviceAttributeMaxBlockDimZ:
    case hipDeviceAttributeMaxThreadsPerBlock: value = device::max_threads; return true;
    case hipDeviceAttributeMaxGridDimX: value = device::max_grid; return true;
    case hipDeviceAttributeMaxGridDimY:
    case hipDeviceAttributeMaxGridDimZ: value = device::max_grid_yz; return true;
    case hipDeviceAttributeMaxThreadsPerMultiProcessor:
      value = device::threads_a_unit;
      return true;
    case hipDeviceAttributeMultiprocessorCount:
    case hipDeviceAttributePhysicalMultiProcessorCount: value = d.compute_units; return true;
    case hipDeviceAttributeMaxRegistersPerBlock: value = device::registers_a_group; return true;
    case hipDeviceAttributeMaxSharedMemoryPerBlock:
    case hipDeviceAttributeSharedMemPerMultiprocessor:
    case hipDeviceAttributeMaxSharedMemoryPerMultiprocessor: value = d.lds_bytes; return true;
    case hipDeviceAttributeWarpSize: value = lanes; return true;
    case hipDeviceAttributeHostRegisterSupported: value = 1; return true;
  }
  return false;
}

}  // namespace aiter_moe::emulator
