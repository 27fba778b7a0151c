// SPDX-License-Identifier: MIT
// The table of everything that touches memory or waits for it.
#pragma once

#include "emulator/handlers.h"
#include "emulator/memory/ds.h"
#include "emulator/memory/lds_dma.h"
#include "emulator/memory/scalar_memory.h"

namespace aiter_moe::emulator {

// Caches are coherent here.
inline void cache_control(Wave&, const Instruction&) {}

inline constexpr HandlerEntry memory_entries[] = {
    {"s_waitcnt", s_waitcnt},
    {"s_load_dword", s_load<1>},
    {"s_load_dwordx2", s_load<2>},
    {"s_load_dwordx4", s_load<4>},
    {"s_load_dwordx8", s_load<8>},
    {"s_load_dwordx16", s_load<16>},
    {"s_buffer_load_dword", s_buffer_load<1>},
    {"s_buffer_load_dwordx2", s_buffer_load<2>},
    {"s_buffer_load_dwordx4", s_buffer_load<4>},
    {"s_buffer_load_dwordx8", s_buffer_load<8>},
    {"s_buffer_load_dwordx16", s_buffer_load<16>},
    {"s_memtime", s_memtime},
    {"s_memrealtime", s_memtime},
    {"s_dcache_inv", s_dcache},
    {"s_dcache_inv_vol", s_dcache},
    {"s_dcache_wb", s_dcache},
    {"s_dcache_wb_vol", s_dcache},

#define AITER_MOE_LOADS_AND_STORES(prefix, load, store)        \
  {prefix "load_ubyte", load<widths::u8_>},                    \
  {prefix "load_sbyte", load<widths::i8_>},                    \
  {prefix "load_ushort", load<widths::u16_>},                  \
  {prefix "load_sshort", load<widths::i16_>},                  \
  {prefix "load_ubyte_d16", load<widths::u8_low>},             \
  {prefix "load_ubyte_d16_hi", load<widths::u8_high>},         \
  {prefix "load_sbyte_d16", load<widths::i8_low>},             \
  {prefix "load_sbyte_d16_hi", load<widths::i8_high>},         \
  {prefix "load_short_d16", load<widths::u16_low>},            \
  {prefix "load_short_d16_hi", load<widths::u16_high>},        \
  {prefix "load_dword", load<widths::b32>},                    \
  {prefix "load_dwordx2", load<widths::b64>},                  \
  {prefix "load_dwordx3", load<widths::b96>},                  \
  {prefix "load_dwordx4", load<widths::b128>},                 \
  {prefix "store_byte", store<widths::u8_>},                   \
  {prefix "store_byte_d16_hi", store<widths::u8_high>},        \
  {prefix "store_short", store<widths::u16_>},                 \
  {prefix "store_short_d16_hi", store<widths::u16_high>},      \
  {prefix "store_dword", store<widths::b32>},                  \
  {prefix "store_dwordx2", store<widths::b64>},                \
  {prefix "store_dwordx3", store<widths::b96>},                \
  {prefix "store_dwordx4", store<widths::b128>}

    AITER_MOE_LOADS_AND_STORES("global_", vector_load, vector_store),
    AITER_MOE_LOADS_AND_STORES("flat_", vector_load, vector_store),
    AITER_MOE_LOADS_AND_STORES("scratch_", vector_load, vector_store),
    AITER_MOE_LOADS_AND_STORES("buffer_", buffer_load, buffer_store),
#undef AITER_MOE_LOADS_AND_STORES

    {"global_load_lds_ubyte", global_load_lds<widths::u8_>},
    {"global_load_lds_sbyte", global_load_lds<widths::i8_>},
    {"global_load_lds_ushort", global_load_lds<widths::u16_>},
    {"global_load_lds_sshort", global_load_lds<widths::i16_>},
    {"global_load_lds_dword", global_load_lds<widths::b32>},
    {"global_load_lds_dwordx3", global_load_lds<widths::b96>},
    {"global_load_lds_dwordx4", global_load_lds<widths::b128>},

    {"buffer_inv", cache_control},
    {"buffer_wbl2", cache_control},

    {"ds_read_u8", ds_read<widths::u8_>},
    {"ds_read_i8", ds_read<widths::i8_>},
    {"ds_read_u16", ds_read<widths::u16_>},
    {"ds_read_i16", ds_read<widths::i16_>},
    {"ds_read_u8_d16", ds_read<widths::u8_low>},
    {"ds_read_u8_d16_hi", ds_read<widths::u8_high>},
    {"ds_read_i8_d16", ds_read<widths::i8_low>},
    {"ds_read_i8_d16_hi", ds_read<widths::i8_high>},
    {"ds_read_u16_d16", ds_read<widths::u16_low>},
    {"ds_read_u16_d16_hi", ds_read<widths::u16_high>},
    {"ds_read_b32", ds_read<widths::b32>},
    {"ds_read_b64", ds_read<widths::b64>},
    {"ds_read_b96", ds_read<widths::b96>},
    {"ds_read_b128", ds_read<widths::b128>},
    {"ds_read2_b32", ds_read2<widths::b32, 1>},
    {"ds_read2_b64", ds_read2<widths::b64, 1>},
    {"ds_read2st64_b32", ds_read2<widths::b32, 64>},
    {"ds_read2st64_b64", ds_read2<widths::b64, 64>},
    {"ds_write_b8", ds_write<widths::u8_>},
    {"ds_write_b8_d16_hi", ds_write<widths::u8_high>},
    {"ds_write_b16", ds_write<widths::u16_>},
    {"ds_write_b16_d16_hi", ds_write<widths::u16_high>},
    {"ds_write_b32", ds_write<widths::b32>},
    {"ds_write_b64", ds_write<widths::b64>},
    {"ds_write_b96", ds_write<widths::b96>},
    {"ds_write_b128", ds_write<widths::b128>},
    {"ds_write2_b32", ds_write2<widths::b32, 1>},
    {"ds_write2_b64", ds_write2<widths::b64, 1>},
    {"ds_write2st64_b32", ds_write2<widths::b32, 64>},
    {"ds_write2st64_b64", ds_write2<widths::b64, 64>},
};

inline constexpr HandlerTable memory_handlers = table_of(memory_entries);

}  // namespace aiter_moe::emulator
