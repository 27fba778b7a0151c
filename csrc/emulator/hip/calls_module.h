// SPDX-License-Identifier: MIT
// HIP calls that load code objects and launch their kernels. Part of emulator.cpp.
#pragma once

#include "emulator/hip/module_memory.h"
#include "emulator/hip/runtime.h"
#include "emulator/hip_api.h"

using namespace aiter_moe;
using namespace aiter_moe::emulator;

static void free_function(Function* function) {
  free_program(function->program);
  function->metadata.arguments.clear();
  host_free(function);
}

template <typename T>
static T* new_zeroed() {
  T* object = static_cast<T*>(host_malloc(sizeof(T)));
  if (object != nullptr) host_memset(static_cast<void*>(object), 0, sizeof(T));
  return object;
}

static void free_module(Module* module) {
  for (Function* function : module->functions) free_function(function);
  module->functions.clear();
  module->rows.clear();
  free_code_object(module->code_object);
  host_free(module->elf);
  host_free(module);
}

// Takes a copy of the file and loads it; its memory is not reachable yet.
static hipError_t load_module(Module& module, const u8* elf) {
  module.bytes = image::size_of(elf);
  module.elf = static_cast<u8*>(host_malloc(module.bytes));
  if (module.elf == nullptr) return hipErrorOutOfMemory;
  host_memcpy(module.elf, elf, module.bytes);
  const char* why = nullptr;
  module.code_object = load_code_object(module.elf, module.bytes, module.device->arch,
                                        &find_handler, &report_unknown, &why);
  return module.code_object == nullptr ? hipErrorInvalidImage : hipSuccess;
}

static hipError_t add_module(const u8* elf, const Device& device, Module*& out) {
  Module* module = new_zeroed<Module>();
  if (module == nullptr) return hipErrorOutOfMemory;
  module->device = &device;
  hipError_t error = load_module(*module, elf);
  if (error == hipSuccess && !runtime.modules.reserve(runtime.modules.size() + 1))
    error = hipErrorOutOfMemory;
  if (error == hipSuccess && !add_segments(*module->code_object, runtime.memory))
    error = hipErrorInvalidImage;
  if (error != hipSuccess) {
    free_module(module);
    return error;
  }
  module->handle = new_handle();
  runtime.modules.append(module);
  out = module;
  return hipSuccess;
}

hipError_t hipModuleLoadData(hipModule_t* module, const void* data) {
  if (module == nullptr || data == nullptr) return told(hipErrorInvalidValue);
  const Device& device = devices[current_device];
  const u8* elf = static_cast<const u8*>(data);
  if (image::is_bundle(elf)) {
    elf = image::in_bundle(elf, device);
    if (elf == nullptr) return told(hipErrorNoBinaryForGpu);
  }
  if (!image::is_elf(elf)) return told(hipErrorInvalidImage);
  if (!image::runs_on(elf, device)) return told(hipErrorNoBinaryForGpu);
  const Locked locked;
  Module* loaded = nullptr;
  if (const hipError_t error = add_module(elf, device, loaded); error != hipSuccess)
    return told(error);
  *module = as_handle<hipModule_t>(loaded->handle);
  return hipSuccess;
}

hipError_t hipModuleUnload(hipModule_t handle) {
  const Locked locked;
  for (u64 i = 0; i < runtime.modules.size(); ++i) {
    Module* module = runtime.modules[i];
    if (module->handle != reinterpret_cast<u64>(handle)) continue;
    runtime.modules.remove(i);
    remove_segments(*module->code_object, runtime.memory);
    free_module(module);
    return hipSuccess;
  }
  return told(hipErrorInvalidHandle);
}

// A kernel whose calls the compiler could not follow says how much stack it needs itself, not what
// its functions need; HIP gives it a stack of the device's limit.
constexpr u16 uses_dynamic_stack = 1 << 11;
constexpr u32 dynamic_stack_bytes = 16384;

static hipError_t load_function(Module& module, const char* name, Function*& out) {
  const char* why = nullptr;
  Program* program = find_kernel(*module.code_object, name, &why);
  if (program == nullptr) return hipErrorNotFound;
  Function* function = new_zeroed<Function>();
  if (function == nullptr || !fit_rows(*program, module.rows) ||
      !module.functions.append(function)) {
    host_free(function);
    free_program(program);
    return hipErrorOutOfMemory;
  }
  function->handle = new_handle();
  function->program = program;
  if (program->kernel_code_properties & uses_dynamic_stack) {
    program->scratch_bytes = larger(program->scratch_bytes, dynamic_stack_bytes);
  }
  copy_text(function->name, name);
  read_metadata(module.elf, module.bytes, name, function->metadata);
  out = function;
  return hipSuccess;
}

hipError_t hipModuleGetFunction(hipFunction_t* function, hipModule_t handle, const char* name) {
  if (function == nullptr || name == nullptr || name[0] == 0) return told(hipErrorInvalidValue);
  const Locked locked;
  Module* module = find_module(handle);
  if (module == nullptr) return told(hipErrorInvalidHandle);
  Function* found = nullptr;
  for (Function* known : module->functions) {
    if (same_text(known->name, name)) found = known;
  }
  if (found == nullptr) {
    const hipError_t error = load_function(*module, name, found);
    if (error != hipSuccess) return told(error);
  }
  *function = as_handle<hipFunction_t>(found->handle);
  return hipSuccess;
}

hipError_t hipModuleGetGlobal(hipDeviceptr_t* pointer, size_t* bytes, hipModule_t handle,
                              const char* name) {
  if (name == nullptr || name[0] == 0 || (pointer == nullptr && bytes == nullptr)) {
    return told(hipErrorInvalidValue);
  }
  const Locked locked;
  const Module* module = find_module(handle);
  if (module == nullptr) return told(hipErrorInvalidHandle);
  const Variable variable = find_variable(*module->code_object, name);
  if (variable.address == nullptr) return told(hipErrorNotFound);
  if (pointer != nullptr) *pointer = variable.address;
  if (bytes != nullptr) *bytes = variable.bytes;
  return hipSuccess;
}

static u32 max_threads(const Function& function) {
  const u32 declared = function.metadata.max_workgroup;
  return declared == 0 ? device::max_threads : declared;
}

hipError_t hipFuncGetAttribute(int* value, hipFunction_attribute attribute,
                               hipFunction_t handle) {
  if (value == nullptr) return told(hipErrorInvalidValue);
  const Locked locked;
  const auto [module, function] = find_function(handle);
  if (function == nullptr) return told(hipErrorInvalidHandle);
  const Program& program = *function->program;
  const int lds = static_cast<int>(program.lds_bytes);
  switch (attribute) {
    case HIP_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
      *value = static_cast<int>(max_threads(*function));
      return hipSuccess;
    case HIP_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES: *value = lds; return hipSuccess;
    case HIP_FUNC_ATTRIBUTE_CONST_SIZE_BYTES: *value = 0; return hipSuccess;
    case HIP_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES:
      *value = static_cast<int>(program.scratch_bytes);
      return hipSuccess;
    case HIP_FUNC_ATTRIBUTE_NUM_REGS: *value = static_cast<int>(program.vgprs); return hipSuccess;
    case HIP_FUNC_ATTRIBUTE_BINARY_VERSION:
      *value = 90 + module->device->minor;
      return hipSuccess;
    case HIP_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES:
      *value = module->device->lds_bytes - lds;
      return hipSuccess;
  }
  return told(hipErrorInvalidValue);
}

// What a caller passes as arguments: a packed buffer in `extra`, or a pointer to each.
struct GivenArguments {
  const u8* buffer;
  u64 bytes;
  void** each;
};

static hipError_t read_arguments(void** parameters, void** extra, GivenArguments& out) {
  out = {nullptr, 0, parameters};
  if (extra == nullptr) return hipSuccess;
  if (parameters != nullptr) return hipErrorInvalidValue;
  for (int i = 0; reinterpret_cast<uintptr_t>(extra[i]) != HIP_LAUNCH_PARAM_END; i += 2) {
    const uintptr_t key = reinterpret_cast<uintptr_t>(extra[i]);
    if (extra[i + 1] == nullptr) return hipErrorInvalidValue;
    if (key == HIP_LAUNCH_PARAM_BUFFER_POINTER) {
      out.buffer = static_cast<const u8*>(extra[i + 1]);
    } else if (key == HIP_LAUNCH_PARAM_BUFFER_SIZE) {
      out.bytes = *static_cast<const size_t*>(extra[i + 1]);
    } else {
      return hipErrorInvalidValue;
    }
  }
  return out.bytes != 0 && out.buffer == nullptr ? hipErrorInvalidValue : hipSuccess;
}

// Fills the segment of `bytes` with what the caller gave; false where that does not fit.
static bool copy_arguments(u8* segment, u64 bytes, const Function& function,
                           const GivenArguments& given) {
  const KernelMetadata& kernel = function.metadata;
  if (given.each == nullptr) {
    if (given.bytes > bytes || given.bytes < given_bytes(kernel)) return false;
    if (given.bytes != 0) host_memcpy(segment, given.buffer, given.bytes);
    return true;
  }
  u64 next = 0;
  for (const Argument& argument : kernel.arguments) {
    if (argument.kind != ArgumentKind::given) continue;
    const void* value = given.each[next++];
    if (value == nullptr || u64{argument.offset} + argument.bytes > bytes) return false;
    host_memcpy(segment + argument.offset, value, argument.bytes);
  }
  return kernel.present;
}

static hipError_t check_shape(const Found& kernel, const Shape& shape) {
  constexpr u64 most_lanes = 1ull << 32;
  u64 threads = 1;
  for (int axis = 0; axis < 3; ++axis) {
    if (shape.grid[axis] == 0 || shape.block[axis] == 0) return hipErrorInvalidValue;
    threads *= shape.block[axis];
    if (threads > device::max_threads) return hipErrorInvalidValue;
    if (u64{shape.grid[axis]} * shape.block[axis] >= most_lanes) {
      return hipErrorInvalidConfiguration;
    }
  }
  if (shape.groups() > most_lanes) return hipErrorInvalidConfiguration;
  const u64 lds = u64{shape.dynamic_lds} + kernel.function->program->lds_bytes;
  if (lds > static_cast<u64>(kernel.module->device->lds_bytes)) return hipErrorInvalidValue;
  return threads > max_threads(*kernel.function) ? hipErrorLaunchFailure : hipSuccess;
}

// Memory that exists for one launch, in one piece: packet, queue and argument segment.
struct LaunchMemory {
  DispatchPacket packet;
  HsaQueue queue;
  u8 segment[];
};

static void describe(LaunchMemory& memory, const Program& program, const Shape& shape) {
  DispatchPacket& packet = memory.packet;
  packet.setup = static_cast<u16>(shape.dimensions());
  for (int axis = 0; axis < 3; ++axis) {
    packet.workgroup_size[axis] = static_cast<u16>(shape.block[axis]);
    packet.grid_size[axis] = shape.grid[axis] * shape.block[axis];
  }
  packet.private_segment_bytes = program.scratch_bytes;
  packet.group_segment_bytes = program.lds_bytes + shape.dynamic_lds;
  packet.kernel_object = reinterpret_cast<u64>(program.text);
  packet.arguments = reinterpret_cast<u64>(memory.segment);
  memory.queue.group_segment_aperture_high = aperture::shared_base >> 32;
  memory.queue.private_segment_aperture_high = aperture::private_base >> 32;
}

static hipError_t error_of(const Array<Fault>& faults) {
  constexpr u32 illegal_address =
      bit(FaultKind::global_out_of_range) | bit(FaultKind::buffer_out_of_range) |
      bit(FaultKind::lds_out_of_range) | bit(FaultKind::scratch_out_of_range);
  if (faults.size() == 0) return hipSuccess;
  for (const Fault& fault : faults) {
    if (illegal_address >> fault.kind & 1) return hipErrorIllegalAddress;
  }
  return hipErrorLaunchFailure;
}

static hipError_t launch_with(const Found& kernel, const Shape& shape, LaunchMemory& memory,
                              u64 segment_bytes) {
  const u64 base = reinterpret_cast<u64>(&memory);
  const u64 queue = reinterpret_cast<u64>(&memory.queue);
  const u64 segment = reinterpret_cast<u64>(memory.segment);
  describe(memory, *kernel.function->program, shape);
  write_hidden(memory.segment, segment_bytes, kernel.function->metadata, shape, queue);
  Allocations& reachable = runtime.memory;
  const LaunchRequest request{
      kernel.function->program, kernel.module->device->arch, &reachable, &kernel.module->rows,
      shape, {base, queue, segment, 0}};
  bool ready = reachable.add(base, sizeof memory, Access::read, "dispatch packet");
  ready &= reachable.add(segment, segment_bytes, Access::read, "kernel arguments");
  const bool ran = ready && runtime.launcher.run(request, options(), runtime.results);
  reachable.remove(base);
  reachable.remove(segment);
  if (!ran) return hipErrorOutOfMemory;
  const hipError_t error = error_of(runtime.results.faults.faults());
  if (error != hipSuccess) runtime.pending = error;
  return hipSuccess;
}

static hipError_t launch(const Found& kernel, const Shape& shape, const GivenArguments& given) {
  constexpr u64 granule = 16, alignment = 256;
  const u64 wanted = larger<u64>(kernel.function->program->kernarg_bytes,
                                 kernel.function->metadata.segment_bytes);
  const u64 segment_bytes = larger((wanted + granule - 1) / granule * granule, granule);
  void* room = nullptr;
  if (host_posix_memalign(&room, alignment, sizeof(LaunchMemory) + segment_bytes) != 0) {
    return hipErrorOutOfMemory;
  }
  host_memset(room, 0, sizeof(LaunchMemory) + segment_bytes);
  LaunchMemory& memory = *static_cast<LaunchMemory*>(room);
  hipError_t error = hipErrorInvalidValue;
  if (copy_arguments(memory.segment, segment_bytes, *kernel.function, given)) {
    error = launch_with(kernel, shape, memory, segment_bytes);
  }
  host_free(room);
  return error;
}

hipError_t hipModuleLaunchKernel(hipFunction_t function, unsigned grid_x, unsigned grid_y,
                                 unsigned grid_z, unsigned block_x, unsigned block_y,
                                 unsigned block_z, unsigned dynamic_lds, hipStream_t stream,
                                 void** parameters, void** extra) {
  const Shape shape{{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, dynamic_lds};
  const Locked locked;
  const Found kernel = find_function(function);
  if (kernel.function == nullptr || !is_stream(stream)) return told(hipErrorInvalidHandle);
  GivenArguments given;
  hipError_t error = read_arguments(parameters, extra, given);
  if (error == hipSuccess) error = check_shape(kernel, shape);
  if (error == hipSuccess) error = launch(kernel, shape, given);
  return told(error);
}
