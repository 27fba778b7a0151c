// SPDX-License-Identifier: MIT
// Which function executes which instruction on packed words: halves, pairs, dot products.
#pragma once

#include "emulator/exec/vector_bits.h"
#include "emulator/exec/vector_dot.h"
#include "emulator/exec/vector_packed.h"
#include "emulator/handlers.h"

namespace aiter_moe::emulator::vector {

constexpr HandlerEntry packed_entries[] = {
    {"v_pk_add_u16", packed_halves_saturating<add<u16>, add_saturating<u16>>},
    {"v_pk_sub_u16", packed_halves_saturating<subtract<u16>, subtract_saturating<u16>>},
    {"v_pk_add_i16", packed_halves_saturating<add<i16>, add_saturating<i16>>},
    {"v_pk_sub_i16", packed_halves_saturating<subtract<i16>, subtract_saturating<i16>>},
    {"v_pk_mad_u16", packed_halves_saturating<multiply_add<u16>, multiply_add_saturating<u16>>},
    {"v_pk_mad_i16", packed_halves_saturating<multiply_add<i16>, multiply_add_saturating<i16>>},
    {"v_pk_mul_lo_u16", packed_halves<multiply<u16>>},
    {"v_pk_min_u16", packed_halves<smaller<u16>>},
    {"v_pk_max_u16", packed_halves<larger<u16>>},
    {"v_pk_min_i16", packed_halves<smaller<i16>>},
    {"v_pk_max_i16", packed_halves<larger<i16>>},
    {"v_pk_lshlrev_b16", packed_halves<shift_left_half<u16>>},
    {"v_pk_lshrrev_b16", packed_halves<shift_right_half<u16>>},
    {"v_pk_ashrrev_i16", packed_halves<shift_right_half<i16>>},
    {"v_pk_add_f16", packed_halves<add_float<Half>>},
    {"v_pk_mul_f16", packed_halves<multiply_float<Half>>},
    {"v_pk_fma_f16", packed_halves<fused<Half>>},
    {"v_pk_fmac_f16", packed_accumulate},
    {"v_pk_min_f16", packed_ieee<min_ieee<Half>, min_float<Half>>},
    {"v_pk_max_f16", packed_ieee<max_ieee<Half>, max_float<Half>>},
    {"v_pk_minimum3_f16", packed_halves<over_three<Half, minimum_float<Half>>>},
    {"v_pk_maximum3_f16", packed_halves<over_three<Half, maximum_float<Half>>>},
    {"v_pk_add_f32", packed_words_of<add_float<f32>>},
    {"v_pk_mul_f32", packed_words_of<multiply_float<f32>>},
    {"v_pk_fma_f32", packed_words_of<fused<f32>>},
    {"v_pk_mov_b32", move_words},
    {"v_fma_mix_f32", mixed_to_float},
    {"v_fma_mixlo_f16", mixed_to_half<false>},
    {"v_fma_mixhi_f16", mixed_to_half<true>},
    {"v_dot2_f32_f16", dot_floats<dot_halves>},
    {"v_dot2_f32_bf16", dot_floats<dot_bfloats>},
    {"v_dot2_i32_i16", dot_words<i32, 16>},
    {"v_dot2_u32_u16", dot_words<u32, 16>},
    {"v_dot4_i32_i8", dot_words<i32, 8>},
    {"v_dot4_u32_u8", dot_words<u32, 8>},
    {"v_dot8_i32_i4", dot_words<i32, 4>},
    {"v_dot8_u32_u4", dot_words<u32, 4>},
    {"v_dot2c_f32_f16", run<dot_halves>},
    {"v_dot2c_f32_bf16", run<dot_bfloats>},
    {"v_dot2c_i32_i16", run_saturating<dot<i32, 16>, dot_saturating<i32, 16>>},
    {"v_dot4c_i32_i8", run_saturating<dot<i32, 8>, dot_saturating<i32, 8>>},
    {"v_dot8c_i32_i4", run_saturating<dot<i32, 4>, dot_saturating<i32, 4>>},
};

}  // namespace aiter_moe::emulator::vector
