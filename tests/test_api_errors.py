"""Illegal arguments: the error's type, and the words and numbers its one line must hold."""

import numpy as np
import pytest

import cuconv

F = np.float32


def ones(*shape, dtype=F):
    return np.ones(shape, dtype)


X = ones(2, 4, 7, 6)
W = ones(6, 4, 3, 3)
X1, W1 = ones(2, 4, 9), ones(6, 4, 3)
X3, W3 = ones(1, 2, 4, 5, 6), ones(3, 2, 3, 3, 3)
READ_ONLY = ones(2, 6, 5, 4)
READ_ONLY.flags.writeable = False

conv, gx, gw = cuconv.conv2d, cuconv.conv2d_input_grad, cuconv.conv2d_weight_grad
transposed, max_pool, avg_pool = cuconv.conv_transpose2d, cuconv.max_pool2d, cuconv.avg_pool2d
reduce_, project = cuconv.inception_reduce, cuconv.max_pool_project


def layer(filters, channels, kernel):
    return ones(filters, channels, kernel, kernel), ones(filters)


def inception(*, conv3=(4, 2, 3), conv5=(4, 2, 5), reduce3=(2, 3, 1), layout=None):
    weights = cuconv.InceptionWeights(
        *layer(2, 3, 1), *layer(*reduce3), *layer(*conv3), *layer(2, 3, 1), *layer(*conv5),
        *layer(2, 3, 1),
    )  # fmt: skip
    return cuconv.Inception(weights, layout=layout)


# (name, call, error, fragments of its message)
CASES = [
    # ---- kinds and dtypes ----
    ("list for x", lambda: conv([[1.0]], W), TypeError, ["x", "NumPy or CuPy", "list"]),
    ("None for w", lambda: conv(X, None), TypeError, ["w", "NoneType"]),
    ("number for x", lambda: cuconv.relu(3.0), TypeError, ["x", "3.0", "float"]),
    ("text for x", lambda: conv("x", W), TypeError, ["x", "str"]),
    (
        "masked array",
        lambda: cuconv.relu(np.ma.ones(3)),
        TypeError,
        ["x", "masked"],
    ),
    ("integers", lambda: conv(X.astype(int), W), TypeError, ["x.dtype", "int64", "float32"]),
    ("booleans", lambda: cuconv.relu(X > 0), TypeError, ["x.dtype", "bool", "bfloat16"]),
    ("objects", lambda: conv(X.astype(object), W), TypeError, ["x.dtype", "object"]),
    ("long double", lambda: conv(X.astype("g"), W), TypeError, ["x.dtype", "complex128"]),
    ("byte order", lambda: conv(X.astype(">f4"), W), TypeError, [">f4", "astype('float32')"]),
    ("w of another dtype", lambda: conv(X, W.astype("f8")), TypeError, ["w", "float64", "x"]),
    (
        "bias of another dtype",
        lambda: conv(X, W, ones(6, dtype="f8")),
        TypeError,
        ["bias", "float64", "float32"],
    ),
    (
        "w of no dtype at all",
        lambda: conv(X, W.astype("i2")),
        TypeError,
        ["w.dtype", "int16", "float16"],
    ),
    (
        "grad_out of another dtype",
        lambda: gx(ones(2, 6, 5, 4, dtype="f2"), W, X.shape),
        TypeError,
        ["w", "float32", "float16"],
    ),
    ("complex relu", lambda: cuconv.relu(X + 1j), TypeError, ["complex64", "no order"]),
    ("complex softmax", lambda: cuconv.softmax(X + 1j), TypeError, ["complex64", "no order"]),
    ("complex sigmoid", lambda: cuconv.sigmoid(X + 1j), TypeError, ["complex64", "no order"]),
    ("complex maximum", lambda: max_pool(X + 1j, 2), TypeError, ["complex64", "no order"]),
    (
        "complex activation",
        lambda: conv(X + 1j, W + 1j, activation="relu"),
        TypeError,
        ["activation='relu'", "complex64"],
    ),
    # ---- shapes ----
    ("x of two axes", lambda: conv(ones(3, 3), W), ValueError, ["x", "4 axes (NCHW)", "got 2"]),
    ("x of five axes", lambda: conv(X3, W), ValueError, ["x", "NCHW", "got 5", "(1, 2, 4, 5, 6)"]),
    ("x of one axis", lambda: cuconv.conv1d(ones(5), W1), ValueError, ["x", "NCL", "got 1"]),
    ("x of six axes", lambda: cuconv.conv3d(X3[None], W3), ValueError, ["NCDHW", "got 6"]),
    ("w of three axes", lambda: conv(X, W[0]), ValueError, ["w", "K, C/groups, kernel", "got 3"]),
    (
        "w of three axes, last",
        lambda: conv(X, W[0], layout="NHWC"),
        ValueError,
        ["K, kernel, C/groups", "NHWC"],
    ),
    ("channels differ", lambda: conv(X, W[:, :3]), ValueError, ["w takes 3", "x has 4 channels"]),
    (
        "channels differ in groups",
        lambda: conv(X, W, groups=2),
        ValueError,
        ["w takes 4 channels a group", "4 channels in 2 groups"],
    ),
    ("empty kernel", lambda: conv(X, W[..., :0]), ValueError, ["w", "size 0 along W"]),
    ("empty kernel, H", lambda: conv(X, W[:, :, :0]), ValueError, ["w", "size 0 along H"]),
    ("bias too long", lambda: conv(X, W, ones(7)), ValueError, ["bias", "(6,)", "(7,)"]),
    ("bias of two axes", lambda: conv(X, W, ones(6, 1)), ValueError, ["bias", "(6, 1)"]),
    ("kernel too large", lambda: conv(X, ones(6, 4, 8, 3)), ValueError, ["along H", "7", "8"]),
    ("dilated too far", lambda: conv(X, W, dilation=(1, 3)), ValueError, ["along W", "6", "7"]),
    ("empty input", lambda: conv(X[..., :0], W), ValueError, ["along W", "input 0", "3"]),
    ("1-D output", lambda: cuconv.conv1d(X1[..., :2], W1), ValueError, ["along L", "2", "3"]),
    ("3-D output", lambda: cuconv.conv3d(X3[:, :, :2], W3), ValueError, ["along D", "2", "3"]),
    ("grad_out's shape", lambda: gx(X, W, X.shape), ValueError, ["grad_out", "(2, 6, 5, 4)"]),
    ("grad_out's batch", lambda: gw(ones(1, 6, 5, 4), X, W.shape), ValueError, ["(2, 6, 5, 4)"]),
    (
        "grad_out without batch",
        lambda: gx(ones(6, 5, 4), W, X.shape),
        ValueError,
        ["grad_out", "(6, 5, 4)", "(2, 6, 5, 4)"],
    ),
    ("input_shape", lambda: gx(ones(2, 6, 5, 4), W, (2, 4)), ValueError, ["input_shape", "got 2"]),
    (
        "input_shape's channels",
        lambda: gx(ones(2, 6, 5, 4), W, (2, 5, 7, 6)),
        ValueError,
        ["input_shape has 5 channels"],
    ),
    (
        "input_shape negative",
        lambda: gx(ones(2, 6, 5, 4), W, (2, 4, -7, 6)),
        ValueError,
        ["input_shape[2]", "-7"],
    ),
    ("input_shape a number", lambda: gx(X, W, 7), TypeError, ["input_shape", "7 (int)"]),
    (
        "weight_shape",
        lambda: gw(ones(2, 6, 5, 4), X, (6, 4, 3)),
        ValueError,
        ["weight_shape", "got 3"],
    ),
    (
        "weight_shape a fraction",
        lambda: gw(ones(2, 6, 5, 4), X, (6, 4, 3, 3.0)),
        TypeError,
        ["weight_shape[3]", "3.0"],
    ),
    ("bias_grad", lambda: cuconv.conv2d_bias_grad(X[0, 0]), ValueError, ["grad_out", "got 2"]),
    # ---- parameters ----
    ("stride 0", lambda: conv(X, W, stride=0), ValueError, ["stride", "at least 1", "got 0"]),
    ("stride -1", lambda: conv(X, W, stride=(1, -1)), ValueError, ["stride along W", "-1"]),
    ("stride 1.5", lambda: conv(X, W, stride=1.5), TypeError, ["stride", "1.5 (float)"]),
    ("stride True", lambda: conv(X, W, stride=True), TypeError, ["stride", "True"]),
    ("three strides", lambda: conv(X, W, stride=(1, 1, 1)), ValueError, ["stride", "3 values"]),
    ("stride a word", lambda: conv(X, W, stride="2"), TypeError, ["stride", "'2'"]),
    ("dilation 0", lambda: conv(X, W, dilation=0), ValueError, ["dilation", "got 0"]),
    ("dilation None", lambda: conv(X, W, dilation=None), TypeError, ["dilation", "NoneType"]),
    ("groups 0", lambda: conv(X, W, groups=0), ValueError, ["groups", "got 0"]),
    ("groups -2", lambda: conv(X, W, groups=-2), ValueError, ["groups", "got -2"]),
    ("groups 3", lambda: conv(X, W, groups=3), ValueError, ["4 channels", "groups=3"]),
    (
        "groups and filters",
        lambda: conv(X, ones(7, 2, 3, 3), groups=2),
        ValueError,
        ["7 filters", "groups=2"],
    ),
    ("groups a list", lambda: conv(X, W, groups=[1]), TypeError, ["groups", "[1] (list)"]),
    ("huge stride", lambda: conv(X, W, stride=2**63), ValueError, ["stride", "2**63 - 1"]),
    ("huge padding", lambda: conv(X, W, padding=2**63 - 1), ValueError, ["along H", "2**63 - 1"]),
    ("huge dilation", lambda: conv(X, W, dilation=2**62), ValueError, ["along H", "2**63 - 1"]),
    ("huge result", lambda: conv(X, W, padding=2**40), ValueError, ["bytes", "2**63 - 1"]),
    # ---- padding ----
    ("padding -1", lambda: conv(X, W, padding=-1), ValueError, ["padding", "at least 0", "-1"]),
    ("padding 0.5", lambda: conv(X, W, padding=(0.5, 1)), TypeError, ["padding along H", "0.5"]),
    ("padding of three", lambda: conv(X, W, padding=(1, 1, 1)), ValueError, ["3 values"]),
    (
        "padding of four",
        lambda: conv(X, W, padding=(1, 1, 1, 1)),
        ValueError,
        ["(low, high) pair per axis (H, W)", "4 values"],
    ),
    (
        "padding pair of three",
        lambda: conv(X, W, padding=((1, 1, 1), (1, 1))),
        ValueError,
        ["padding along H", "3 values"],
    ),
    (
        "padding pair negative",
        lambda: conv(X, W, padding=((1, 1), (1, -2))),
        ValueError,
        ["padding after W", "-2"],
    ),
    ("padding mixed", lambda: conv(X, W, padding=(1, (1, 1))), TypeError, ["mixes"]),
    (
        "padding pair in 1-D",
        lambda: cuconv.conv1d(X1, W1, padding=(1, 2)),
        ValueError,
        ["2 values", "((1, 2),)"],
    ),
    ("padding word", lambda: conv(X, W, padding="SAME"), ValueError, ["'SAME'", "'same_lower'"]),
    ("padding None", lambda: conv(X, W, padding=None), TypeError, ["padding", "NoneType"]),
    (
        "padding mode",
        lambda: conv(X, W, padding_mode="mirror"),
        ValueError,
        ["padding_mode", "'mirror'", "'reflect'"],
    ),
    (
        "reflect too far",
        lambda: conv(X, W, padding=(0, 6), padding_mode="reflect"),
        ValueError,
        ["along W", "'reflect'", "at most 5"],
    ),
    (
        "circular too far",
        lambda: conv(X, W, padding=(8, 0), padding_mode="circular"),
        ValueError,
        ["along H", "'circular'", "at most 7"],
    ),
    (
        "replicate of nothing",
        lambda: conv(X[:, :, :0], W, padding=2, padding_mode="replicate"),
        ValueError,
        ["along H", "'replicate'", "input of 0"],
    ),
    # ---- words ----
    ("layout", lambda: conv(X, W, layout="CHW"), ValueError, ["layout", "'NHWC'", "'CHW'"]),
    ("layout of 1-D", lambda: conv(X, W, layout="NLC"), ValueError, ["layout", "'NCHW'"]),
    ("layout a number", lambda: conv(X, W, layout=1), TypeError, ["layout", "1 (int)"]),
    ("flip_kernel", lambda: conv(X, W, flip_kernel=1), TypeError, ["flip_kernel", "True or False"]),
    ("activation", lambda: conv(X, W, activation="gelu"), ValueError, ["activation", "'gelu'"]),
    ("activation a function", lambda: conv(X, W, activation=max), TypeError, ["activation"]),
    ("precision", lambda: conv(X, W, precision="fp16"), ValueError, ["precision", "'tf32x3'"]),
    ("algo", lambda: conv(X, W, algo="fastest"), ValueError, ["algo", "'implicit_gemm'"]),
    ("algo None", lambda: conv(X, W, algo=None), ValueError, ["algo", "None"]),
    (
        "workspace_limit",
        lambda: conv(X, W, workspace_limit=-1),
        ValueError,
        ["workspace_limit", "-1"],
    ),
    (
        "workspace_limit a fraction",
        lambda: conv(X, W, workspace_limit=1e6),
        TypeError,
        ["workspace_limit", "1000000.0"],
    ),
    (
        "a family without a kernel",
        lambda: conv(X, W, algo="implicit_gemm"),
        cuconv.UnsupportedError,
        ["implicit_gemm", "direct"],
    ),
    (
        "a family without the memory",
        lambda: conv(X, W, algo="im2col", workspace_limit=8),
        cuconv.UnsupportedError,
        ["im2col", "workspace_limit=8"],
    ),
    # ---- out ----
    ("out a list", lambda: conv(X, W, out=[]), TypeError, ["out", "list"]),
    ("out's shape", lambda: conv(X, W, out=X), ValueError, ["out", "(2, 4, 7, 6)", "(2, 6, 5, 4)"]),
    (
        "out's dtype",
        lambda: conv(X, W, out=ones(2, 6, 5, 4, dtype="f8")),
        ValueError,
        ["out is float64", "float32"],
    ),
    ("out read-only", lambda: conv(X, W, out=READ_ONLY), ValueError, ["out", "read-only"]),
    (
        "out broadcast",
        lambda: cuconv.relu(X1, out=np.lib.stride_tricks.as_strided(ones(9), X1.shape, (0, 0, 4))),
        ValueError,
        ["out", "share memory"],
    ),
    ("relu's out", lambda: cuconv.relu(X, out=X1), ValueError, ["out", "(2, 4, 9)"]),
    # ---- transposed ----
    ("transposed channels", lambda: transposed(X, W), ValueError, ["w takes 6", "x has 4"]),
    (
        "output_padding",
        lambda: transposed(X, ones(4, 2, 3, 3), stride=2, output_padding=(0, 2)),
        ValueError,
        ["output_padding along W", "got 2"],
    ),
    (
        "output_padding negative",
        lambda: transposed(X, ones(4, 2, 3, 3), output_padding=-1),
        ValueError,
        ["output_padding", "-1"],
    ),
    (
        "transposed to nothing",
        lambda: transposed(X, ones(4, 2, 3, 3), padding=(5, 0)),
        ValueError,
        ["along H", "padding (5, 5)", "-1"],
    ),
    (
        "transposed by word",
        lambda: transposed(X, ones(4, 2, 3, 3), padding="same"),
        ValueError,
        ["padding", "numbers", "'same'"],
    ),
    (
        "transposed groups",
        lambda: transposed(X, ones(4, 2, 3, 3), groups=3),
        ValueError,
        ["4 channels", "groups=3"],
    ),
    ("transposed w", lambda: transposed(X, W[0]), ValueError, ["C, K/groups, kernel"]),
    # ---- pooling ----
    ("window 0", lambda: max_pool(X, 0), ValueError, ["kernel_size", "at least 1"]),
    ("window of three", lambda: max_pool(X, (2, 2, 2)), ValueError, ["kernel_size", "3 values"]),
    ("window too large", lambda: max_pool(X, (8, 2)), ValueError, ["along H", "7", "8"]),
    ("window 1.0", lambda: avg_pool(X, 1.0), TypeError, ["kernel_size", "1.0"]),
    ("pool stride 0", lambda: max_pool(X, 2, 0), ValueError, ["stride", "got 0"]),
    ("pool dilation 0", lambda: max_pool(X, 2, dilation=0), ValueError, ["dilation", "got 0"]),
    (
        "pool padding",
        lambda: max_pool(X, 2, padding=2),
        ValueError,
        ["padding (2, 2) along H", "window's size, 2"],
    ),
    (
        "pool padding, one side",
        lambda: avg_pool(X, 3, padding=((0, 0), (0, 3))),
        ValueError,
        ["padding (0, 3) along W"],
    ),
    ("pool full", lambda: max_pool(X, 2, padding="full"), ValueError, ["padding", "'full'"]),
    ("pool ceil_mode", lambda: max_pool(X, 2, ceil_mode="yes"), TypeError, ["ceil_mode"]),
    ("pool of nothing", lambda: max_pool(X[..., :0], 1), ValueError, ["x", "size 0 along W"]),
    (
        "count_include_pad",
        lambda: avg_pool(X, 2, count_include_pad=None),
        TypeError,
        ["count_include_pad"],
    ),
    (
        "return_indices",
        lambda: max_pool(X, 2, return_indices=1),
        TypeError,
        ["return_indices", "True or False"],
    ),
    (
        "indices of 32 bits",
        lambda: cuconv.max_pool2d_grad(X, ones(*X.shape, dtype="i4"), X.shape),
        TypeError,
        ["indices", "int64", "int32"],
    ),
    (
        "indices' shape",
        lambda: cuconv.max_pool2d_grad(X, ones(2, 4, 7, 5, dtype="i8"), X.shape),
        ValueError,
        ["indices", "(2, 4, 7, 5)"],
    ),
    (
        "max-pool input_shape",
        lambda: cuconv.max_pool2d_grad(X, ones(*X.shape, dtype="i8"), (2, 5, 9, 9)),
        ValueError,
        ["input_shape", "channels"],
    ),
    (
        "avg-pool input_shape",
        lambda: cuconv.avg_pool2d_grad(X, (2, 4, 9, 9), 2),
        ValueError,
        ["grad_out", "(2, 4, 4, 4)"],
    ),
    ("global layout", lambda: cuconv.global_avg_pool(ones(2, 3)), ValueError, ["x", "got 2"]),
    ("softmax axis", lambda: cuconv.softmax(X, 4), ValueError, ["axis is 4", "4 axes"]),
    ("softmax axis 0.0", lambda: cuconv.softmax(X, 0.0), TypeError, ["axis", "0.0"]),
    ("relu_grad", lambda: cuconv.relu_grad(X, X1), ValueError, ["grad_out", "(2, 4, 9)"]),
    # ---- Inception ----
    ("one weight", lambda: reduce_(X, ones(2, 4, 1, 1)), TypeError, ["weights", "list"]),
    ("no weights", lambda: reduce_(X, []), ValueError, ["weights", "empty"]),
    ("3x3 reduction", lambda: reduce_(X, [W]), ValueError, ["weights[0]", "1 x 1"]),
    (
        "reductions differ",
        lambda: reduce_(X, [ones(2, 4, 1, 1), ones(2, 3, 1, 1)]),
        ValueError,
        ["weights[1]", "(2, 3, 1, 1)"],
    ),
    (
        "biases missing",
        lambda: reduce_(X, [ones(2, 4, 1, 1)] * 2, [ones(2)]),
        ValueError,
        ["2 weights", "1 biases"],
    ),
    (
        "biases' shape",
        lambda: reduce_(X, [ones(2, 4, 1, 1)], [ones(3)]),
        ValueError,
        ["biases[0]", "(2,)", "(3,)"],
    ),
    ("3x3 projection", lambda: project(X, W), ValueError, ["w", "1 x 1", "(6, 4, 3, 3)"]),
    ("projection", lambda: project(X, ones(6, 3, 1, 1)), ValueError, ["w takes 3", "x has 4"]),
    ("not weights", lambda: cuconv.Inception([W]), TypeError, ["InceptionWeights", "list"]),
    ("conv3 of 5x5", lambda: inception(conv3=(4, 2, 5)), ValueError, ["conv3_w", "3 x 3"]),
    ("conv5's input", lambda: inception(conv5=(4, 3, 5)), ValueError, ["conv5_w", "reduce5_w"]),
    ("reduce3's input", lambda: inception(reduce3=(2, 4, 1)), ValueError, ["reduce3_w", "conv1_w"]),
    ("module's x", lambda: inception()(X), ValueError, ["takes 3 channels", "x has 4"]),
    # ---- plans, algorithms, backends ----
    (
        "plan's dtype",
        lambda: cuconv.Conv2dPlan(X.shape, W.shape, "int32", device="cpu"),
        TypeError,
        ["dtype", "int32"],
    ),
    (
        "plan's shape",
        lambda: cuconv.Conv2dPlan(X.shape, W.shape, F, device="cpu")(X[:1], W),
        ValueError,
        ["x", "(1, 4, 7, 6)", "(2, 4, 7, 6)"],
    ),
    (
        "plan's array",
        lambda: cuconv.Conv2dPlan(X.shape, W.shape, F, device="cpu")(
            X.astype("f8"), W.astype("f8")
        ),
        TypeError,
        ["float64", "float32"],
    ),
    (
        "plan's device",
        lambda: cuconv.Conv2dPlan(X.shape, W.shape, F, device="gpu"),
        ValueError,
        ["device", "'gpu'", "'cuda'"],
    ),
    (
        "plan's option",
        lambda: cuconv.Conv2dPlan(X.shape, W.shape, F, device="cpu", strides=2),
        TypeError,
        ["strides"],
    ),
    ("algorithms", lambda: cuconv.algorithms((3,), (3, 3), F), ValueError, ["w_shape", "got 2"]),
    ("backend", lambda: cuconv.use_backend("cudnn"), ValueError, ["name", "reference", "'cudnn'"]),
    ("backend a number", lambda: cuconv.use_backend(3), TypeError, ["name", "3 (int)"]),
    (
        "backend's option",
        lambda: cuconv.use_backend("numpy", threads=2),
        TypeError,
        ["numpy", "threads"],
    ),
]


@pytest.mark.parametrize(
    ("call", "error", "fragments"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_illegal(call, error, fragments):
    with pytest.raises(error) as caught:
        call()
    assert caught.type is error
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 300
    for fragment in fragments:
        assert fragment in message


def test_there_are_cases_enough():
    assert len(CASES) >= 80
    assert len({c[0] for c in CASES}) == len(CASES)


def test_nothing_is_written_when_an_argument_is_wrong():
    out = np.full((2, 6, 5, 4), 7, F)
    with pytest.raises(ValueError, match="bias"):
        conv(X, W, ones(5), out=out)
    assert (out == 7).all()


def test_errors_are_of_the_classes_promised():
    assert issubclass(cuconv.UnsupportedError, NotImplementedError)
    assert issubclass(cuconv.CudaUnavailableError, RuntimeError)
    assert issubclass(cuconv.CudaError, RuntimeError)
