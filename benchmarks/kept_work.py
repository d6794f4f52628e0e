"""Whether the optimizers left all the work of a chain in place.

In a graph every further call in a chain must add the same number of operations: then
none was joined with its neighbours or left out. Under XLA the two calls of a loop must
be in two branches, across which it joins nothing.
"""

from __future__ import annotations

from typing import Any

from tensorflow.python.eager import context  # only there: what was really run

from cases import TINY, data
from implementations import FLOORS, NORMALIZATIONS, Run

# These take no time, or are the same for a chain of any length.
_BOOKKEEPING = {"Const", "Identity", "NoOp", "ReadVariableOp", "_Arg", "_Retval"}
# What takes time in a program of XLA's.
_LOOPS = ("fusion", "dot", "custom-call")


def measure() -> dict[str, dict[str, Any]]:
    """Operations of a further call, and whether there is nothing less in a chain."""
    tensors = data(TINY)
    found = {}
    for name in ("ours, native", "ours, TensorFlow", "keras, graph"):
        step = NORMALIZATIONS[name].step
        found[name] = _growth({n: step(TINY, tensors, n) for n in (2, 3, 5)})
    for name, floor in FLOORS.items():
        found[name] = _growth({n: floor.forward(TINY, tensors, n) for n in (2, 3, 5)})
    for name in ("ours, XLA", "ours, XLA alone", "keras, XLA"):
        step = NORMALIZATIONS[name].step
        found[name] = _branches(*(step(TINY, tensors, n).program() for n in (1, 4)))
    return found


def _branches(one: str, loop: str) -> dict[str, Any]:
    entry = one.partition("\nENTRY")[2]
    per_call = sum(entry.count(f" {kind}(") for kind in _LOOPS)
    return {"per_call": per_call, "kept": loop.count(" conditional(") == 2}


def _growth(chains: dict[int, Run]) -> dict[str, Any]:
    # From two on: before that there are no sums of dgamma and dbeta.
    two, three, five = (_operations(run) for run in chains.values())
    return {
        "operations": [two, three, five],
        "per_call": three - two,
        "kept": three > two and five - two == 3 * (three - two),
    }


def _operations(run: Run) -> int:
    context.enable_run_metadata()
    try:
        run()
        graphs = context.export_run_metadata().function_graphs
    finally:
        context.disable_run_metadata()
    return max(
        sum(node.op not in _BOOKKEEPING for node in graph.post_optimization_graph.node)
        for graph in graphs
    )
