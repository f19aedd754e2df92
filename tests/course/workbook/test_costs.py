"""Calls, memory and work are counted, the same on every machine."""

import pytest
import torch
from torch import nn

from minitransformer.course.workbook.costs import calls, cost, same_memory


def test_calls_are_noted_of_modules_classes_and_objects(toys):
    class Model(nn.Module):
        def forward(self, x):
            return toys.rest(x)

    class Other(Model):
        pass

    model, before = Other(), Model.forward
    with calls(Model, "forward") as of_class, calls(toys, "rest") as of_module:
        model(torch.ones(3))
        model(x=torch.ones(2))
    assert [len(args) for args, _ in of_class] == [2, 1] and list(of_class[1][1]) == ["x"]
    assert len(of_module) == 2 and Model.forward is before
    with calls(Other, "forward") as inherited:
        model(torch.ones(3))
    assert len(inherited) == 1 and "forward" not in vars(Other)
    with pytest.raises(ValueError), calls(toys, "rest"):
        raise ValueError
    assert toys.rest(torch.ones(3)).shape == (2,)


def doubled(x, times):
    for _ in range(times):
        x = x * 2
    return x


def test_work_and_memory_of_a_chain_of_products():
    """Each product writes 10 numbers; two of them are alive at once, the input aside."""
    counted = cost(doubled, torch.ones(10), times=5)
    assert (counted.operations, counted.work, counted.made, counted.peak) == (5, 50, 50, 20)
    assert counted.value.sum() == 320


def test_views_cost_nothing_and_writing_in_place_makes_nothing():
    assert cost(lambda x: x.view(2, 5).t()[0], torch.ones(10)).work == 0
    counted = cost(lambda x: x.add_(1), torch.ones(10))
    assert (counted.work, counted.made) == (10, 0)


def test_graphs_that_are_alive_at_once_are_seen():
    """Losses that are summed before backward keep all their graphs; backward after each keeps one."""
    weights = torch.ones(1000, requires_grad=True)

    def loss():
        return (weights * weights).exp().sum()

    def together(n):
        sum(loss() for _ in range(n)).backward()

    def one_by_one(n):
        for _ in range(n):
            loss().backward()

    for way, growth in ((together, 1000 * 6), (one_by_one, 0)):
        few, many = (cost(way, n).peak for n in (3, 9))
        assert abs(many - few - growth) < 20, (way.__name__, few, many)


def test_room_that_is_made_anew_for_each_token_grows_with_the_square():
    def appended(n):
        kept = torch.zeros(0, 4)
        for _ in range(n):
            kept = torch.cat([kept, torch.ones(1, 4)])
        return kept

    def written(n):
        kept = torch.zeros(n, 4)
        for i in range(n):
            kept[i] = 1.0
        return kept

    assert torch.equal(appended(5), written(5))
    assert cost(appended, 80).work / cost(appended, 40).work > 3.5
    assert cost(written, 80).work / cost(written, 40).work == 2


def test_views_share_memory_and_copies_do_not():
    x = torch.ones(4)
    assert same_memory(x, x[1:]) and not same_memory(x, x.clone())
