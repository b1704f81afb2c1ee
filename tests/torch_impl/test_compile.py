"""Under `torch.compile`: the numbers of eager code, and one operator each way.

With the backend that compiles nothing after tracing, which takes a tenth of a second
where Inductor takes ten; that is tried once.
"""

from __future__ import annotations

import pytest
import torch
from functorch.compile import make_boxed_func
from torch._dynamo.backends.common import aot_autograd

from tests.torch_impl.allocations import record_allocations
from tests.torch_impl.programs import (
    CHUNKS,
    HIDDEN_DIM,
    NUM_TOKENS,
    OPTIONS,
    VOCAB_SIZE,
    assert_same,
    compiled,
    make_arrays,
    model,
    nothing_trained,
    on_device,
    results,
)
from torch_impl import LinearCrossEntropyLoss, linear_cross_entropy

# All PyTorch's own: Dynamo makes a bare Function for every one that it traces, and
# Inductor and forward mode still use what is left of TorchScript.
pytestmark = [
    pytest.mark.usefixtures("fresh_dynamo"),
    pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script.*deprecated:DeprecationWarning"),
]


@pytest.mark.parametrize("vocab_axis", [0, 1])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_value_and_gradients(options, vocab_axis):
    arrays = make_arrays(vocab_axis=vocab_axis)
    function = model(vocab_axis=vocab_axis, **options)
    assert_same(results(compiled(function), arrays), results(function, arrays))


@pytest.mark.parametrize("strategy", ["one_pass", "auto"])
def test_other_strategies_have_two_passes(strategy):
    arrays = make_arrays()
    found = results(compiled(model(strategy=strategy)), arrays)
    assert_same(found, results(model(strategy="two_pass"), arrays))


@pytest.mark.cpu_only("it reads the events of the CPU's allocator")
def test_inductor(tmp_path):
    """Its tanh is not that of eager code, so to rounding; and no [N, V] either."""
    arrays = make_arrays(256, 4096)
    function = model(label_smoothing=0.1, vocab_chunk=256, token_chunk=64)
    fast = compiled(function, backend="inductor")
    torch.testing.assert_close(results(fast, arrays), results(function, arrays))
    assert record_allocations(lambda: results(fast, arrays), tmp_path).largest < 4 * 256 * 4096 / 10


@pytest.mark.cpu_only("it reads the events of the CPU's allocator")
def test_budget(tmp_path):
    """The plan is made in the operators, which must hear of it."""
    arrays = make_arrays(256, 4096)
    largest = []
    for budget in (None, 3 * 2**19):
        function = compiled(model(vocab_chunk=None, token_chunk=None, memory_budget=budget))
        recorded = record_allocations(lambda step=function: results(step, arrays), tmp_path)
        largest.append(recorded.largest)
    assert largest[1] < 2**20 < largest[0]


@pytest.mark.parametrize("dynamic", [False, True])
def test_one_operator_each_way(dynamic):
    """No loop is unrolled into the graph, and nothing there is tokens x vocabulary."""
    graphs = []

    def keep(graph, inputs):
        graphs.append(graph.graph)
        return make_boxed_func(graph.forward)

    backend = aot_autograd(fw_compiler=keep, bw_compiler=keep)
    arrays = make_arrays()
    results(compiled(model(**OPTIONS["all"]), backend=backend, dynamic=dynamic), arrays)

    operators = torch.ops.memory_efficient_logits
    ours = [operators.two_pass_forward.default, operators.two_pass_backward.default]
    found = [[node.target for node in graph.nodes if node.target in ours] for graph in graphs]
    assert found == [ours[:1], ours[1:]]
    sizes = [
        int(node.meta["val"].numel())
        for graph in graphs
        for node in graph.nodes
        if isinstance(node.meta.get("val"), torch.Tensor)
    ]
    assert max(sizes) == VOCAB_SIZE * HIDDEN_DIM < NUM_TOKENS * VOCAB_SIZE


@pytest.mark.parametrize(
    "options", [{}, CHUNKS, {"return_aux": True}], ids=["plan", "chunks", "aux"]
)
def test_any_number_of_tokens(options):
    """One graph for those within a token chunk, that of the plan too, and one beyond."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

    function = model(**{"vocab_chunk": None, "token_chunk": None, **options})
    dynamic = compiled(function, backend=backend, dynamic=True)
    for num_tokens in (20, 30, 2047, 2048, 3000, 2, 7):
        arrays = make_arrays(num_tokens)
        assert_same(results(dynamic, arrays), results(function, arrays))
    assert len(graphs) <= 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("inside", [False, True])
def test_autocast(dtype, inside):
    """In the compiled code or around it; the backward is run outside, as it should be."""
    device = torch.get_default_device().type

    def with_autocast(function):
        def cast(*arrays):
            with torch.autocast(device, dtype=dtype):
                return function(*arrays)

        return cast

    arrays, function = make_arrays(), model(**OPTIONS["all"])
    found = compiled(with_autocast(function)) if inside else with_autocast(compiled(function))
    expected = results(with_autocast(function), arrays)
    assert not torch.equal(expected[0], results(function, arrays)[0])  # it did something
    assert_same(results(found, arrays), expected)


@pytest.mark.parametrize("change", [list, nothing_trained])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_loss_alone(mode, change):
    arrays, function = change(make_arrays()), model(return_aux=True)
    with mode():
        found = compiled(function)(*arrays)
        assert_same(found, function(*arrays))
    assert found[0].requires_grad == (mode is torch.enable_grad and change is list)


def test_module():
    hidden, weight, labels, bias = make_arrays()
    options = on_device(OPTIONS["all"])
    weights = options["class_weight"], options["token_weight"]
    module = LinearCrossEntropyLoss(class_weight=weights[0], label_smoothing=0.1, **CHUNKS)
    found, expected = (
        torch.autograd.grad(
            each(hidden, weight, labels, bias=bias, token_weight=weights[1]), weight
        )
        for each in (compiled(module), module)
    )
    assert_same(found, expected)


def test_vmap():
    """Over a batch of problems that share the weight, the whole compiled."""
    generator = torch.Generator(torch.get_default_device()).manual_seed(1)
    hidden = torch.randn(3, 5, 4, generator=generator)
    weight = torch.randn(7, 4, generator=generator)
    labels = torch.randint(7, (3, 5), generator=generator)

    def losses(hidden, labels):
        return torch.func.vmap(lambda *one: linear_cross_entropy(one[0], weight, one[1]))(
            hidden, labels
        )

    compiled = torch.compile(losses, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(hidden, labels), losses(hidden, labels), rtol=0, atol=0)
