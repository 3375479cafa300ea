"""How many features the classical operators (ai.onnx.ml) were trained on, where the graph's inputs do not say.

onnxruntime's linear operators take fewer features than that and answer nonsense, so a free width is fixed before.
Pure; any thread.
"""

import onnx

# What leaves the number of columns as it is.
_PASSING = frozenset({"Cast", "Identity", "Imputer", "Normalizer", "Scaler"})


def fixed_widths(graph: onnx.GraphProto) -> dict[str, int]:
    """The only width that each tensor may have, by name; those that may have any are left out."""
    widths: dict[str, int] = {}
    # Nodes stand in order of use, so from behind every consumer comes before what it consumes.
    for node in reversed(graph.node):
        width = _width(node)
        if not width and node.op_type in _PASSING and node.output:
            width = widths.get(node.output[0], 0)
        if width and node.input:
            widths.setdefault(node.input[0], width)
    return widths


def least_widths(graph: onnx.GraphProto) -> list[int]:
    """Features that decision trees look at: inputs must be at least as wide."""
    trees = [node for node in graph.node if node.op_type in ("TreeEnsembleClassifier", "TreeEnsembleRegressor")]
    return [1 + max(ids) for node in trees if (ids := _attribute(node, "nodes_featureids"))]


def _width(node: onnx.NodeProto) -> int:
    """Columns that this operator must be given; 0 where it does not matter, or is not known."""
    if node.domain != "ai.onnx.ml":
        return 0
    match node.op_type:
        case "LinearClassifier":
            classes = len(_attribute(node, "intercepts")) or len(_attribute(node, "classlabels_ints"))
            return _quotient(len(_attribute(node, "coefficients")), classes)
        case "LinearRegressor":
            return _quotient(len(_attribute(node, "coefficients")), (_attribute(node, "targets") or [1])[0])
        case "Scaler":
            width = max(len(_attribute(node, "offset")), len(_attribute(node, "scale")))
            return width if width > 1 else 0
        case "SVMClassifier":
            return _quotient(len(_attribute(node, "support_vectors")), sum(_attribute(node, "vectors_per_class")))
        case "SVMRegressor":
            return _quotient(len(_attribute(node, "support_vectors")), (_attribute(node, "n_supports") or [0])[0])
        case _:
            return 0


def _quotient(numbers: int, rows: int) -> int:
    return numbers // rows if rows > 0 and numbers % rows == 0 else 0


def _attribute(node: onnx.NodeProto, name: str) -> list[int]:
    """An attribute's integers; of floats (whose number alone matters) zeros; nothing where it is not given."""
    for attribute in node.attribute:
        if attribute.name == name:
            if attribute.type == onnx.AttributeProto.INT:
                return [int(attribute.i)]
            return list(attribute.ints) or [0] * len(attribute.floats)
    return []
