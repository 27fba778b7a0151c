// SPDX-License-Identifier: MIT
// A MoE FFN on ggml's CPU backend behind a C interface, called by ggml.py.
//
// The graph is that of a MoE layer of llama.cpp: three mul_mat_id (up, gate, down), biases by
// add_id, the weighted sum by adds. Weights lie in the CPU backend's repacked buffers where it has
// one for them. Built by CMakeLists.txt beside the ggml of llama-cpp-python's source distribution.

#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "ggml.h"

extern "C" {

// Sizes and weights of a layer. Blocks are ggml's MXFP4: a scale byte, then 16 bytes that hold
// values 0..15 in low and 16..31 in high nibbles. Biases are null where there is none.
struct GgmlMoeLayer {
    int64_t model_dim, inter_dim, experts;
    const void *up, *gate, *down;
    const float *up_bias, *gate_bias, *down_bias;
    int32_t swiglu;  // 1: gpt-oss's clamped form of alpha and limit; 0: SiLU
    float alpha, limit;
    int32_t repack, threads;
};
}

namespace {

struct Closed {
    void operator()(ggml_context* context) const { ggml_free(context); }
    void operator()(ggml_backend_buffer* buffer) const { ggml_backend_buffer_free(buffer); }
    void operator()(ggml_backend* backend) const { ggml_backend_free(backend); }
    void operator()(ggml_gallocr* plan) const { ggml_gallocr_free(plan); }
};
template <class T>
using Owned = std::unique_ptr<T, Closed>;

// The buffer type that repacks weights for this CPU, or null where the backend has none.
ggml_backend_buffer_type_t repacking_buffer() {
    ggml_backend_reg_t registry = ggml_backend_cpu_reg();
    auto extra = reinterpret_cast<ggml_backend_dev_get_extra_bufts_t>(
        ggml_backend_reg_get_proc_address(registry, "ggml_backend_dev_get_extra_bufts"));
    if (!extra) return nullptr;
    ggml_backend_buffer_type_t* types = extra(ggml_backend_reg_dev_get(registry, 0));
    for (; types && *types; ++types)
        if (std::string(ggml_backend_buft_name(*types)) == "CPU_REPACK") return *types;
    return nullptr;
}

ggml_context* metadata_context(size_t tensors) {
    return ggml_init({tensors * ggml_tensor_overhead() + ggml_graph_overhead(), nullptr, true});
}

struct Moe {
    GgmlMoeLayer layer;
    Owned<ggml_backend> backend;
    Owned<ggml_context> weights, biases, nodes;
    Owned<ggml_backend_buffer> weight_memory, bias_memory;
    Owned<ggml_gallocr> plan;
    ggml_tensor *up, *gate, *down, *up_bias = nullptr, *gate_bias = nullptr, *down_bias = nullptr;
    ggml_tensor *x, *ids, *route, *out;
    ggml_cgraph* graph = nullptr;

    explicit Moe(const GgmlMoeLayer& given) : layer(given), backend(ggml_backend_cpu_init()) {
        ggml_backend_cpu_set_n_threads(backend.get(), layer.threads);
        ggml_backend_buffer_type_t plain = ggml_backend_cpu_buffer_type();
        ggml_backend_buffer_type_t packed = layer.repack ? repacking_buffer() : nullptr;
        weights.reset(metadata_context(8));
        up = weight(layer.model_dim, layer.inter_dim);
        gate = weight(layer.model_dim, layer.inter_dim);
        down = weight(layer.inter_dim, layer.model_dim);
        weight_memory.reset(
            ggml_backend_alloc_ctx_tensors_from_buft(weights.get(), packed ? packed : plain));
        fill(up, layer.up);
        fill(gate, layer.gate);
        fill(down, layer.down);
        if (!layer.up_bias) return;
        biases.reset(metadata_context(8));
        up_bias = bias(layer.inter_dim);
        gate_bias = bias(layer.inter_dim);
        down_bias = bias(layer.model_dim);
        bias_memory.reset(ggml_backend_alloc_ctx_tensors_from_buft(biases.get(), plain));
        fill(up_bias, layer.up_bias);
        fill(gate_bias, layer.gate_bias);
        fill(down_bias, layer.down_bias);
    }

    ggml_tensor* weight(int64_t cols, int64_t rows) {
        return ggml_new_tensor_3d(weights.get(), GGML_TYPE_MXFP4, cols, rows, layer.experts);
    }
    ggml_tensor* bias(int64_t rows) {
        return ggml_new_tensor_2d(biases.get(), GGML_TYPE_F32, rows, layer.experts);
    }
    static void fill(ggml_tensor* tensor, const void* data) {
        ggml_backend_tensor_set(tensor, data, 0, ggml_nbytes(tensor));
    }

    ggml_tensor* product(ggml_tensor* w, ggml_tensor* rows, ggml_tensor* added) {
        ggml_tensor* y = ggml_mul_mat_id(nodes.get(), w, rows, ids);
        return added ? ggml_add_id(nodes.get(), y, added, ids) : y;
    }

    ggml_tensor* activated(ggml_tensor* gates, ggml_tensor* ups) {
        if (layer.swiglu)
            return ggml_swiglu_oai(nodes.get(), gates, ups, layer.alpha, layer.limit);
        return ggml_swiglu_split(nodes.get(), gates, ups);
    }

    // Build the graph of `tokens` tokens and plan its memory.
    bool prepare(int64_t tokens, int64_t topk) {
        nodes.reset(metadata_context(64 + 2 * topk));
        ggml_context* c = nodes.get();
        x = ggml_new_tensor_3d(c, GGML_TYPE_F32, layer.model_dim, 1, tokens);
        ids = ggml_new_tensor_2d(c, GGML_TYPE_I32, topk, tokens);
        route = ggml_new_tensor_3d(c, GGML_TYPE_F32, 1, topk, tokens);
        for (ggml_tensor* input : {x, ids, route}) ggml_set_input(input);
        ggml_tensor* ups = product(up, x, up_bias);
        ggml_tensor* gates = product(gate, x, gate_bias);
        ggml_tensor* y = product(down, activated(gates, ups), down_bias);
        y = ggml_mul(c, y, route);
        out = nullptr;
        for (int64_t k = 0; k < topk; ++k) {
            ggml_tensor* one =
                ggml_view_2d(c, y, layer.model_dim, tokens, y->nb[2], k * y->nb[1]);
            out = out ? ggml_add(c, out, one) : one;
        }
        if (topk == 1) out = ggml_cont(c, out);
        ggml_set_output(out);
        graph = ggml_new_graph(c);
        ggml_build_forward_expand(graph, out);
        plan.reset(ggml_gallocr_new(ggml_backend_cpu_buffer_type()));
        return ggml_gallocr_alloc_graph(plan.get(), graph);
    }

    bool run(const float* hidden, const int32_t* experts, const float* factors, float* result) {
        fill(x, hidden);
        fill(ids, experts);
        fill(route, factors);
        if (ggml_backend_graph_compute(backend.get(), graph) != GGML_STATUS_SUCCESS) return false;
        ggml_backend_tensor_get(out, result, 0, ggml_nbytes(out));
        return true;
    }
};

}  // namespace

extern "C" {

Moe* ggml_moe_new(const GgmlMoeLayer* layer) { return new (std::nothrow) Moe(*layer); }

int32_t ggml_moe_prepare(Moe* moe, int64_t tokens, int64_t topk) {
    return moe->prepare(tokens, topk) ? 0 : 1;
}

int32_t ggml_moe_run(Moe* moe, const float* hidden, const int32_t* experts, const float* factors,
                     float* result) {
    return moe->run(hidden, experts, factors, result) ? 0 : 1;
}

void ggml_moe_free(Moe* moe) { delete moe; }
}
