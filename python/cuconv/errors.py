"""The exceptions cuconv raises besides `ValueError` and `TypeError`."""


class UnsupportedError(NotImplementedError):
    """A legal problem that the requested algorithm or backend cannot do.

    The message says why and names what can do it.
    """


class CudaUnavailableError(RuntimeError):
    """The CUDA kernels were asked for, but this build or machine has none.

    The message says how to get them.
    """


class CudaError(RuntimeError):
    """A CUDA call or kernel launch failed.

    The message carries the CUDA error's name, the kernel and the problem.
    """
