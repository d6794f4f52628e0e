"""The function of a tensor, and what computes it.

The files, from the top down: each asks only those below it.

    function.py     `group_normalization`: reads its arguments, hands over
    choice.py       which implementation computes a call
    native/         one of them: a kernel for CPUs
    formulas.py     the other: formulas and gradient in TensorFlow operations
    views/          the shapes in which inputs are read, whatever their rank
    reductions/     sums over axes, in the form that runs fastest
    context.py      what TensorFlow is doing at the moment
    arguments.py    what the arguments may be
"""
