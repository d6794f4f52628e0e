"""Group normalization from its definition, in NumPy and float64."""

from __future__ import annotations

import numpy as np


def group_normalization(
    x, groups, gamma=None, beta=None, axis=-1, epsilon=1e-3, mask=None
):
    x = np.moveaxis(np.asarray(x, np.float64), axis, -1)
    samples, channels = x.shape[0], x.shape[-1]
    y = np.empty_like(x)
    for n in range(samples):
        counted = np.ones(x.shape[1:-1], bool)
        if mask is not None:
            own = np.asarray(mask[n], bool)
            missing = counted.ndim - own.ndim
            counted = counted & own.reshape(own.shape + (1,) * missing)
        for part in np.split(np.arange(channels), groups):
            values = x[n][..., part][counted]
            mean, variance = moments(values)
            y[n][..., part] = (x[n][..., part] - mean) / np.sqrt(variance + epsilon)
    if gamma is not None:
        y = y * np.asarray(gamma, np.float64)
    if beta is not None:
        y = y + np.asarray(beta, np.float64)
    return np.moveaxis(y, -1, axis)


def moments(values):
    """Mean and biased variance, both 0 if there are no values."""
    if not values.size:
        return 0.0, 0.0
    mean = values.mean()
    # Of many that are all the same, a mean may be another number.
    mean += (values - mean).mean()
    return mean, ((values - mean) ** 2).mean()


def gradients(x, groups, gamma, beta, dy, step=1e-6, **arguments):
    """Of `sum(y * dy)` with respect to x, gamma and beta, by central differences."""
    inputs = [np.asarray(value, np.float64) for value in (x, gamma, beta)]

    def loss():
        x, gamma, beta = inputs
        return (group_normalization(x, groups, gamma, beta, **arguments) * dy).sum()

    found = []
    for values in inputs:
        gradient = np.empty_like(values)
        for index in np.ndindex(values.shape):
            kept = values[index]
            values[index] = kept + step
            above = loss()
            values[index] = kept - step
            gradient[index] = (above - loss()) / (2 * step)
            values[index] = kept
        found.append(gradient)
    return found


def relative_error(actual, expected):
    """Largest difference, relative to the largest value that is expected."""
    expected = np.asarray(expected, np.float64)
    return np.abs(np.asarray(actual, np.float64) - expected).max() / max(
        np.abs(expected).max(), np.finfo(float).tiny
    )
