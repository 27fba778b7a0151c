// SPDX-License-Identifier: MIT
// Which function executes which scalar instruction. Not here: s_waitcnt and scalar loads
// (memory/), and what no HIP kernel contains: forks and joins, s_rfe, s_setvskip, messages.
#pragma once

#include "emulator/exec/scalar_alu.h"
#include "emulator/exec/scalar_flow.h"
#include "emulator/exec/scalar_hardware.h"
#include "emulator/exec/scalar_index.h"
#include "emulator/exec/scalar_masks.h"
#include "emulator/exec/scalar_moves.h"
#include "emulator/handlers.h"

namespace aiter_moe::emulator {

namespace scalar {

constexpr HandlerEntry entries[] = {
    // Moves
    {"s_mov_b32", copy<u32>},
    {"s_mov_b64", copy<u64>},
    {"s_cmov_b32", move_if<u32>},
    {"s_cmov_b64", move_if<u64>},
    {"s_cselect_b32", select<u32>},
    {"s_cselect_b64", select<u64>},
    {"s_movk_i32", move_immediate},
    {"s_cmovk_i32", move_immediate_if},
    {"s_movrels_b32", move_relative_source<u32>},
    {"s_movrels_b64", move_relative_source<u64>},
    {"s_movreld_b32", move_relative_destination<u32>},
    {"s_movreld_b64", move_relative_destination<u64>},
    {"s_pack_ll_b32_b16", value<pack_low_low>},
    {"s_pack_lh_b32_b16", value<pack_low_high>},
    {"s_pack_hh_b32_b16", value<pack_high_high>},
    {"s_sext_i32_i8", value<extend_byte>},
    {"s_sext_i32_i16", value<extend_half>},

    // Arithmetic
    {"s_add_u32", flagged<add_unsigned>},
    {"s_sub_u32", flagged<subtract_unsigned>},
    {"s_add_i32", flagged<add_signed>},
    {"s_sub_i32", flagged<subtract_signed>},
    {"s_addc_u32", add_with_carry},
    {"s_subb_u32", subtract_with_borrow},
    {"s_addk_i32", flagged_immediate<add_signed>},
    {"s_mulk_i32", value_immediate<multiply>},
    {"s_mul_i32", value<multiply>},
    {"s_mul_hi_u32", value<multiply_high_unsigned>},
    {"s_mul_hi_i32", value<multiply_high_signed>},
    {"s_lshl1_add_u32", flagged<shift_add<1>>},
    {"s_lshl2_add_u32", flagged<shift_add<2>>},
    {"s_lshl3_add_u32", flagged<shift_add<3>>},
    {"s_lshl4_add_u32", flagged<shift_add<4>>},
    {"s_min_i32", flagged<minimum<i32>>},
    {"s_min_u32", flagged<minimum<u32>>},
    {"s_max_i32", flagged<maximum<i32>>},
    {"s_max_u32", flagged<maximum<u32>>},
    {"s_abs_i32", value_scc<absolute>},
    {"s_absdiff_i32", value_scc<absolute_difference>},

    // Bitwise
    {"s_not_b32", value_scc<bit_not<u32>>},
    {"s_not_b64", value_scc<bit_not<u64>>},
    {"s_and_b32", value_scc<bit_and<u32>>},
    {"s_and_b64", value_scc<bit_and<u64>>},
    {"s_or_b32", value_scc<bit_or<u32>>},
    {"s_or_b64", value_scc<bit_or<u64>>},
    {"s_xor_b32", value_scc<bit_xor<u32>>},
    {"s_xor_b64", value_scc<bit_xor<u64>>},
    {"s_andn2_b32", value_scc<bit_and_not<u32>>},
    {"s_andn2_b64", value_scc<bit_and_not<u64>>},
    {"s_orn2_b32", value_scc<bit_or_not<u32>>},
    {"s_orn2_b64", value_scc<bit_or_not<u64>>},
    {"s_nand_b32", value_scc<bit_nand<u32>>},
    {"s_nand_b64", value_scc<bit_nand<u64>>},
    {"s_nor_b32", value_scc<bit_nor<u32>>},
    {"s_nor_b64", value_scc<bit_nor<u64>>},
    {"s_xnor_b32", value_scc<bit_xnor<u32>>},
    {"s_xnor_b64", value_scc<bit_xnor<u64>>},
    {"s_lshl_b32", value_scc<shift_left<u32>>},
    {"s_lshl_b64", value_scc<shift_left<u64>>},
    {"s_lshr_b32", value_scc<shift_right<u32>>},
    {"s_lshr_b64", value_scc<shift_right<u64>>},
    {"s_ashr_i32", value_scc<shift_right<i32>>},
    {"s_ashr_i64", value_scc<shift_right<i64>>},
    {"s_bfm_b32", value<mask_at<u32>>},
    {"s_bfm_b64", value<mask_at<u64>>},
    {"s_bfe_u32", value_scc<extract_unsigned<u32>>},
    {"s_bfe_u64", value_scc<extract_unsigned<u64>>},
    {"s_bfe_i32", value_scc<extract_signed<i32>>},
    {"s_bfe_i64", value_scc<extract_signed<i64>>},
    {"s_brev_b32", value<reverse<u32>>},
    {"s_brev_b64", value<reverse<u64>>},
    {"s_bcnt0_i32_b32", value_scc<zeros<u32>>},
    {"s_bcnt0_i32_b64", value_scc<zeros<u64>>},
    {"s_bcnt1_i32_b32", value_scc<ones<u32>>},
    {"s_bcnt1_i32_b64", value_scc<ones<u64>>},
    {"s_ff0_i32_b32", value<first_zero<u32>>},
    {"s_ff0_i32_b64", value<first_zero<u64>>},
    {"s_ff1_i32_b32", value<first_one<u32>>},
    {"s_ff1_i32_b64", value<first_one<u64>>},
    {"s_flbit_i32_b32", value<leading_zeros<u32>>},
    {"s_flbit_i32_b64", value<leading_zeros<u64>>},
    {"s_flbit_i32", value<leading_sign_bits<i32, u32>>},
    {"s_flbit_i32_i64", value<leading_sign_bits<i64, u64>>},
    {"s_bitset0_b32", write_bit<u32, false>},
    {"s_bitset0_b64", write_bit<u64, false>},
    {"s_bitset1_b32", write_bit<u32, true>},
    {"s_bitset1_b64", write_bit<u64, true>},
    {"s_bitreplicate_b64_b32", value<replicate>},
    {"s_quadmask_b32", value_scc<quads<u32>>},
    {"s_quadmask_b64", value_scc<quads<u64>>},
    {"s_wqm_b32", value_scc<whole_quads<u32>>},
    {"s_wqm_b64", value_scc<whole_quads<u64>>},

    // EXEC
    {"s_and_saveexec_b64", save_exec<bit_and<u64>>},
    {"s_or_saveexec_b64", save_exec<bit_or<u64>>},
    {"s_xor_saveexec_b64", save_exec<bit_xor<u64>>},
    {"s_andn2_saveexec_b64", save_exec<bit_and_not<u64>>},
    {"s_orn2_saveexec_b64", save_exec<bit_or_not<u64>>},
    {"s_nand_saveexec_b64", save_exec<bit_nand<u64>>},
    {"s_nor_saveexec_b64", save_exec<bit_nor<u64>>},
    {"s_xnor_saveexec_b64", save_exec<bit_xnor<u64>>},
    {"s_andn1_saveexec_b64", save_exec<not_and>},
    {"s_orn1_saveexec_b64", save_exec<not_or>},
    {"s_andn1_wrexec_b64", write_exec<not_and>},
    {"s_andn2_wrexec_b64", write_exec<bit_and_not<u64>>},

    // Comparisons
    {"s_cmp_eq_i32", compare<equal<u32>>},
    {"s_cmp_eq_u32", compare<equal<u32>>},
    {"s_cmp_eq_u64", compare<equal<u64>>},
    {"s_cmp_lg_i32", compare<unequal<u32>>},
    {"s_cmp_lg_u32", compare<unequal<u32>>},
    {"s_cmp_lg_u64", compare<unequal<u64>>},
    {"s_cmp_gt_i32", compare<greater<i32>>},
    {"s_cmp_gt_u32", compare<greater<u32>>},
    {"s_cmp_ge_i32", compare<greater_equal<i32>>},
    {"s_cmp_ge_u32", compare<greater_equal<u32>>},
    {"s_cmp_lt_i32", compare<less<i32>>},
    {"s_cmp_lt_u32", compare<less<u32>>},
    {"s_cmp_le_i32", compare<less_equal<i32>>},
    {"s_cmp_le_u32", compare<less_equal<u32>>},
    {"s_bitcmp0_b32", compare<bit_is_clear<u32>>},
    {"s_bitcmp0_b64", compare<bit_is_clear<u64>>},
    {"s_bitcmp1_b32", compare<bit_is_set<u32>>},
    {"s_bitcmp1_b64", compare<bit_is_set<u64>>},
    {"s_cmpk_eq_i32", compare_immediate<equal<i32>>},
    {"s_cmpk_eq_u32", compare_immediate<equal<u32>>},
    {"s_cmpk_lg_i32", compare_immediate<unequal<i32>>},
    {"s_cmpk_lg_u32", compare_immediate<unequal<u32>>},
    {"s_cmpk_gt_i32", compare_immediate<greater<i32>>},
    {"s_cmpk_gt_u32", compare_immediate<greater<u32>>},
    {"s_cmpk_ge_i32", compare_immediate<greater_equal<i32>>},
    {"s_cmpk_ge_u32", compare_immediate<greater_equal<u32>>},
    {"s_cmpk_lt_i32", compare_immediate<less<i32>>},
    {"s_cmpk_lt_u32", compare_immediate<less<u32>>},
    {"s_cmpk_le_i32", compare_immediate<less_equal<i32>>},
    {"s_cmpk_le_u32", compare_immediate<less_equal<u32>>},

    // Hardware registers
    {"s_getreg_b32", get_register},
    {"s_setreg_b32", set_register},
    {"s_setreg_imm32_b32", set_register_immediate},

    // Index mode
    {"s_set_gpr_idx_on", index_on},
    {"s_set_gpr_idx_off", index_off},
    {"s_set_gpr_idx_idx", index_index},
    {"s_set_gpr_idx_mode", index_mode},

    // Control flow
    {"s_branch", jump},
    {"s_cbranch_scc0", jump_scc<false>},
    {"s_cbranch_scc1", jump_scc<true>},
    {"s_cbranch_vccz", jump_vccz<true>},
    {"s_cbranch_vccnz", jump_vccz<false>},
    {"s_cbranch_execz", jump_execz<true>},
    {"s_cbranch_execnz", jump_execz<false>},
    {"s_getpc_b64", get_pc},
    {"s_setpc_b64", set_pc},
    {"s_swappc_b64", swap_pc},
    {"s_call_b64", call},
    {"s_barrier", barrier},
    {"s_endpgm", end_program},
    {"s_endpgm_saved", end_program},
    {"s_trap", trap},
    {"s_sethalt", halt},
    {"s_nop", timing_only},
    {"s_sleep", timing_only},
    {"s_wakeup", timing_only},
    {"s_setprio", timing_only},
    {"s_icache_inv", timing_only},
    {"s_incperflevel", timing_only},
    {"s_decperflevel", timing_only},
    {"s_ttracedata", timing_only},
};

}  // namespace scalar

constexpr HandlerTable scalar_handlers = table_of(scalar::entries);

}  // namespace aiter_moe::emulator
