"""Weights of our convolutions, from kernels of torch."""


def blocked(kernel):
    """Return a kernel [..., 4, 4] as [..., a, p, b, q], element (2 (1 - a) + p, 2 (1 - b) + q)."""
    return kernel.unflatten(-1, (2, 2)).unflatten(-3, (2, 2)).flip(-4, -2)


def convolution_weight(kernel):
    outputs, inputs = kernel.shape[:2]
    return blocked(kernel).permute(3, 5, 1, 2, 4, 0).reshape(4 * inputs, 4 * outputs)


def transposed_weight(kernel):
    inputs, outputs = kernel.shape[:2]
    return blocked(kernel).permute(2, 4, 0, 3, 5, 1).reshape(4 * inputs, 4 * outputs)


def last_weight(kernel):
    return kernel[:, 0].unflatten(-1, (2, 2)).unflatten(-3, (2, 2)).transpose(-3, -2).flatten(1)
