"""Convolution, pooling, activations and Inception modules for CuPy and NumPy arrays.

NumPy array in, NumPy array out, computed on the CPU; CuPy array in, CuPy array out, computed on its
GPU by CUDA kernels. `cuconv.conv2d` is the place to start.
"""

from cuconv._backends import is_cuda_available, use_backend
from cuconv._version import __version__
from cuconv.activation import relu, relu_grad, sigmoid, softmax
from cuconv.config import show_config
from cuconv.conv import (
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
)
from cuconv.conv_grad import (
    conv1d_bias_grad,
    conv1d_input_grad,
    conv1d_weight_grad,
    conv2d_bias_grad,
    conv2d_input_grad,
    conv2d_weight_grad,
    conv3d_bias_grad,
    conv3d_input_grad,
    conv3d_weight_grad,
)
from cuconv.errors import CudaError, CudaUnavailableError, UnsupportedError
from cuconv.inception import Inception, InceptionWeights, inception_reduce, max_pool_project
from cuconv.plan import (
    Conv1dPlan,
    Conv2dPlan,
    Conv3dPlan,
    ConvTranspose1dPlan,
    ConvTranspose2dPlan,
    ConvTranspose3dPlan,
    algorithms,
)
from cuconv.pool import (
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    global_avg_pool,
    max_pool1d,
    max_pool2d,
    max_pool3d,
)
from cuconv.pool_grad import (
    avg_pool1d_grad,
    avg_pool2d_grad,
    avg_pool3d_grad,
    max_pool1d_grad,
    max_pool2d_grad,
    max_pool3d_grad,
)

__all__ = [
    "Conv1dPlan",
    "Conv2dPlan",
    "Conv3dPlan",
    "ConvTranspose1dPlan",
    "ConvTranspose2dPlan",
    "ConvTranspose3dPlan",
    "CudaError",
    "CudaUnavailableError",
    "Inception",
    "InceptionWeights",
    "UnsupportedError",
    "__version__",
    "algorithms",
    "avg_pool1d",
    "avg_pool1d_grad",
    "avg_pool2d",
    "avg_pool2d_grad",
    "avg_pool3d",
    "avg_pool3d_grad",
    "conv1d",
    "conv1d_bias_grad",
    "conv1d_input_grad",
    "conv1d_weight_grad",
    "conv2d",
    "conv2d_bias_grad",
    "conv2d_input_grad",
    "conv2d_weight_grad",
    "conv3d",
    "conv3d_bias_grad",
    "conv3d_input_grad",
    "conv3d_weight_grad",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "global_avg_pool",
    "inception_reduce",
    "is_cuda_available",
    "max_pool1d",
    "max_pool1d_grad",
    "max_pool2d",
    "max_pool2d_grad",
    "max_pool3d",
    "max_pool3d_grad",
    "max_pool_project",
    "relu",
    "relu_grad",
    "show_config",
    "sigmoid",
    "softmax",
    "use_backend",
]
