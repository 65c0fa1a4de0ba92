"""cairn.attention against definitions of a few lines in float64."""

import gc
import weakref

import cairn
import numpy as np
import pytest
from cairn import attention

try:
    import torch
except ImportError:
    torch = None

needs_torch = pytest.mark.skipif(torch is None, reason="torch is not installed")
RANDOM = np.random.default_rng(7)


def inputs(tokens, heads=4, kv_heads=2, dim=16, value_dim=24, dtype=np.float32):
    shapes = [(tokens, heads, dim), (tokens, kv_heads, dim), (tokens, kv_heads, value_dim)]
    return [RANDOM.standard_normal(shape).astype(dtype) for shape in shapes]


def gates(tokens, heads=4, dtype=np.float32):
    return -np.logaddexp(0, -RANDOM.standard_normal((tokens, heads)) - 1).astype(dtype)


def defined(q, k, v, offsets=None, scale=None, bias=None, window=None):
    """bias(head, begin, end) [n, n] is added to the scores of a sequence."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    group = q.shape[1] // k.shape[1]
    out = np.zeros((q.shape[0], q.shape[1], v.shape[2]))
    offsets = [0, len(q)] if offsets is None else offsets
    for begin, end in zip(offsets, offsets[1:]):
        place = np.arange(end - begin)
        distance = place[:, None] - place[None, :]
        seen = (distance >= 0) & (distance < (window or len(q) + 1))
        for head in range(q.shape[1]):
            keys, values = k[begin:end, head // group], v[begin:end, head // group]
            scores = q[begin:end, head] @ keys.T * (scale or q.shape[2] ** -0.5)
            scores += bias(head, begin, end) if bias else 0
            weights = np.where(seen, np.exp(scores - scores.max(where=seen, initial=-1e300,
                                                                axis=1, keepdims=True)), 0)
            out[begin:end, head] = weights @ values / weights.sum(1, keepdims=True)
    return out


def forgetting(log_f, scale=1.0):
    def bias(head, begin, end):
        c = np.cumsum(log_f[begin:end, head].astype(np.float64))
        return scale * np.minimum(c[:, None] - c[None, :], 0)  # masked above the diagonal

    return bias


@pytest.mark.parametrize("tokens", [1, 2, 63, 65, 300])
@pytest.mark.parametrize("dtype,bound", [(np.float32, 1e-5), (np.float64, 1e-6)])
def test_softmax_is_its_definition(tokens, dtype, bound):
    q, k, v = inputs(tokens, dtype=dtype)
    out = attention.softmax(q, k, v)
    assert out.dtype == dtype and out.shape == (tokens, 4, 24)
    assert np.abs(out - defined(q, k, v)).max() < bound


def test_softmax_with_documents_window_scale_and_slopes():
    q, k, v = inputs(200)
    offsets = [0, 15, 16, 200]
    out = attention.softmax(q, k, v, offsets=offsets, scale=0.3, window=20)
    assert np.abs(out - defined(q, k, v, offsets, 0.3, window=20)).max() < 1e-5
    slopes = [2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8]

    def alibi(head, begin, end):
        place = np.arange(end - begin)
        return -slopes[head] * np.abs(place[:, None] - place[None, :])

    out = attention.softmax(q, k, v, offsets=np.array(offsets), position="alibi")
    assert np.abs(out - defined(q, k, v, offsets, bias=alibi)).max() < 1e-5


def test_rotary_positions_start_again_in_each_sequence():
    q, k, v = inputs(60)
    out = attention.softmax(q, k, v, position="rope", offsets=[0, 25, 60])
    alone = attention.softmax(q[25:], k[25:], v[25:], position="rope")
    assert np.abs(out[25:] - alone).max() < 1e-6
    assert np.abs(out - attention.softmax(q, k, v, offsets=[0, 25, 60])).max() > 1e-3


@pytest.mark.parametrize("dtype,bound", [(np.float32, 1e-5), (np.float64, 1e-6)])
def test_fox_is_its_definition(dtype, bound):
    q, k, v = inputs(150, dtype=dtype)
    log_f = gates(150, dtype=dtype)
    out = attention.fox(q, k, v, log_f, offsets=[0, 70, 150], gate_scale=0.5)
    expected = defined(q, k, v, [0, 70, 150], bias=forgetting(log_f, 0.5))
    assert np.abs(out - expected).max() < bound


def test_views_with_strides_give_the_same_as_copies():
    wide = RANDOM.standard_normal((80, 3, 4, 16)).astype(np.float32)
    q, k, v = (wide[:, i] for i in range(3))
    expected = attention.softmax(q.copy(), k.copy(), v.copy())
    assert np.array_equal(attention.softmax(q, k, v), expected)
    every_other = attention.softmax(q[::2], k[::2], v[::2])
    assert np.array_equal(every_other, attention.softmax(q[::2].copy(), k[::2].copy(), v[::2].copy()))
    backwards = attention.softmax(q[::-1], k[::-1, ::-1], v[..., ::-1])
    copies = [np.ascontiguousarray(x) for x in (q[::-1], k[::-1, ::-1], v[..., ::-1])]
    assert np.array_equal(backwards, attention.softmax(*copies))
    q.setflags(write=False)
    assert np.array_equal(attention.softmax(q, k, v), expected)


def test_an_empty_batch_gives_an_empty_result():
    q, k, v = inputs(0)
    assert attention.softmax(q, k, v).shape == (0, 4, 24)


def test_numbers_that_are_none_stay_in_their_rows():
    q, k, v = inputs(90)
    k[40] = np.nan
    out = attention.softmax(q, k, v)
    assert np.isfinite(out[:40]).all() and np.isnan(out[40:]).all()


def test_the_caller_keeps_its_denormals():
    attention.softmax(*inputs(10))
    assert np.float32(1e-40) * np.float32(0.5) > 0


@pytest.mark.parametrize(
    "change,argument",
    [
        (lambda a: a.update(q=a["q"][:, :3]), "heads"),
        (lambda a: a.update(q=a["q"][0]), "q"),
        (lambda a: a.update(k=a["k"][:-1]), "k"),
        (lambda a: a.update(k=a["k"][..., :-1]), "k"),
        (lambda a: a.update(v=a["v"][:, :1]), "v"),
        (lambda a: a.update(v=a["v"].astype(np.float64)), "v"),
        (lambda a: a.update(q=a["q"].astype(np.int64)), "q"),
        (lambda a: a.update(offsets=[0, 19]), "offsets"),
        (lambda a: a.update(offsets=[1, 20]), "offsets"),
        (lambda a: a.update(offsets=[0, 12, 8, 20]), "offsets"),
        (lambda a: a.update(offsets=[0, 2**40]), "offsets"),
        (lambda a: a.update(offsets=[]), "offsets"),
        (lambda a: a.update(offsets=[0.5, 20]), "offsets"),
        (lambda a: a.update(scale=-1.0), "scale"),
        (lambda a: a.update(scale=float("nan")), "scale"),
        (lambda a: a.update(gate_scale=-1.0), "gate_scale"),
        (lambda a: a.update(log_f=a["log_f"][:, :3]), "log_f"),
        (lambda a: a.update(log_f=a["log_f"] + 9), "log_f"),
        (lambda a: a.update(log_f=a["log_f"] * np.inf), "log_f"),
        (lambda a: a.update(log_f=a["log_f"].astype(np.float64)), "log_f"),
    ],
)
def test_wrong_arguments_are_named(change, argument):
    q, k, v = inputs(20)
    arguments = {"q": q, "k": k, "v": v, "log_f": gates(20)}
    change(arguments)
    with pytest.raises(cairn.UsageError, match=argument):
        attention.fox(**arguments)


def test_heads_beyond_the_kernels_are_refused():
    for dim, value_dim in [(257, 8), (8, 257), (0, 8)]:
        with pytest.raises(cairn.UsageError, match="1 to 256"):
            attention.softmax(*inputs(5, dim=dim, value_dim=value_dim))
    with pytest.raises(cairn.UsageError, match="even"):
        attention.softmax(*inputs(5, dim=15), position="rope")
    with pytest.raises(cairn.UsageError, match="alibi"):
        attention.softmax(*inputs(5), position="sine")


def maps(tokens, kv_heads=2, dim=16, dtype=np.float32):
    w = RANDOM.standard_normal((tokens, kv_heads, dim))
    w /= np.linalg.norm(w, axis=2, keepdims=True)
    return w.astype(dtype), RANDOM.uniform(0, 2, (tokens, kv_heads)).astype(dtype)


@pytest.mark.parametrize("dtype,bound", [(np.float32, 1e-5), (np.float64, 1e-6)])
@pytest.mark.parametrize("attend_current", [False, True])
def test_stick_breaking_is_its_definition(dtype, bound, attend_current):
    q, k, v = inputs(150, dtype=dtype)
    offsets = [0, 70, 150]
    out, remainder = attention.stick_breaking(q, k, v, offsets=offsets,
                                              attend_current=attend_current)
    assert out.dtype == remainder.dtype == dtype and remainder.shape == (150, 4)
    for begin, end in zip(offsets, offsets[1:]):
        for i in range(begin, end):
            for head in range(4):
                stick, expected = 1.0, np.zeros(24)
                for j in range(i if attend_current else i - 1, begin - 1, -1):
                    share = 1 / (1 + np.exp(-q[i, head].astype(float) @ k[j, head // 2] / 4))
                    expected += stick * share * v[j, head // 2]
                    stick *= 1 - share
                assert np.abs(out[i, head] - expected).max() < bound
                assert abs(remainder[i, head] - stick) < bound


@pytest.mark.parametrize("dtype,bound", [(np.float32, 2e-5), (np.float64, 1e-6)])
def test_path_is_its_definition(dtype, bound):
    q, k, v = inputs(100, dtype=dtype)
    (w, beta), log_f = maps(100, dtype=dtype), gates(100, dtype=dtype)
    out = attention.path(q, k, v, w, beta, log_f)
    scores = np.full((4, 100, 100), -1e30)
    for head in range(4):
        c = np.cumsum(log_f[:, head].astype(float))
        for i in range(100):
            x = q[i, head].astype(float)
            for j in range(i, -1, -1):
                scores[head, i, j] = x @ k[j, head // 2] / 4 + c[i] - c[j]
                x = x - beta[j, head // 2] * (w[j, head // 2] @ x) * w[j, head // 2]
    weights = np.exp(scores - scores.max(2, keepdims=True))
    weights /= weights.sum(2, keepdims=True)
    expected = np.einsum("hij,jhd->ihd", weights, np.repeat(v, 2, 1))
    assert np.abs(out - expected).max() < bound
    still = attention.path(q, k, v, w, beta * 0)
    assert np.abs(still - attention.softmax(q, k, v)).max() < bound


@pytest.mark.parametrize(
    "change,argument",
    [
        (lambda a: a.update(beta=a["beta"] + 2.1), "beta"),
        (lambda a: a.update(beta=a["beta"] - 2.1), "beta"),
        (lambda a: a.update(beta=a["beta"][:, :1]), "beta"),
        (lambda a: a.update(beta=a["beta"] * np.nan), "beta"),
        (lambda a: a.update(w=a["w"] * 3), "w"),
        (lambda a: a.update(w=a["w"][:-1]), "w"),
        (lambda a: a.update(w=a["w"][0]), "w"),
        (lambda a: a.update(w=a["w"][..., :3]), "w"),
        (lambda a: a.update(w=np.repeat(a["w"], 5, 0)), "w"),
        (lambda a: a.update(log_f=gates(20)[:, :3]), "log_f"),
        (lambda a: a.update(offsets=[0, 21]), "offsets"),
    ],
)
def test_wrong_maps_are_named(change, argument):
    q, k, v = inputs(20)
    w, beta = maps(20)
    arguments = {"q": q, "k": k, "v": v, "w": w, "beta": beta}
    change(arguments)
    with pytest.raises(cairn.UsageError, match=argument):
        attention.path(**arguments)


@needs_torch
def test_sticks_and_maps_pass_gradcheck():
    from cairn.attention import torch as differentiable

    arrays = inputs(9, dim=4, value_dim=3, dtype=np.float64)
    tensors = [torch.tensor(x, requires_grad=True) for x in arrays]
    assert torch.autograd.gradcheck(
        lambda *x: differentiable.stick_breaking(*x, offsets=[0, 4, 9]), tensors)
    w, beta = maps(9, dim=4, dtype=np.float64)
    more = [torch.tensor(x, requires_grad=True)
            for x in (w, beta * 0.9 + 0.1, gates(9, dtype=np.float64))]
    assert torch.autograd.gradcheck(
        lambda *x: differentiable.path(*x, offsets=[0, 4, 9]), tensors + more)
    assert torch.autograd.gradcheck(
        lambda *x: differentiable.path(*x), tensors + more[:2])


@needs_torch
@pytest.mark.parametrize("mechanism", ["stick_breaking", "path"])
def test_fast_gradients_of_sticks_and_maps_are_those_in_float64(mechanism):
    from cairn.attention import torch as differentiable

    arrays = list(inputs(140))
    if mechanism == "path":
        arrays += [*maps(140), gates(140)]

    def gradients(kind):
        tensors = [torch.tensor(x, dtype=kind, requires_grad=True) for x in arrays]
        out = getattr(differentiable, mechanism)(*tensors)
        loss = out.square().sum() if mechanism == "path" else out[0].square().sum() + out[1].sum()
        loss.backward()
        return [x.grad for x in tensors]

    for mine, right in zip(gradients(torch.float32), gradients(torch.float64)):
        assert (mine.double() - right).norm() < 2e-4 * right.norm()


@needs_torch
@pytest.mark.parametrize("mechanism", ["softmax", "rope", "alibi", "window", "fox"])
def test_gradients_pass_gradcheck(mechanism):
    from cairn.attention import torch as differentiable

    arrays = inputs(9, dim=4, value_dim=3, dtype=np.float64)
    tensors = [torch.tensor(x, requires_grad=True) for x in arrays]
    options = {"rope": {"position": "rope"}, "alibi": {"position": "alibi"}, "window": {"window": 3}}
    if mechanism == "fox":
        tensors.append(torch.tensor(gates(9, dtype=np.float64), requires_grad=True))
        assert torch.autograd.gradcheck(
            lambda *x: differentiable.fox(*x, offsets=[0, 4, 9]), tensors)
    else:
        assert torch.autograd.gradcheck(
            lambda *x: differentiable.softmax(*x, offsets=[0, 4, 9],
                                              **options.get(mechanism, {})), tensors)


@needs_torch
@pytest.mark.parametrize("dtype,bound", [("float32", 1e-4), ("bfloat16", 3e-2)])
def test_fast_gradients_are_those_of_autograd(dtype, bound):
    from cairn.attention import torch as differentiable

    q, k, v, log_f = (torch.tensor(x) for x in (*inputs(140), gates(140)))
    dout = torch.tensor(RANDOM.standard_normal((140, 4, 24)).astype(np.float32))

    def plain(q, k, v, log_f):
        k, v = (x.repeat_interleave(2, 1) for x in (k, v))
        c = log_f.cumsum(0).T
        scores = torch.einsum("ihd,jhd->hij", q, k) / 4 + c[:, :, None] - c[:, None, :]
        hidden = torch.ones(140, 140, dtype=torch.bool).triu(1)
        return torch.einsum("hij,jhd->ihd", scores.masked_fill(hidden, -1e30).softmax(2), v)

    def gradients(function, tensors):
        tensors = [x.detach().clone().requires_grad_() for x in tensors]
        out = function(*tensors)
        out.backward(dout.to(out.dtype))
        return [out] + [x.grad for x in tensors]

    kind = getattr(torch, dtype)
    rounded = [x.to(kind) for x in (q, k, v)]
    ours = gradients(differentiable.fox, [*rounded, log_f])
    assert ours[0].dtype == kind and ours[4].dtype == torch.float32
    theirs = gradients(plain, [x.double() for x in (*rounded, log_f)])
    for mine, right in zip(ours, theirs):
        assert (mine.double() - right).norm() < bound * right.norm()


@needs_torch
def test_tensors_changed_in_place_are_refused_by_backward():
    from cairn.attention import torch as differentiable

    q, k, v = (torch.tensor(x, requires_grad=True) for x in inputs(10))
    held = q * 1
    out = differentiable.softmax(held, k, v)
    held.mul_(2)
    with pytest.raises(RuntimeError, match="inplace"):
        out.sum().backward()


@needs_torch
def test_results_are_freed_with_their_last_reference():
    from cairn.attention import torch as differentiable

    q, k, v = (torch.tensor(x, requires_grad=True) for x in inputs(10))
    out = differentiable.softmax(q, k, v)
    gone = weakref.ref(out)
    del out
    gc.collect()
    assert gone() is None
