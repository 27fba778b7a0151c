// SPDX-License-Identifier: MIT
// The table of everything that touches memory or waits for it.
#pragma once

#include "emulator/handlers.h"
#include "emulator/memory/atomics.h"
#include "emulator/memory/ds_address_free.h"
#include "emulator/memory/ds_permute.h"
#include "emulator/memory/ds_transpose.h"
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

#define AITER_MOE_ATOMICS(prefix, atomic)                                            \
  {prefix "atomic_swap", atomic<AtomicOp::swap, 4>},                                 \
  {prefix "atomic_cmpswap", atomic<AtomicOp::compare_swap, 4>},                      \
  {prefix "atomic_add", atomic<AtomicOp::add, 4>},                                   \
  {prefix "atomic_sub", atomic<AtomicOp::subtract, 4>},                              \
  {prefix "atomic_smin", atomic<AtomicOp::min_signed, 4>},                           \
  {prefix "atomic_umin", atomic<AtomicOp::min_unsigned, 4>},                         \
  {prefix "atomic_smax", atomic<AtomicOp::max_signed, 4>},                           \
  {prefix "atomic_umax", atomic<AtomicOp::max_unsigned, 4>},                         \
  {prefix "atomic_and", atomic<AtomicOp::bit_and, 4>},                               \
  {prefix "atomic_or", atomic<AtomicOp::bit_or, 4>},                                 \
  {prefix "atomic_xor", atomic<AtomicOp::bit_xor, 4>},                               \
  {prefix "atomic_inc", atomic<AtomicOp::increment, 4>},                             \
  {prefix "atomic_dec", atomic<AtomicOp::decrement, 4>},                             \
  {prefix "atomic_swap_x2", atomic<AtomicOp::swap, 8>},                              \
  {prefix "atomic_cmpswap_x2", atomic<AtomicOp::compare_swap, 8>},                   \
  {prefix "atomic_add_x2", atomic<AtomicOp::add, 8>},                                \
  {prefix "atomic_sub_x2", atomic<AtomicOp::subtract, 8>},                           \
  {prefix "atomic_smin_x2", atomic<AtomicOp::min_signed, 8>},                        \
  {prefix "atomic_umin_x2", atomic<AtomicOp::min_unsigned, 8>},                      \
  {prefix "atomic_smax_x2", atomic<AtomicOp::max_signed, 8>},                        \
  {prefix "atomic_umax_x2", atomic<AtomicOp::max_unsigned, 8>},                      \
  {prefix "atomic_and_x2", atomic<AtomicOp::bit_and, 8>},                            \
  {prefix "atomic_or_x2", atomic<AtomicOp::bit_or, 8>},                              \
  {prefix "atomic_xor_x2", atomic<AtomicOp::bit_xor, 8>},                            \
  {prefix "atomic_inc_x2", atomic<AtomicOp::increment, 8>},                          \
  {prefix "atomic_dec_x2", atomic<AtomicOp::decrement, 8>},                          \
  {prefix "atomic_add_f32", atomic<AtomicOp::add_float, 4>},                         \
  {prefix "atomic_pk_add_f16", atomic<AtomicOp::add_half_pair, 4>},                  \
  {prefix "atomic_pk_add_bf16", atomic<AtomicOp::add_bfloat_pair, 4>},               \
  {prefix "atomic_add_f64", atomic<AtomicOp::add_float, 8>},                         \
  {prefix "atomic_min_f64", atomic<AtomicOp::min_float, 8>},                         \
  {prefix "atomic_max_f64", atomic<AtomicOp::max_float, 8>}

    AITER_MOE_ATOMICS("global_", vector_atomic),
    AITER_MOE_ATOMICS("flat_", vector_atomic),
    AITER_MOE_ATOMICS("buffer_", buffer_atomic),
#undef AITER_MOE_ATOMICS

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
    {"ds_read_addtid_b32", ds_read_addtid},
    {"ds_write_addtid_b32", ds_write_addtid},
    {"ds_nop", cache_control},

// An LDS atomic without and with its result; the type ends the name.
#define AITER_MOE_DS_ATOMIC(name, type, op, bytes)              \
  {"ds_" name "_" type, ds_atomic<AtomicOp::op, bytes>},        \
  {"ds_" name "_rtn_" type, ds_atomic_rtn<AtomicOp::op, bytes>}
#define AITER_MOE_DS_ATOMICS(bits, bytes)                                \
  AITER_MOE_DS_ATOMIC("add", "u" bits, add, bytes),                      \
  AITER_MOE_DS_ATOMIC("sub", "u" bits, subtract, bytes),                 \
  AITER_MOE_DS_ATOMIC("rsub", "u" bits, reverse_subtract, bytes),        \
  AITER_MOE_DS_ATOMIC("inc", "u" bits, increment, bytes),                \
  AITER_MOE_DS_ATOMIC("dec", "u" bits, decrement, bytes),                \
  AITER_MOE_DS_ATOMIC("min", "i" bits, min_signed, bytes),               \
  AITER_MOE_DS_ATOMIC("max", "i" bits, max_signed, bytes),               \
  AITER_MOE_DS_ATOMIC("min", "u" bits, min_unsigned, bytes),             \
  AITER_MOE_DS_ATOMIC("max", "u" bits, max_unsigned, bytes),             \
  AITER_MOE_DS_ATOMIC("and", "b" bits, bit_and, bytes),                  \
  AITER_MOE_DS_ATOMIC("or", "b" bits, bit_or, bytes),                    \
  AITER_MOE_DS_ATOMIC("xor", "b" bits, bit_xor, bytes),                  \
  AITER_MOE_DS_ATOMIC("mskor", "b" bits, mask_or, bytes),                \
  AITER_MOE_DS_ATOMIC("cmpst", "b" bits, compare_swap, bytes),           \
  AITER_MOE_DS_ATOMIC("cmpst", "f" bits, compare_swap_float, bytes),     \
  AITER_MOE_DS_ATOMIC("min", "f" bits, min_float, bytes),                \
  AITER_MOE_DS_ATOMIC("max", "f" bits, max_float, bytes),                \
  AITER_MOE_DS_ATOMIC("add", "f" bits, add_float, bytes),                \
  {"ds_wrxchg_rtn_b" bits, ds_atomic_rtn<AtomicOp::swap, bytes>}

    AITER_MOE_DS_ATOMICS("32", 4),
    AITER_MOE_DS_ATOMICS("64", 8),
    AITER_MOE_DS_ATOMIC("pk_add", "f16", add_half_pair, 4),
    AITER_MOE_DS_ATOMIC("pk_add", "bf16", add_bfloat_pair, 4),
#undef AITER_MOE_DS_ATOMICS
#undef AITER_MOE_DS_ATOMIC
    {"ds_wrap_rtn_b32", ds_atomic_rtn<AtomicOp::wrap, 4>},
    {"ds_wrxchg2_rtn_b32", ds_exchange2<widths::b32, 1>},
    {"ds_wrxchg2_rtn_b64", ds_exchange2<widths::b64, 1>},
    {"ds_wrxchg2st64_rtn_b32", ds_exchange2<widths::b32, 64>},
    {"ds_wrxchg2st64_rtn_b64", ds_exchange2<widths::b64, 64>},

    {"ds_permute_b32", ds_permute_b32},
    {"ds_bpermute_b32", ds_bpermute_b32},
    {"ds_swizzle_b32", ds_swizzle_b32},

    {"ds_read_b64_tr_b16", ds_read_transposed<16, 8>},
    {"ds_read_b64_tr_b8", ds_read_transposed<8, 8>},
    {"ds_read_b64_tr_b4", ds_read_transposed<4, 8>},
    {"ds_read_b96_tr_b6", ds_read_transposed<6, 12>},
};

inline constexpr HandlerTable memory_handlers = table_of(memory_entries);

}  // namespace aiter_moe::emulator
