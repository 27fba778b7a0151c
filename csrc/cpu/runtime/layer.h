// SPDX-License-Identifier: MIT
// A whole MoE layer as one launch: sort, (quantise), stage 1, stage 2, (reduce). A stage that takes
// fp4 quantises rows it is given in another type as it packs them: the intermediate, which it packs
// once. Hidden states, which each expert of a token packs, are quantised before.
// Each step is a task; their phases follow each other over the same threads. All memory between
// the steps comes from one arena, whose size follows from the plan before anything is sorted.
#pragma once

#include "common/pool.h"
#include "common/stage_args.h"
#include "cpu/runtime/arena.h"
#include "cpu/runtime/quantise.h"
#include "cpu/runtime/reduce.h"
#include "cpu/runtime/sort.h"

namespace aiter_moe {

// The entry points of a stage kernel's library.
struct StageKernel {
  Task task;
  long (*scratch_bytes)(const void* args);  // of sizes alone: no pointer is read
};

// What calls of one shape share. Mirrored by aiter_moe/targets/cpu_arguments.py.
struct LayerPlan {
  StageKernel kernel1;
  StageKernel kernel2;
  StageArgs stage1;    // sizes and options, no addresses; sorted_rows is the room of the sort
  StageArgs stage2;    // out_stride, out_columns and out_type are those of the layer's output
  int experts;         // that ids may name
  int held;            // whose weights are here
  int quantise;        // stage 1 takes fp4, hidden states are x_type: quantise them
  int reduce;          // stage 2 leaves f32 rows: add them up
};

// One call. Mirrored by aiter_moe/targets/cpu_arguments.py.
struct LayerCall {
  const void* x;                    // [tokens], stage1.x_stride elements apart
  const unsigned char* x_scale;     // of fp4 x; else null
  const int* topk_ids;              // [tokens][topk]
  const float* topk_weights;        // [tokens][topk]
  const int* expert_mask;           // [experts], nonzero for experts held here; or null: all
  const unsigned char* w1;
  const unsigned char* w2;
  const float* bias1;
  const float* bias2;
  void* out;
  void* arena;                      // on a cache line
  long arena_bytes;
  long wanted_bytes;                // set where the verdict is kNoArena
  int processed;                    // leading tokens that are routed; the others become 0
  int bad_token;                    // as of SortArgs
  int bad_slot;
  int bad_bits;
};

// Beside those of the sort; nothing was done.
constexpr int kNoArena = -1;    // the arena holds less than wanted_bytes
constexpr int kNoOperand = -2;  // what every layer reads or writes has no address

class Layer {
 public:
  // Return a SortVerdict or another one; the output is written only where it is kSorted.
  static int run(const LayerPlan& plan, LayerCall& call, int threads) {
    if (lacks_operand(plan, call)) return kNoOperand;
    Layer layer(plan, call, threads);
    if (call.wanted_bytes > call.arena_bytes) return kNoArena;
    Pool::run({&Layer::phases, &Layer::items, &Layer::run_items}, &layer, threads);
    const int verdict = layer.sort_.verdict();
    call.bad_token = layer.sort_args_.bad_token;
    call.bad_slot = layer.sort_args_.bad_slot;
    call.bad_bits = layer.sort_args_.bad_bits;
    return verdict;
  }

 private:
  static bool lacks_operand(const LayerPlan& plan, const LayerCall& call) {
    const bool lacks_weight = plan.held > 0 && (call.w1 == nullptr || call.w2 == nullptr);
    return lacks_weight || call.x == nullptr || call.topk_ids == nullptr ||
           call.topk_weights == nullptr || call.out == nullptr;
  }

  struct Step {
    Task task;
    const void* args;
  };

  static constexpr int kSteps = 5;

  Layer(const LayerPlan& plan, LayerCall& call, int threads)
      : plan_(plan),
        call_(call),
        stage1_(plan.stage1),
        stage2_(plan.stage2),
        sort_args_(sort_args()),
        sort_memory_(place(threads)),
        sort_(sort_args_, threads, sort_memory_) {
    add(Sort::task(), &sort_);
    if (plan.quantise) add(quantise_task(), &quantise_);
    add(plan.kernel1.task, &stage1_);
    add(plan.kernel2.task, &stage2_);
    if (plan.reduce) add(reduce_task(), &reduce_);
  }

  void add(const Task& task, const void* args) {
    steps_[steps_used_++] = {task, args};
    phases_ += task.phases(args);
  }

  static int phases(const void* context) { return static_cast<const Layer*>(context)->phases_; }

  // Asked in order of phases, by the leader alone: it keeps the place that run_items reads.
  static long items(const void* context, int phase) {
    Layer& layer = *static_cast<Layer*>(const_cast<void*>(context));
    layer.seek(phase);
    if (layer.step_ > 0 && !layer.sort_.succeeded()) return 0;
    const Step& step = layer.steps_[layer.step_];
    return step.task.items(step.args, phase - layer.step_phase_);
  }

  static void run_items(const void* context, int phase, long begin, long end, int worker) {
    const Layer& layer = *static_cast<const Layer*>(context);
    const Step& step = layer.steps_[layer.step_];
    step.task.run(step.args, phase - layer.step_phase_, begin, end, worker);
  }

  void seek(int phase) {
    for (;;) {
      const Step& step = steps_[step_];
      const int end = step_phase_ + step.task.phases(step.args);
      if (phase < end) return;
      step_phase_ = end;
      ++step_;
    }
  }

  SortArgs sort_args() const {
    SortArgs args{};
    args.topk_ids = call_.topk_ids;
    args.topk_weights = call_.topk_weights;
    args.expert_mask = call_.expert_mask;
    args.tokens = plan_.stage1.tokens;
    args.topk = plan_.stage1.topk;
    args.experts = plan_.experts;
    args.block = plan_.stage1.block_m;
    args.processed = call_.processed;
    args.capacity = plan_.stage1.sorted_rows;
    args.blocks = plan_.stage1.sorted_rows / plan_.stage1.block_m;
    args.held = plan_.held;
    return args;
  }

  // Give every step its memory, or find out how much they want; return that of the sort.
  int* place(int threads) {
    fill(stage1_, call_.w1, call_.bias1, threads);
    fill(stage2_, call_.w2, call_.bias2, threads);
    Arena arena(call_.arena);
    int* const memory = arena.take<int>(Sort::memory_words(sort_args_, threads));
    place_sorted(arena);
    place_stages(arena);
    call_.wanted_bytes = arena.most();
    return memory;
  }

  static void fill(StageArgs& args, const unsigned char* w, const float* bias, int threads) {
    args.w = w;
    args.bias = bias;
    args.threads = threads;
  }

  long pairs() const { return static_cast<long>(stage1_.tokens) * stage1_.topk; }

  void place_sorted(Arena& arena) {
    SortArgs& args = sort_args_;
    args.sorted_ids = arena.take<int>(args.capacity);
    args.sorted_weights = arena.take<float>(args.capacity);
    args.sorted_expert_ids = arena.take<int>(args.blocks);
    args.num_valid = arena.take<int>(2);
    const bool every = args.expert_mask == nullptr && args.processed == args.tokens;
    if (plan_.reduce && !every) args.reverse_sorted = arena.take<int>(pairs());
    point_to_sorted(stage1_);
    point_to_sorted(stage2_);
  }

  void point_to_sorted(StageArgs& stage) const {
    stage.sorted_ids = sort_args_.sorted_ids;
    stage.sorted_weights = sort_args_.sorted_weights;
    stage.sorted_expert_ids = sort_args_.sorted_expert_ids;
    stage.num_valid_ids = sort_args_.num_valid;
  }

  // What only stage 1 needs makes room for what only stage 2 does.
  void place_stages(Arena& arena) {
    stage1_.out = arena.take<uint16_t>(pairs() * stage1_.out_stride);
    const long shared = arena.used();
    stage1_.x = call_.x;
    stage1_.x_scale = call_.x_scale;
    if (plan_.quantise) quantise_ = quantised(arena);
    if (stage1_.ksplit > 1) {
      const long sums = static_cast<long>(stage1_.ksplit) * stage1_.sorted_rows * 2 * stage1_.n;
      stage1_.workspace = arena.take<float>(sums);
    }
    stage1_.scratch = arena.take<char>(plan_.kernel1.scratch_bytes(&stage1_));
    arena.rewind(shared);
    stage2_.x = stage1_.out;
    stage2_.out = call_.out;
    if (plan_.reduce) reduce_ = reduction(arena);
    stage2_.scratch = arena.take<char>(plan_.kernel2.scratch_bytes(&stage2_));
  }

  // Let stage 1 read fp4 rows made of what it would have read.
  QuantiseArgs quantised(Arena& arena) {
    const long rows = stage1_.tokens, columns = stage1_.k;
    uint8_t* const codes = arena.take<uint8_t>(rows * columns / 2);
    uint8_t* const scales = arena.take<uint8_t>(rows * columns / 32);
    const QuantiseArgs args{stage1_.x, codes,   scales,
                            rows,      columns, stage1_.x_stride,
                            static_cast<Float>(stage1_.x_type), Rounding::kUp};
    stage1_.x = codes;
    stage1_.x_scale = scales;
    stage1_.x_stride = stage1_.k;
    stage1_.x_scale_stride = stage1_.k / 32;
    stage1_.x_type = static_cast<int>(ElementType::fp4);
    return args;
  }

  // Let stage 2 leave rows, and add them up into the output.
  ReduceArgs reduction(Arena& arena) {
    float* const rows = arena.take<float>(pairs() * stage2_.n);
    const ReduceArgs args{rows,          sort_args_.reverse_sorted,
                          call_.out,     stage2_.tokens,
                          stage2_.topk,  stage2_.n,
                          stage2_.out_columns, stage2_.out_stride,
                          static_cast<Float>(stage2_.out_type)};
    stage2_.out = rows;
    stage2_.out_stride = stage2_.out_columns = stage2_.n;
    stage2_.out_type = static_cast<int>(ElementType::f32);
    return args;
  }

  const LayerPlan& plan_;
  LayerCall& call_;
  StageArgs stage1_;
  StageArgs stage2_;
  QuantiseArgs quantise_{};
  ReduceArgs reduce_{};
  SortArgs sort_args_;
  int* const sort_memory_;
  Sort sort_;
  Step steps_[kSteps];
  int steps_used_ = 0;
  int phases_ = 0;
  int step_ = 0;        // of the phase that runs
  int step_phase_ = 0;  // its first phase
};

}  // namespace aiter_moe
