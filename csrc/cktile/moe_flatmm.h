// SPDX-License-Identifier: MIT
// Composable Kernel's MoE flatmm (bf16 x MXFP4) behind our stage arguments: types for one tile,
// and its kernel arguments filled from ours. What the kernel computes is CK's; which problems it
// may be given is codegen/cktile/rules.py.
#pragma once

#if defined(AITER_MOE_WITHOUT_DEVICE_LIBRARY)
#include "cktile/device_library.h"
#endif

// In this order: CK's headers use names of these two without including them.
#include <cassert>
#include <ck_tile/core.hpp>
#include <ck_tile/host/kernel_launch.hpp>

#include <ck_tile/ops/epilogue.hpp>
#include <ck_tile/ops/flatmm.hpp>
#include <ck_tile/ops/gemm.hpp>
#include <ck_tile/ops/moe_flatmm.hpp>

#include "common/stage_args.h"
#include "hip/activation.h"
#include "hip/runtime.h"

namespace aiter_moe::cktile {

// The arguments of the kernel that is running, where CK gives its functors no way to get at them.
AITER_MOE_DEVICE const StageArgs& kernel_arguments() {
  return *(const StageArgs*)__builtin_amdgcn_kernarg_segment_ptr();
}

// Our activation with its run-time limit as CK's FusedActivation; CK's own knows only a limit of 7.
template <hip::Activation Which> struct Activate {
  AITER_MOE_DEVICE float operator()(float gate, float up = 1.0f) const {
    return hip::activate<Which>(gate, up, kernel_arguments());
  }
};

template <int BlockM, int BlockN, int BlockK> struct Tile {
  using Row = ck_tile::tensor_layout::gemm::RowMajor;
  using Column = ck_tile::tensor_layout::gemm::ColumnMajor;
  using A = ck_tile::bf16_t;
  using B = ck_tile::pk_fp4_t;
  static constexpr int waves = 4;
  static constexpr int mfma = 16;
  static constexpr int mfma_k = 32;
  // Fixed by the layout of the scales: 2 tiles of 16 rows share a dword.
  static constexpr int blocked_tiles = 2;

  using Shape = ck_tile::TileGemmShape<
      ck_tile::sequence<BlockM, BlockN, BlockK>, ck_tile::sequence<1, waves, 1>,
      ck_tile::sequence<mfma, mfma, mfma_k>>;
  using Partitioner = ck_tile::GemmSpatiallyLocalTilePartitioner<Shape, 1, 1>;
  using Traits = ck_tile::TileGemmUniversalTraits<
      /*kPadM=*/false, /*kPadN=*/false, /*kPadK=*/false, /*DoubleSmemBuffer=*/false, Row, Column,
      Row, /*TransposeC=*/false, /*UseStructuredSparsity=*/false, /*UsePersistentKernel=*/false,
      /*NumWaveGroups=*/1, /*Preshuffle=*/true>;

  template <ck_tile::TailNumber Tail> using Problem = ck_tile::F16xMXF4FlatmmPipelineProblem<
      A, B, float, Shape, Traits, ck_tile::GemmPipelineScheduler::Default, /*HasHotLoop=*/true,
      Tail>;
  template <ck_tile::TailNumber Tail>
  using Pipeline = ck_tile::F16xMXF4FlatmmPipelineAGmemBGmemCRegV1<Problem<Tail>>;
  template <ck_tile::TailNumber Tail>
  using Epilogue = ck_tile::CShuffleEpilogue<ck_tile::CShuffleEpilogueProblem<
      A, A, ck_tile::tuple<>, float, A, ck_tile::tuple<>, Row, ck_tile::element_wise::PassThrough,
      BlockM, BlockN, /*MWave=*/1, waves, mfma, mfma, mfma_k, Problem<Tail>::TransposeC,
      ck_tile::memory_operation_enum::set, /*kNumWaveGroups=*/1, /*FixedVectorSize=*/false,
      /*VectorSizeC=*/1, /*TiledMMAPermuteN=*/false, blocked_tiles>>;
};

// An expert's bias, or, as CK says it, none.
template <bool HasBias> struct BiasOf {
  using Type = ck_tile::FlatmmScalePointer<1>;
  static AITER_MOE_DEVICE Type at(const StageArgs& a) {
    Type bias;
    bias.ptr = a.bias;
    bias.length = a.w_rows;
    return bias;
  }
};
template <> struct BiasOf<false> {
  using Type = ck_tile::FlatmmScalePointer<-1>;
  static AITER_MOE_DEVICE Type at(const StageArgs&) { return {}; }
};

template <class Kernel, bool HasBias> AITER_MOE_DEVICE void run(const StageArgs& a) {
  using ScaleM = ck_tile::FlatmmScalePointer<-1>;
  using ScaleN = ck_tile::FlatmmScalePointer<1, 32>;
  using Bias = BiasOf<HasBias>;
  typename Kernel::template MoeFlatmmKernelArgs<ScaleM, ScaleN, typename Bias::Type> k;
  k.p_sorted_token_ids = a.sorted_ids;
  k.p_sorted_expert_ids = a.sorted_expert_ids;
  k.p_max_token_id = a.num_valid_ids;
  k.p_sorted_expert_weights = a.sorted_weights;
  k.a_ptr = a.x;
  k.b_ptr = a.w;
  k.e_ptr = a.out;
  k.NumTokens = a.tokens;
  k.TopK = a.topk;
  k.M = a.sorted_rows;
  k.N = a.w_rows;
  k.K = a.k;
  k.stride_A = a.x_stride;
  k.stride_B = a.w_k;
  k.stride_C = a.out_stride;
  k.k_batch = 1;
  k.n_padded_zeros = 0;
  k.k_padded_zeros = 0;
  k.scale_m = {};
  k.scale_n.ptr = reinterpret_cast<const float*>(a.w_scale);
  k.exp_bias = Bias::at(a);
  Kernel{}(k);
}

// One tile: gate and up with the activation, or, without one, the down projection. A pipeline
// ends after an even or after an odd number of K blocks, which is another kernel.
template <class Tile, hip::Activation Which, bool HasBias> struct Stage1 {
  template <ck_tile::TailNumber Tail> static AITER_MOE_DEVICE void run(const StageArgs& a) {
    cktile::run<ck_tile::MoeFlatmmKernel<
        typename Tile::Partitioner, typename Tile::template Pipeline<Tail>,
        typename Tile::template Epilogue<Tail>, ck_tile::MoeFlatmmKind::kFFN_gemm1_gate_up,
        Activate<Which>>, HasBias>(a);
  }
};
template <class Tile, bool HasBias> struct Stage2 {
  template <ck_tile::TailNumber Tail> static AITER_MOE_DEVICE void run(const StageArgs& a) {
    cktile::run<ck_tile::MoeFlatmmKernel<
        typename Tile::Partitioner, typename Tile::template Pipeline<Tail>,
        typename Tile::template Epilogue<Tail>, ck_tile::MoeFlatmmKind::kFFN_gemm2>,
        HasBias>(a);
  }
};

}  // namespace aiter_moe::cktile
