// SPDX-License-Identifier: MIT
// Which function executes which matrix instruction.
#pragma once

#include "emulator/exec/matrix_dense.h"
#include "emulator/exec/matrix_double.h"
#include "emulator/exec/matrix_scaled.h"
#include "emulator/exec/matrix_sparse.h"
#include "emulator/handlers.h"

namespace aiter_moe::emulator {

namespace matrix {

// Names carry rows x columns x depth; "_4b" and the like count blocks.
template <Element element, u8 edge, u8 depth, u8 blocks = 1>
constexpr Instruction::Handler same = dense<DenseShape{element, element, edge, depth, blocks}>;

template <Element a, Element b, u8 edge, u8 depth>
constexpr Instruction::Handler mixed = dense<DenseShape{a, b, edge, depth, 1}>;

template <Element a, Element b, u8 edge, u8 depth>
constexpr Instruction::Handler halved = sparse<SparseShape{a, b, edge, depth}>;

constexpr HandlerEntry entries[] = {
    {"v_mfma_f32_32x32x1_2b_f32", same<Element::f32, 32, 1, 2>},
    {"v_mfma_f32_16x16x1_4b_f32", same<Element::f32, 16, 1, 4>},
    {"v_mfma_f32_4x4x1_16b_f32", same<Element::f32, 4, 1, 16>},
    {"v_mfma_f32_32x32x2_f32", same<Element::f32, 32, 2>},
    {"v_mfma_f32_16x16x4_f32", same<Element::f32, 16, 4>},
    {"v_mfma_f32_16x16x8_xf32", same<Element::xf32, 16, 8>},
    {"v_mfma_f32_32x32x4_xf32", same<Element::xf32, 32, 4>},

    {"v_mfma_f32_32x32x4_2b_f16", same<Element::f16, 32, 4, 2>},
    {"v_mfma_f32_16x16x4_4b_f16", same<Element::f16, 16, 4, 4>},
    {"v_mfma_f32_4x4x4_16b_f16", same<Element::f16, 4, 4, 16>},
    {"v_mfma_f32_32x32x8_f16", same<Element::f16, 32, 8>},
    {"v_mfma_f32_16x16x16_f16", same<Element::f16, 16, 16>},
    {"v_mfma_f32_32x32x16_f16", same<Element::f16, 32, 16>},
    {"v_mfma_f32_16x16x32_f16", same<Element::f16, 16, 32>},

    {"v_mfma_f32_32x32x4_2b_bf16", same<Element::bf16, 32, 4, 2>},
    {"v_mfma_f32_16x16x4_4b_bf16", same<Element::bf16, 16, 4, 4>},
    {"v_mfma_f32_4x4x4_16b_bf16", same<Element::bf16, 4, 4, 16>},
    {"v_mfma_f32_32x32x8_bf16", same<Element::bf16, 32, 8>},
    {"v_mfma_f32_16x16x16_bf16", same<Element::bf16, 16, 16>},
    {"v_mfma_f32_32x32x16_bf16", same<Element::bf16, 32, 16>},
    {"v_mfma_f32_16x16x32_bf16", same<Element::bf16, 16, 32>},

    {"v_mfma_f32_16x16x32_fp8_fp8", mixed<Element::fp8, Element::fp8, 16, 32>},
    {"v_mfma_f32_16x16x32_fp8_bf8", mixed<Element::fp8, Element::bf8, 16, 32>},
    {"v_mfma_f32_16x16x32_bf8_fp8", mixed<Element::bf8, Element::fp8, 16, 32>},
    {"v_mfma_f32_16x16x32_bf8_bf8", mixed<Element::bf8, Element::bf8, 16, 32>},
    {"v_mfma_f32_32x32x16_fp8_fp8", mixed<Element::fp8, Element::fp8, 32, 16>},
    {"v_mfma_f32_32x32x16_fp8_bf8", mixed<Element::fp8, Element::bf8, 32, 16>},
    {"v_mfma_f32_32x32x16_bf8_fp8", mixed<Element::bf8, Element::fp8, 32, 16>},
    {"v_mfma_f32_32x32x16_bf8_bf8", mixed<Element::bf8, Element::bf8, 32, 16>},

    {"v_mfma_i32_32x32x4_2b_i8", same<Element::i8, 32, 4, 2>},
    {"v_mfma_i32_16x16x4_4b_i8", same<Element::i8, 16, 4, 4>},
    {"v_mfma_i32_4x4x4_16b_i8", same<Element::i8, 4, 4, 16>},
    {"v_mfma_i32_32x32x16_i8", same<Element::i8, 32, 16>},
    {"v_mfma_i32_16x16x32_i8", same<Element::i8, 16, 32>},
    {"v_mfma_i32_32x32x32_i8", same<Element::i8, 32, 32>},
    {"v_mfma_i32_16x16x64_i8", same<Element::i8, 16, 64>},

    {"v_mfma_f32_16x16x128_f8f6f4", scaled<16>},
    {"v_mfma_f32_32x32x64_f8f6f4", scaled<32>},
    {"v_mfma_scale_f32_16x16x128_f8f6f4", scaled<16>},
    {"v_mfma_scale_f32_32x32x64_f8f6f4", scaled<32>},

    {"v_mfma_f64_16x16x4_f64", doubles<16>},
    {"v_mfma_f64_4x4x4_4b_f64", doubles<4>},

    {"v_smfmac_f32_16x16x32_f16", halved<Element::f16, Element::f16, 16, 32>},
    {"v_smfmac_f32_16x16x32_bf16", halved<Element::bf16, Element::bf16, 16, 32>},
    {"v_smfmac_f32_32x32x16_f16", halved<Element::f16, Element::f16, 32, 16>},
    {"v_smfmac_f32_32x32x16_bf16", halved<Element::bf16, Element::bf16, 32, 16>},
    {"v_smfmac_f32_16x16x64_f16", halved<Element::f16, Element::f16, 16, 64>},
    {"v_smfmac_f32_16x16x64_bf16", halved<Element::bf16, Element::bf16, 16, 64>},
    {"v_smfmac_f32_32x32x32_f16", halved<Element::f16, Element::f16, 32, 32>},
    {"v_smfmac_f32_32x32x32_bf16", halved<Element::bf16, Element::bf16, 32, 32>},
    {"v_smfmac_i32_16x16x64_i8", halved<Element::i8, Element::i8, 16, 64>},
    {"v_smfmac_i32_32x32x32_i8", halved<Element::i8, Element::i8, 32, 32>},
    {"v_smfmac_i32_16x16x128_i8", halved<Element::i8, Element::i8, 16, 128>},
    {"v_smfmac_i32_32x32x64_i8", halved<Element::i8, Element::i8, 32, 64>},
    {"v_smfmac_f32_16x16x64_fp8_fp8", halved<Element::fp8, Element::fp8, 16, 64>},
    {"v_smfmac_f32_16x16x64_fp8_bf8", halved<Element::fp8, Element::bf8, 16, 64>},
    {"v_smfmac_f32_16x16x64_bf8_fp8", halved<Element::bf8, Element::fp8, 16, 64>},
    {"v_smfmac_f32_16x16x64_bf8_bf8", halved<Element::bf8, Element::bf8, 16, 64>},
    {"v_smfmac_f32_32x32x32_fp8_fp8", halved<Element::fp8, Element::fp8, 32, 32>},
    {"v_smfmac_f32_32x32x32_fp8_bf8", halved<Element::fp8, Element::bf8, 32, 32>},
    {"v_smfmac_f32_32x32x32_bf8_fp8", halved<Element::bf8, Element::fp8, 32, 32>},
    {"v_smfmac_f32_32x32x32_bf8_bf8", halved<Element::bf8, Element::bf8, 32, 32>},
    {"v_smfmac_f32_16x16x128_fp8_fp8", halved<Element::fp8, Element::fp8, 16, 128>},
    {"v_smfmac_f32_16x16x128_fp8_bf8", halved<Element::fp8, Element::bf8, 16, 128>},
    {"v_smfmac_f32_16x16x128_bf8_fp8", halved<Element::bf8, Element::fp8, 16, 128>},
    {"v_smfmac_f32_16x16x128_bf8_bf8", halved<Element::bf8, Element::bf8, 16, 128>},
    {"v_smfmac_f32_32x32x64_fp8_fp8", halved<Element::fp8, Element::fp8, 32, 64>},
    {"v_smfmac_f32_32x32x64_fp8_bf8", halved<Element::fp8, Element::bf8, 32, 64>},
    {"v_smfmac_f32_32x32x64_bf8_fp8", halved<Element::bf8, Element::fp8, 32, 64>},
    {"v_smfmac_f32_32x32x64_bf8_bf8", halved<Element::bf8, Element::bf8, 32, 64>},
};

}  // namespace matrix

constexpr HandlerTable matrix_handlers = table_of(matrix::entries);

}  // namespace aiter_moe::emulator
