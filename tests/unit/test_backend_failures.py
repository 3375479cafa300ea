"""onnxruntime's words made fit for clients. The texts are what version 1.31 says."""

import pytest

from fastserve.backends.failures import run_failure, shortened
from fastserve.errors import OutOfMemory, RunFailed, RunRefused

STATUS = "[ONNXRuntimeError] : 1 : FAIL : "
NODE = "Non-zero status code returned while running {} node. Name:'{}' Status Message: "
SAID = {
    STATUS + NODE.format("Gather", "/m/g'1") + "indices element out of data bounds, idx=9": (
        "Gather: indices element out of data bounds, idx=9"
    ),
    STATUS + NODE.format("If", "a") + NODE.format("Gather", "b") + "idx=9": "Gather: idx=9",
    STATUS
    + NODE.format("Reshape", "")
    + "/onnxruntime_src/onnxruntime/core/providers/cpu/tensor/reshape_helper.h:84 onnxruntime::ReshapeHelper::"
    "ReshapeHelper(const onnxruntime::TensorShape&, onnxruntime::TensorShapeVector&, bool) size != 0 && "
    "(input_shape_size % size) == 0 was false. The input tensor cannot be reshaped.\n": (
        "Reshape: The input tensor cannot be reshaped."
    ),
    STATUS
    + NODE.format("Expand", "")
    + "/onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:360 void* onnxruntime::BFCArena::AllocateRawInternal("
    "size_t, bool, onnxruntime::Stream*) Failed to go on": "Expand: Failed to go on",
    STATUS + NODE.format("MatMul", "") + "matmul_helper.h:59 Compute MatMul dimension mismatch": (
        "MatMul: MatMul dimension mismatch"
    ),
    STATUS + "Exception during initialization: /onnxruntime_src/text/string_normalizer.cc:235 onnxruntime::"
    "StringNormalizer::Locale::Locale(const std::string&)::<lambda()> Failed to construct locale": (
        "Failed to construct locale"
    ),
    STATUS
    + NODE.format("TreeEnsembleRegressor", "")
    + "/onnxruntime_src/ml/tree_ensemble_common.h:624 void onnxruntime::ml::"
    "TreeEnsembleCommon<A, B>::ComputeAgg(onnxruntime::Tensor*, const AGG&) const [with AGG = Sum<float>; A = float] "
    "One path requests feature 3.": "TreeEnsembleRegressor: One path requests feature 3.",
    STATUS + NODE.format("Cast", "") + "stoll": "Cast: a string is not a number",
    STATUS + NODE.format("Cast", ""): "Cast: failed",
    "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid dimensions for input: x for the following indices\n "
    "index: 1 Got: 5 Expected: 4\n Please fix either the inputs/outputs or the model.": (
        "Got invalid dimensions for input: x for the following indices index: 1 Got: 5 Expected: 4"
    ),
    "Error in execution: " + STATUS + "x": "x",
    "Load model from /srv/secret/models/m.onnx failed: bad": "Load model from failed: bad",
    "x" * 500: "x" * 400 + "...",
    "": "",
}


@pytest.mark.parametrize("text", SAID)
def test_what_is_left_says_what_is_wrong(text: str) -> None:
    assert shortened(text) == SAID[text]


def test_a_long_hostile_text_is_read_in_no_time() -> None:
    for text in ("a/" * 100_000, "(" * 100_000, "/a" * 100_000, "Non-zero status code " * 10_000, NODE * 10_000):
        assert len(shortened(text)) <= 410


@pytest.mark.parametrize(
    ("error", "refused", "kind", "message"),
    [
        (RuntimeError("odd"), True, RunRefused, "the model refused this input: odd"),
        (RuntimeError("odd"), False, RunFailed, "the model failed on this input: odd"),
        (RuntimeError(NODE.format("Div", "d") + "zero"), False, RunRefused, "the model refused this input: Div: zero"),
        (
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
            False,
            RunFailed,
            "the model failed on this input: an output holds a string that is not UTF-8",
        ),
        (MemoryError(), False, OutOfMemory, str(OutOfMemory())),
        (
            RuntimeError(NODE.format("Div", "d") + "Failed to allocate memory for requested buffer of size 1024"),
            False,
            OutOfMemory,
            str(OutOfMemory()),
        ),
        (
            RuntimeError(NODE.format("Div", "d") + f"Failed to allocate memory for requested buffer of size {2**60}"),
            False,
            RunRefused,
            f"the model refused this input: it asks for a tensor of {2**60} bytes",
        ),
    ],
)
def test_who_is_to_blame(error: Exception, refused: bool, kind: type, message: str) -> None:
    failure = run_failure(error, refused=refused)
    assert (type(failure), str(failure)) == (kind, message)
