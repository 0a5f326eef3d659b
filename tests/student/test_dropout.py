"""Dropout on a processor: the share that falls out, what is left in its place, and that one seed gives one outcome."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from runner.student import dropout


def drawn(share: float, values: torch.Tensor, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    result: torch.Tensor = dropout.Dropout(share).train()(values)
    return result


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_share_falls_out_and_the_mean_stays(share: float) -> None:
    found = drawn(share, torch.ones(1000, 1001))
    assert float((found == 0).float().mean()) == pytest.approx(share, abs=0.003)
    assert float(found.mean()) == pytest.approx(1.0, abs=0.02)
    assert len(found.unique()) == 2


@pytest.mark.parametrize("shape", [(1,), (3, 5, 7), (0, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shape_and_type_stay(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    found = drawn(0.1, torch.ones(shape, dtype=dtype))
    assert (found.shape, found.dtype) == (shape, dtype)


def test_units_fall_out_one_by_one() -> None:
    """No bits of one unit say what becomes of its neighbours, nor of the same unit a step later."""
    torch.manual_seed(1)
    part = dropout.Dropout(0.5).train()
    steps = [(part(torch.ones(100_000)) == 0).float() for _ in range(3)]
    pairs = [*pairwise(steps), *((steps[0][lag:], steps[0][:-lag]) for lag in (1, 2, 4, 8))]
    for one, other in pairs:
        assert abs(float(torch.corrcoef(torch.stack([one, other]))[0, 1])) < 0.02


def test_torchs_seed_decides() -> None:
    values = torch.ones(1000)
    assert torch.equal(drawn(0.1, values), drawn(0.1, values))
    assert not torch.equal(drawn(0.1, values), drawn(0.1, values, seed=1))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_none_and_all(share: float) -> None:
    assert torch.equal(drawn(share, torch.ones(10)), torch.full((10,), 1.0 - share))


def test_nothing_falls_out_where_nothing_is_learned() -> None:
    values = torch.ones(10)
    assert dropout.Dropout(0.5).eval()(values) is values


def test_gradients_pass_where_values_do() -> None:
    values = torch.ones(1000, requires_grad=True)
    found = drawn(0.3, values)
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert values.grad is not None and torch.equal(values.grad, found.detach())


def test_it_takes_the_place_of_torchs() -> None:
    model = torch.nn.Sequential(
        torch.nn.Dropout(0.2), torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout(0.3))
    )
    dropout.put_in(model.eval())
    found = [module for module in model.modules() if isinstance(module, dropout.Dropout)]
    assert [(module.p, module.training) for module in found] == [(0.2, False), (0.3, False)]
    assert not any(type(module) is torch.nn.Dropout for module in model.modules())
