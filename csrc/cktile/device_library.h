// SPDX-License-Identifier: MIT
// The functions of ROCm's device library that HIP's headers call, for compiles without it
// (-nogpulib). They must be inline: the results of calls count as divergent, and every buffer
// access of a divergent descriptor becomes a loop.
#pragma once

#define AITER_MOE_LIBRARY extern "C" __attribute__((device, always_inline, const)) inline

AITER_MOE_LIBRARY unsigned long __ockl_get_local_id(unsigned dimension) {
  return dimension == 0   ? __builtin_amdgcn_workitem_id_x()
         : dimension == 1 ? __builtin_amdgcn_workitem_id_y()
                          : __builtin_amdgcn_workitem_id_z();
}
AITER_MOE_LIBRARY unsigned long __ockl_get_group_id(unsigned dimension) {
  return dimension == 0   ? __builtin_amdgcn_workgroup_id_x()
         : dimension == 1 ? __builtin_amdgcn_workgroup_id_y()
                          : __builtin_amdgcn_workgroup_id_z();
}
AITER_MOE_LIBRARY unsigned long __ockl_get_local_size(unsigned dimension) {
  return dimension == 0   ? __builtin_amdgcn_workgroup_size_x()
         : dimension == 1 ? __builtin_amdgcn_workgroup_size_y()
                          : __builtin_amdgcn_workgroup_size_z();
}
AITER_MOE_LIBRARY unsigned long __ockl_get_num_groups(unsigned dimension) {
  const unsigned size = dimension == 0   ? __builtin_amdgcn_grid_size_x()
                        : dimension == 1 ? __builtin_amdgcn_grid_size_y()
                                         : __builtin_amdgcn_grid_size_z();
  return size / static_cast<unsigned>(__ockl_get_local_size(dimension));
}
AITER_MOE_LIBRARY unsigned __ockl_mul_hi_u32(unsigned a, unsigned b) {
  return static_cast<unsigned>((static_cast<unsigned long>(a) * b) >> 32);
}

#undef AITER_MOE_LIBRARY
