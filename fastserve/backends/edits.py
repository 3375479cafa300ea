"""What is changed in a graph, in memory, so that it can be served as it is meant.

Thread: any, away from serving. Nothing is written back to the file.
"""

import onnx

from fastserve.backends.classes import Labels, class_labels
from fastserve.backends.walk import nodes
from fastserve.errors import LoadFailed


def drop_zipmaps(graph: onnx.GraphProto) -> Labels:
    """Serve the tensor that a ZipMap would turn into a sequence of maps; its class labels are returned.

    scikit-learn classifiers end so by default: the probabilities are served under the name of the ZipMap's output.
    """
    classes: Labels = []
    outputs = {value.name: value for value in graph.output}
    for node in graph.node:
        if node.op_type != "ZipMap" or node.domain != "ai.onnx.ml" or node.output[0] not in outputs:
            continue
        labels = class_labels(node)
        if not labels:
            raise LoadFailed("a ZipMap has no class labels")
        classes = classes or labels
        name = node.output[0]
        shape = (_batch_dim(graph), len(labels))
        outputs[name].CopyFrom(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))
        node.CopyFrom(onnx.helper.make_node("Identity", list(node.input), list(node.output), name=node.name))
    return classes


def _batch_dim(graph: onnx.GraphProto) -> str | int | None:
    dims = graph.input[0].type.tensor_type.shape.dim
    if not dims:
        return None
    symbol, size = str(dims[0].dim_param), int(dims[0].dim_value)
    return symbol or (size if size > 0 else None)


def use_builtin_locale(model: onnx.ModelProto) -> bool:
    """Change the case of strings by the C library's own locale where American English is asked for; tell whether any was.

    That is what StringNormalizer asks for by default, and what slim images do not have: the model would not load. The
    rules for letters are the same in both.
    """
    changed = False
    for node in nodes(model):
        if node.op_type != "StringNormalizer" or node.domain not in ("", "ai.onnx"):
            continue
        named = next((attribute for attribute in node.attribute if attribute.name == "locale"), None)
        if named is None:
            node.attribute.append(onnx.helper.make_attribute("locale", "C.UTF-8"))
            changed = True
        elif named.s in (b"", b"en_US", b"en_US.UTF-8", b"en_US.utf8", b"en-US"):
            named.s = b"C.UTF-8"
            changed = True
    return changed
