// SPDX-License-Identifier: MIT
// HIP calls about memory, all of which is the host's. Part of emulator.cpp.
#pragma once

#include "emulator/hip/runtime.h"
#include "emulator/hip_api.h"

using namespace aiter_moe;
using namespace aiter_moe::emulator;

static Block* block_at(const void* pointer) {
  for (Block& block : runtime.blocks) {
    if (block.address == reinterpret_cast<u64>(pointer)) return &block;
  }
  return nullptr;
}

// False for a range that begins inside of memory of the device and ends outside of it.
static bool stays_inside(const void* pointer, size_t bytes) {
  const u64 begin = reinterpret_cast<u64>(pointer);
  for (u32 n = 0; n < runtime.memory.count; ++n) {
    const Range& range = runtime.memory.ranges[n];
    if (range.begin <= begin && begin < range.end) return bytes <= range.end - begin;
  }
  return true;
}

static bool add_block(void* pointer, size_t bytes, bool allocated) {
  const u64 address = reinterpret_cast<u64>(pointer);
  if (!runtime.memory.add(address, bytes)) return false;
  if (runtime.blocks.append({address, bytes, allocated})) return true;
  runtime.memory.remove(address);
  return false;
}

static void remove_block(Block* block) {
  runtime.memory.remove(block->address);
  runtime.blocks.remove(static_cast<u64>(block - runtime.blocks.begin()));
}

// The contents are what no kernel should rely on: bits of ones, a NaN in every format.
hipError_t hipMalloc(void** pointer, size_t bytes) {
  constexpr size_t alignment = 4096;
  if (pointer == nullptr) return told(hipErrorInvalidValue);
  *pointer = nullptr;
  if (bytes == 0) return hipSuccess;
  const Locked locked;
  void* memory = nullptr;
  if (host_posix_memalign(&memory, alignment, bytes) != 0) return told(hipErrorOutOfMemory);
  if (!add_block(memory, bytes, true)) {
    host_free(memory);
    return told(hipErrorOutOfMemory);
  }
  host_memset(memory, 0xFF, bytes);
  *pointer = memory;
  return hipSuccess;
}

hipError_t hipFree(void* pointer) {
  if (pointer == nullptr) return hipSuccess;
  const Locked locked;
  Block* block = block_at(pointer);
  if (block == nullptr || !block->allocated) return told(hipErrorInvalidValue);
  remove_block(block);
  host_free(pointer);
  return hipSuccess;
}

hipError_t hipHostRegister(void* pointer, size_t bytes, unsigned) {
  const u64 begin = reinterpret_cast<u64>(pointer);
  if (pointer == nullptr || bytes == 0 || begin + bytes < begin) return told(hipErrorInvalidValue);
  const Locked locked;
  for (const Block& block : runtime.blocks) {
    if (begin < block.address + block.bytes && block.address < begin + bytes) {
      return told(hipErrorHostMemoryAlreadyRegistered);
    }
  }
  return told(add_block(pointer, bytes, false) ? hipSuccess : hipErrorOutOfMemory);
}

hipError_t hipHostUnregister(void* pointer) {
  if (pointer == nullptr) return told(hipErrorInvalidValue);
  const Locked locked;
  Block* block = block_at(pointer);
  if (block == nullptr || block->allocated) return told(hipErrorHostMemoryNotRegistered);
  remove_block(block);
  return hipSuccess;
}

hipError_t hipHostGetDevicePointer(void** device, void* host, unsigned flags) {
  if (device == nullptr || host == nullptr || flags != 0) return told(hipErrorInvalidValue);
  *device = host;
  return hipSuccess;
}

hipError_t hipMemcpy(void* to, const void* from, size_t bytes, hipMemcpyKind kind) {
  if (kind < hipMemcpyHostToHost || kind > hipMemcpyDefault) {
    return told(hipErrorInvalidMemcpyDirection);
  }
  if (bytes == 0) return hipSuccess;
  if (to == nullptr || from == nullptr) return told(hipErrorInvalidValue);
  const Locked locked;
  if (!stays_inside(to, bytes) || !stays_inside(from, bytes)) return told(hipErrorInvalidValue);
  host_memmove(to, from, bytes);
  return told(take_pending());
}

hipError_t hipMemcpyAsync(void* to, const void* from, size_t bytes, hipMemcpyKind kind,
                          hipStream_t) {
  return hipMemcpy(to, from, bytes, kind);
}

hipError_t hipMemcpyHtoD(hipDeviceptr_t to, const void* from, size_t bytes) {
  return hipMemcpy(to, from, bytes, hipMemcpyHostToDevice);
}

hipError_t hipMemcpyDtoH(void* to, hipDeviceptr_t from, size_t bytes) {
  return hipMemcpy(to, from, bytes, hipMemcpyDeviceToHost);
}

hipError_t hipMemset(void* to, int byte, size_t bytes) {
  if (bytes == 0) return hipSuccess;
  if (to == nullptr) return told(hipErrorInvalidValue);
  const Locked locked;
  if (!stays_inside(to, bytes)) return told(hipErrorInvalidValue);
  host_memset(to, byte, bytes);
  return hipSuccess;
}

hipError_t hipMemsetAsync(void* to, int byte, size_t bytes, hipStream_t) {
  return hipMemset(to, byte, bytes);
}
