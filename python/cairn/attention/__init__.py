"""Attention by itself, on arrays: causal, blockwise, O(tokens) in memory, any head size to 256.

    import cairn.attention as attention

    out = attention.softmax(q, k, v, position="rope")
    out = attention.fox(q, k, v, log_f)
    out, remainder = attention.stick_breaking(q, k, v)
    out = attention.path(q, k, v, w, beta)

Arrays are NumPy's or torch tensors on the CPU, and the result is of the same kind:

    q      [tokens, heads, dim]
    k      [tokens, kv_heads, dim]         query head h reads key head h // (heads // kv_heads)
    v      [tokens, kv_heads, value_dim]
    result [tokens, heads, value_dim]

float32 and (torch) bfloat16 take the fast path, float64 a plain reference in O(tokens^2) time that
is meant for checking. Nothing is copied unless the last axis has gaps or an axis runs backwards.

Sequences that do not see each other lie one after another; `offsets` (integers, rising from 0 to
tokens) say where each begins and the last ends. Without offsets all tokens are one sequence. There
is no batch axis: reshape [batch, tokens, ...] to [batch * tokens, ...] and give offsets.

A call uses the threads of set_threads(), by default all that the process may use, and one call runs
at a time, with the interpreter lock released. The same input gives the same bits for any number of
threads. Wrong arguments raise cairn.UsageError (a ValueError) that names the argument, what was
expected and what was found.

Gradients: cairn.attention.torch has the same functions for torch.autograd.
"""

import numpy as np

from .._cairn import attention as _native

__all__ = ["fox", "path", "set_threads", "softmax", "stick_breaking", "threads"]

set_threads = _native.set_threads
threads = _native.threads


def _is_torch(array):
    return type(array).__module__.partition(".")[0] == "torch"


def as_input(array):
    """The array, or a copy of it where a view could not say its strides.

    Of a tensor, one that knows no gradients: a call keeps it, and would otherwise keep itself alive
    through the result that it belongs to.
    """
    if _is_torch(array):
        array = array.detach()
        return array if array.ndim == 0 or array.stride(-1) == 1 else array.contiguous()
    array = np.asarray(array)
    gaps = array.ndim > 0 and array.shape[-1] > 1 and array.strides[-1] != array.itemsize
    if gaps or any(stride < 0 or stride % array.itemsize for stride in array.strides):
        array = np.ascontiguousarray(array)
    return array


def empty(like, shape, single=False):
    """A new contiguous array of the kind and type of `like`, with `single` no less than float32."""
    if not _is_torch(like):
        return np.empty(shape, like.dtype)
    array = like.new_empty(shape)
    return array.float() if single and array.itemsize < 4 else array


def as_offsets(offsets, tokens):
    """Offsets as int32; one sequence when None."""
    if offsets is None:
        return np.array([0, tokens] if tokens else [0], np.int32)
    offsets = np.asarray(offsets)
    if offsets.ndim != 1 or offsets.size == 0 or not np.issubdtype(offsets.dtype, np.integer):
        raise _usage("offsets", "integers rising from 0 to tokens", _found(offsets))
    if offsets.min() < 0 or offsets.max() > tokens:
        raise _usage("offsets", f"from 0 to {tokens} (tokens)", f"{offsets.min()} to {offsets.max()}")
    return np.ascontiguousarray(offsets, np.int32)


def _found(array):
    return f"shape {list(array.shape)} of {array.dtype}"


def _usage(argument, expected, found):
    from .._cairn import UsageError

    return UsageError(f"attention: {argument}\n  expected {expected}, found {found}")


def check_heads(**arrays):
    """Three axes each; what the axes must be is the library's to say."""
    for name, array in arrays.items():
        if array.ndim != 3:
            raise _usage(name, "[tokens, heads, dim]", _found(array))


def softmax_call(q, k, v, offsets, scale, position, rope_theta, window):
    """Runs it: (the native call, out)."""
    q, k, v = as_input(q), as_input(k), as_input(v)
    check_heads(q=q, k=k, v=v)
    out = empty(q, (q.shape[0], q.shape[1], v.shape[2]))
    call = _native.SoftmaxCall(q, k, v, as_input(out), as_offsets(offsets, q.shape[0]),
                               0.0 if scale is None else scale, position, rope_theta, window or 0)
    return call, out


def softmax(q, k, v, *, offsets=None, scale=None, position="none", rope_theta=10000.0, window=None):
    """Softmax attention: out_i = sum over j <= i of softmax_j(scale * q_i . k_j) v_j.

    scale: 1/sqrt(dim) unless given. position: "none", "rope" (rotary, half-split pairs, base
    rope_theta; dim must be even; arXiv:2104.09864) or "alibi" (arXiv:2108.12409), with positions
    that start at 0 in each sequence. window: keys that a query sees, its own included.

    Vaswani et al. 2017, arXiv:1706.03762; tiles after Dao et al. 2022, arXiv:2205.14135.
    """
    return softmax_call(q, k, v, offsets, scale, position, rope_theta, window)[1]


def fox_call(q, k, v, log_f, offsets, scale, gate_scale):
    """Runs it: (the native call, out)."""
    q, k, v, log_f = as_input(q), as_input(k), as_input(v), as_input(log_f)
    check_heads(q=q, k=k, v=v)
    out = empty(q, (q.shape[0], q.shape[1], v.shape[2]))
    call = _native.FoxCall(q, k, v, log_f, as_input(out), as_offsets(offsets, q.shape[0]),
                           0.0 if scale is None else scale, gate_scale)
    return call, out


def fox(q, k, v, log_f, *, offsets=None, scale=None, gate_scale=1.0):
    """The Forgetting Transformer's attention: scores scale * q_i . k_j + gate_scale * (c_i - c_j).

    log_f [tokens, heads]: logarithms of the forget gates, finite and at most 0; float32, or float64
    beside a float64 q. c_t is their sum over the sequence up to t. No positions.

    Lin et al. 2025, arXiv:2503.02130.
    """
    return fox_call(q, k, v, log_f, offsets, scale, gate_scale)[1]


def stick_breaking_call(q, k, v, offsets, scale, attend_current, exit_threshold):
    """Runs it: (the native call, out, remainder)."""
    q, k, v = as_input(q), as_input(k), as_input(v)
    check_heads(q=q, k=k, v=v)
    out = empty(q, (q.shape[0], q.shape[1], v.shape[2]))
    remainder = empty(q, (q.shape[0], q.shape[1]), single=True)
    call = _native.StickBreakingCall(q, k, v, as_input(out), as_input(remainder),
                                     as_offsets(offsets, q.shape[0]),
                                     0.0 if scale is None else scale, attend_current,
                                     exit_threshold)
    return call, out, remainder


def stick_breaking(q, k, v, *, offsets=None, scale=None, attend_current=False,
                   exit_threshold=2.0**-24):
    """Stick-breaking attention: (out, remainder).

    Each query walks back over the keys before it; key j takes the share sigmoid(scale * q_i . k_j)
    of what newer keys left of a stick of length 1. remainder [tokens, heads] is what no key took
    (float32 beside bfloat16); add remainder[..., None] * vector to out to give it to a vector.
    attend_current: the walk starts at the query's own key. exit_threshold: a walk stops when at most
    this share is left; 0: never. float64 walks to the end.

    Tan et al. 2025, arXiv:2410.17980.
    """
    return stick_breaking_call(q, k, v, offsets, scale, attend_current, exit_threshold)[1:]


def path_call(q, k, v, w, beta, log_f, offsets, scale, gate_scale):
    """Runs it: (the native call, out)."""
    q, k, v, w, beta = (as_input(x) for x in (q, k, v, w, beta))
    check_heads(q=q, k=k, v=v, w=w)
    out = empty(q, (q.shape[0], q.shape[1], v.shape[2]))
    call = _native.PathCall(q, k, v, w, beta, None if log_f is None else as_input(log_f),
                            as_input(out), as_offsets(offsets, q.shape[0]),
                            0.0 if scale is None else scale, gate_scale)
    return call, out


def path(q, k, v, w, beta, log_f=None, *, offsets=None, scale=None, gate_scale=1.0):
    """PaTH attention: scores scale * k_j . H_{j+1} ... H_i q_i, H_t = I - beta_t w_t w_t^T.

    w [tokens, kv_heads, dim], of length 1, and beta [tokens, kv_heads], in [0, 2], are float32, or
    float64 beside a float64 q; n rows a token for n maps of each, up to 4. log_f [tokens, heads], if
    given, are the forget gates of fox.

    Yang et al. 2025, arXiv:2505.16381.
    """
    return path_call(q, k, v, w, beta, log_f, offsets, scale, gate_scale)[1]
