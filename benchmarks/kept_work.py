"""Whether the graph optimizer left all the work of a chain in place.

After optimization, every further call in a chain must add the same number of
operations: then none was joined with its neighbours or left out.
"""

from __future__ import annotations

from typing import Any

from tensorflow.python.eager import context  # only there: what was really run

from cases import TINY, data
from implementations import FLOORS, NORMALIZATIONS, Run

# These take no time, or are the same for a chain of any length.
_BOOKKEEPING = {"Const", "Identity", "NoOp", "ReadVariableOp", "_Arg", "_Retval"}


def measure() -> dict[str, dict[str, Any]]:
    """Operations of the optimized graph in chains of length 2, 3 and 5."""
    tensors = data(TINY)
    found = {}
    for name in ("ours, native", "ours, TensorFlow", "keras, graph"):
        step = NORMALIZATIONS[name].step
        found[name] = _growth({n: step(TINY, tensors, n) for n in (2, 3, 5)})
    for name, floor in FLOORS.items():
        found[name] = _growth({n: floor.forward(TINY, tensors, n) for n in (2, 3, 5)})
    return found


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
