# SPDX-License-Identifier: MIT
"""onnxruntime's QMoE on int4 weights in blocks of 32.

int4 cannot hold MXFP4 values: weights are rounded to it once, and the error of that shows. The
operator routes by itself, so it is given logits whose softmax over the routed experts is the
routing: log of the factors, and far less elsewhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper

from aiter_moe.enums import ActivationType
from aiter_moe.runs import Routing
from aiter_moe.tuning.operands import Layer
from peers import layers
from peers.int4 import GROUP, int4
from peers.layers import Operands

UNROUTED = -1e4
IR_VERSION, OPSET = 10, 21


def packed(values: torch.Tensor) -> torch.Tensor:
    """Return int8 [rows, cols] from -8 to 7 as bytes [rows, cols / 2] of a zero point of 8."""
    codes = (values + 8).view(torch.uint8).view(len(values), -1, 2)
    return codes[..., 0] | (codes[..., 1] << 4)


def interleaved(rows: torch.Tensor) -> torch.Tensor:
    """Return gate rows, then up rows as pairs of a gate and an up row."""
    gate, up = rows.chunk(2)
    return torch.stack((gate, up), dim=1).flatten(0, 1)


def _initialisers(given: Operands) -> dict[str, np.ndarray[Any, Any]]:
    parts: dict[str, list[torch.Tensor]] = {"w1": [], "s1": [], "w2": [], "s2": []}
    for e in range(given.layer.experts):
        first, second = given.dense(e)
        for index, weight in (("1", interleaved(first)), ("2", second)):
            values, scales = int4(weight)
            parts[f"w{index}"].append(packed(values))
            parts[f"s{index}"].append(scales)
    found = {name: torch.stack(tensors) for name, tensors in parts.items()}
    if given.bias1 is not None and given.bias2 is not None:
        found |= {"b1": torch.stack([interleaved(b) for b in given.bias1]), "b2": given.bias2}
    return {name: tensor.contiguous().numpy() for name, tensor in found.items()}


def _model(layer: Layer, tensors: dict[str, np.ndarray[Any, Any]]) -> bytes:
    swiglu = layer.activation is ActivationType.Swiglu
    wanted = ("w1", "s1", "b1", "w2", "s2", "b2")
    inputs = ["x", "router", *(name if name in tensors else "" for name in wanted)]
    node = helper.make_node(
        "QMoE", inputs, ["y"], domain="com.microsoft", k=layer.topk, expert_weight_bits=4,
        block_size=GROUP, activation_type="swiglu", swiglu_fusion=1, normalize_routing_weights=1,
        activation_alpha=layers.ALPHA if swiglu else 1.0,
        activation_beta=1.0 if swiglu else 0.0,
        **({"swiglu_limit": layers.LIMIT} if swiglu else {}),
    )  # fmt: skip
    graph = helper.make_graph(
        [node], "moe",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["t", layer.model_dim]),
         helper.make_tensor_value_info("router", TensorProto.FLOAT, ["t", layer.experts])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["t", layer.model_dim])],
        [onnx.numpy_helper.from_array(tensor, name) for name, tensor in tensors.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    made: bytes = model.SerializeToString()
    return made


class Int4:
    """One QMoE node; float32 or 8-bit activations by ORT_QMOE_CPU_QNBIT_GEMM."""

    def __init__(self, given: Operands, threads: int) -> None:
        self.layer = given.layer
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        model = _model(given.layer, _initialisers(given))
        self.session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )

    def take(self, x: torch.Tensor, route: Routing) -> dict[str, np.ndarray[Any, Any]]:
        """Return float32 rows and logits."""
        logits = torch.full((len(x), self.layer.experts), UNROUTED)
        logits.scatter_(1, route.ids.long(), route.weights.log())
        return {"x": x.float().numpy(), "router": logits.numpy()}

    def run(self, taken: dict[str, np.ndarray[Any, Any]]) -> Any:
        """Return the output, float32 [tokens, model_dim]."""
        return self.session.run(None, taken)[0]

    def result(self, returned: Any) -> torch.Tensor:
        """Return the output as a tensor."""
        return torch.from_numpy(returned)
