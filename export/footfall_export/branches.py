"""Branches: what only some users of a batch need, computed where there are such users."""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np
import onnx
from onnx import helper, numpy_helper

from footfall.contract import TOP_K

OUTPUTS = ("index", "score")
LISTS = tuple(f"_{name}" for name in OUTPUTS)


def branch_outputs(kinds: Iterable[str]) -> list[str]:
    """Names for what a BranchingGraph gives beside the engine's outputs."""
    lists = [f"{kind}_{name}" for kind in kinds for name in ("any", *OUTPUTS)]
    return [*lists, *_list_of("nobody")]


def put_behind_branches(
    graph: onnx.GraphProto, kinds: Iterable[str], top_k: int
) -> dict[str, onnx.GraphProto]:
    """Replace the nodes that nothing but a kind's list needs by an `If` there is anybody of that kind.

    Takes what `branch_outputs` names away from the outputs. Lists get as long as the input top_k int64 [1] says,
    which is `top_k`, the most there are, where it is not given. Returns what lists for each kind.
    """
    kinds = tuple(kinds)
    extra = set(branch_outputs(kinds))
    outputs = {output.name: output for output in graph.output}
    kept = [output for name, output in outputs.items() if name not in extra]
    del graph.output[:]
    graph.output.extend(kept)
    _add_top_k(graph, [output for name, output in outputs.items() if name.endswith(LISTS)], top_k)
    nobodys = _only_for(graph, set(_list_of("nobody")))
    _replace(graph, nobodys)
    otherwise = _subgraph("nobody", nobodys, [outputs[name] for name in _list_of("nobody")])
    for kind in kinds:
        listed = _list_of(kind)
        nodes = _only_for(graph, set(listed))
        (ranking,) = (node for node in nodes if f"{kind}_score" in node.output)
        ranking.input[1] = TOP_K.name
        then = _subgraph(kind, nodes, [outputs[name] for name in listed])
        condition, name = f"{kind}_any", f"branch_{kind}"
        branch = helper.make_node(
            "If", [condition], listed, name=name, then_branch=then, else_branch=otherwise
        )
        _replace(graph, nodes, branch)
    lists = {node.name.removeprefix("branch_"): _then(node) for node in graph.node if node.op_type == "If"}
    return {kind: lists[kind] for kind in kinds}


def _then(branch: onnx.NodeProto) -> onnx.GraphProto:
    return next(attribute.g for attribute in branch.attribute if attribute.name == "then_branch")


def _add_top_k(graph: onnx.GraphProto, lists: Iterable[onnx.ValueInfoProto], most: int) -> None:
    """The input, with its default; what was known of shapes goes, as the exporter wrote `most` into them."""
    graph.initializer.append(numpy_helper.from_array(np.array([most]), TOP_K.name))
    graph.input.append(helper.make_tensor_value_info(TOP_K.name, onnx.TensorProto.INT64, [1]))
    del graph.value_info[:]
    for output in lists:
        output.type.tensor_type.shape.dim[1].Clear()


def _list_of(kind: str) -> list[str]:
    return [f"{kind}_{name}" for name in OUTPUTS]


def _only_for(graph: onnx.GraphProto, values: set[str]) -> list[onnx.NodeProto]:
    """The nodes that make `values` and those whose results they alone read, in order."""
    readers: dict[str, set[int]] = defaultdict(set)
    for place, node in enumerate(graph.node):
        for name in _reads(node):
            readers[name].add(place)
    for output in graph.output:
        readers[output.name].add(len(graph.node))
    chosen: set[int] = set()
    for place, node in reversed(list(enumerate(graph.node))):
        others = set().union(*(readers[name] for name in node.output if name not in values))
        if others <= chosen and (others or not values.isdisjoint(node.output)):
            chosen.add(place)
    return [graph.node[place] for place in sorted(chosen)]


def _reads(node: onnx.NodeProto) -> set[str]:
    """Also what its branches read."""
    branches = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return set(node.input).union(*(_reads(inner) for branch in branches for inner in branch.node))


def _subgraph(name: str, nodes: list[onnx.NodeProto], outputs: list[onnx.ValueInfoProto]) -> onnx.GraphProto:
    """With names of their own for the outputs, as those of the graph around it may not be taken."""
    renamed = {output.name: f"{output.name}_of_{name}_branch" for output in outputs}
    inner = []
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for names in (copy.input, copy.output):
            names[:] = [renamed.get(one, one) for one in names]
        inner.append(copy)
    results = []
    for output in outputs:
        result = onnx.ValueInfoProto()
        result.CopyFrom(output)
        result.name = renamed[output.name]
        results.append(result)
    return helper.make_graph(inner, f"{name}_branch", [], results)


def _replace(graph: onnx.GraphProto, nodes: list[onnx.NodeProto], *by: onnx.NodeProto) -> None:
    """`by` stands where the last of `nodes` stood."""
    names = {name for node in nodes for name in node.output}
    last = nodes[-1].output[0]
    kept: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.output[0] == last:
            kept += by
        elif node.output[0] not in names:
            kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)
