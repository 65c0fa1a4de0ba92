"""The functions of cairn.attention for torch.autograd; the same arguments and shapes.

    from cairn.attention import torch as attention

    out = attention.fox(q, k, v, torch.nn.functional.logsigmoid(gates))
    out.sum().backward()

Tensors are on the CPU. float32 and bfloat16 are fast; float64 passes torch.autograd.gradcheck.
Second derivatives are not there.
"""

import torch
from torch.autograd.function import once_differentiable

from . import as_input, empty, fox_call, path_call, softmax_call, stick_breaking_call

__all__ = ["fox", "path", "softmax", "stick_breaking"]


class _Softmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, offsets, scale, position, rope_theta, window):
        ctx.call, out = softmax_call(q, k, v, offsets, scale, position, rope_theta, window)
        ctx.save_for_backward(q, k, v, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, dout):
        q, k, v, _ = ctx.saved_tensors  # refuses tensors that were changed since
        dq, dk, dv = (empty(x, x.shape) for x in (q, k, v))
        ctx.call.backward(as_input(dout), dq, dk, dv)
        return (dq, dk, dv) + (None,) * 5


def softmax(q, k, v, *, offsets=None, scale=None, position="none", rope_theta=10000.0, window=None):
    """cairn.attention.softmax with gradients for q, k and v."""
    return _Softmax.apply(q, k, v, offsets, scale, position, rope_theta, window)


class _Fox(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, log_f, offsets, scale, gate_scale):
        ctx.call, out = fox_call(q, k, v, log_f, offsets, scale, gate_scale)
        ctx.save_for_backward(q, k, v, log_f, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, dout):
        q, k, v, log_f, _ = ctx.saved_tensors  # refuses tensors that were changed since
        dq, dk, dv, dlog_f = (empty(x, x.shape) for x in (q, k, v, log_f))
        ctx.call.backward(as_input(dout), dq, dk, dv, dlog_f)
        return (dq, dk, dv, dlog_f) + (None,) * 3


def fox(q, k, v, log_f, *, offsets=None, scale=None, gate_scale=1.0):
    """cairn.attention.fox with gradients for q, k, v and log_f."""
    return _Fox.apply(q, k, v, log_f, offsets, scale, gate_scale)


class _StickBreaking(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, offsets, scale, attend_current, exit_threshold):
        ctx.call, out, remainder = stick_breaking_call(q, k, v, offsets, scale, attend_current,
                                                       exit_threshold)
        ctx.save_for_backward(q, k, v)
        return out, remainder

    @staticmethod
    @once_differentiable
    def backward(ctx, dout, dremainder):
        tensors = ctx.saved_tensors  # refuses tensors that were changed since
        dq, dk, dv = (empty(x, x.shape) for x in tensors)
        ctx.call.backward(as_input(dout), as_input(dremainder), dq, dk, dv)
        return (dq, dk, dv) + (None,) * 4


def stick_breaking(q, k, v, *, offsets=None, scale=None, attend_current=False,
                   exit_threshold=2.0**-24):
    """cairn.attention.stick_breaking with gradients for q, k and v from out and remainder."""
    return _StickBreaking.apply(q, k, v, offsets, scale, attend_current, exit_threshold)


class _Path(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, w, beta, log_f, offsets, scale, gate_scale):
        ctx.call, out = path_call(q, k, v, w, beta, log_f, offsets, scale, gate_scale)
        ctx.save_for_backward(q, k, v, w, beta, log_f, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, dout):
        tensors = ctx.saved_tensors[:-1]  # refuses tensors that were changed since
        gradients = [None if x is None else empty(x, x.shape) for x in tensors]
        ctx.call.backward(as_input(dout), *gradients)
        return (*gradients, None, None, None)


def path(q, k, v, w, beta, log_f=None, *, offsets=None, scale=None, gate_scale=1.0):
    """cairn.attention.path with gradients for q, k, v, w, beta and log_f."""
    return _Path.apply(q, k, v, w, beta, log_f, offsets, scale, gate_scale)
