"""Every node and every tensor of a model: in subgraphs, functions and training graphs too. Pure; nesting costs no stack."""

from collections.abc import Iterator

import onnx


def nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield every node; those of a subgraph after the node that holds it."""
    waiting = [node for function in model.functions for node in function.node]
    for graph in graphs(model):
        waiting += graph.node
    while waiting:
        node = waiting.pop()
        yield node
        for attribute in node.attribute:
            for graph in _subgraphs(attribute):
                waiting += graph.node


def graphs(model: onnx.ModelProto) -> list[onnx.GraphProto]:
    """The graphs that no node holds."""
    training = [graph for part in model.training_info for graph in (part.initialization, part.algorithm)]
    return [model.graph, *training]


def tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor: initializers, attributes, and default values of functions' attributes."""
    for graph in graphs(model):
        yield from _initializers(graph)
    attributes = [attribute for function in model.functions for attribute in function.attribute_proto]
    for node in nodes(model):
        attributes += node.attribute
    for attribute in attributes:
        yield from _values(attribute)


def _values(attribute: onnx.AttributeProto) -> Iterator[onnx.TensorProto]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    for sparse in (
        *attribute.sparse_tensors,
        *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),
    ):
        yield from (sparse.values, sparse.indices)
    for graph in _subgraphs(attribute):
        yield from _initializers(graph)


def _initializers(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)


def _subgraphs(attribute: onnx.AttributeProto) -> list[onnx.GraphProto]:
    return [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]
