"""Losses: the sampled softmax against the whole one, learned task weights, conditions."""

import math

import pytest
import torch
from tiny import tiny_backbone
from torch import nn

from genrec.model.backbone import load_backbone
from genrec.model.batching import collate
from genrec.model.item_rows import ItemRows
from genrec.model.lora import add_lora
from genrec.model.recmodel import SAMPLES, Draws, RecModel, TaskHead
from genrec.rows.row import Row
from genrec.tasks.vocabulary import Group, build_vocabulary

ITEMS = 40


def row(tokens: list[int], targets: list[tuple[int, int, int, int]]) -> Row:
    """A history without branches; targets: place, task, answer, allowed set."""
    n = len(tokens)
    at, task, answer, allowed = (list(column) for column in zip(*targets, strict=True))
    return Row("shop", tokens, list(range(n)), [0] * n, [n] * n, at, at, task, answer, [1.0] * len(at), allowed, [])


@pytest.fixture
def model(tmp_path) -> RecModel:
    body = load_backbone(str(tiny_backbone(tmp_path / "tiny", ["a", "b"]))).model.float()
    words = body.get_input_embeddings().num_embeddings
    groups = [Group("shop", "click", 0, 2, ("no", "yes")), Group("shop", "items", 0, ITEMS)]
    vocabulary = build_vocabulary(words, groups)
    torch.manual_seed(0)
    rows = ItemRows(torch.randn(ITEMS, 32), torch.randn(ITEMS, 32), torch.ones(ITEMS, dtype=torch.bool))
    heads = [TaskHead(0, 0, "next_item", 1, 1.0), TaskHead(0, 1, "click", 0, 2.0)]
    found = RecModel(
        add_lora(body, 4, 8), vocabulary, {"shop": rows}, torch.randn(2, 32), heads=heads, learned_weights=True
    )
    return found.eval()


def batch_of(model: RecModel, allowed: int = -1) -> dict[str, torch.Tensor]:
    first = model.vocabulary.group("shop", "items").first
    return collate([row([0, first + 3, first + 7], [(0, 0, 3, -1), (1, 0, 7, allowed)])], 0)


def test_the_sample_s_correction_makes_its_partition_that_of_the_catalogue() -> None:
    """Summed over a sample, exp(score) / inclusion has the whole catalogue's sum as its mean."""
    n, events = 30_000, 500
    counts = 1 / torch.arange(1, n + 1, dtype=torch.float64)
    draws = Draws(0.5 * counts**0.75 / (counts**0.75).sum() + 0.5 / n, counts / counts.sum())
    value = 1 + counts * 100  # popular items weigh most
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(60):
        drawn = torch.multinomial(draws.probability, SAMPLES, replacement=True, generator=generator)
        shown = torch.multinomial(draws.share, events, replacement=True, generator=generator)
        subset = torch.cat([drawn, shown]).unique()
        found.append(float((value[subset] / draws.log_inclusion(subset, events).exp()).sum()))
    assert sum(found) / len(found) == pytest.approx(float(value.sum()), rel=0.01)


def test_sampling_all_items_is_the_whole_softmax(model: RecModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """With so many draws that no item is left out, the correction is nothing and the loss is the same."""
    fields = batch_of(model)
    for module in model.modules():
        module.training = isinstance(module, RecModel)  # no dropout: only the sampling
    exact = model(**fields)["shop/next_item/loss"]
    monkeypatch.setattr("genrec.model.recmodel.SAMPLED_ABOVE", ITEMS - 1)
    uniform = torch.full((ITEMS,), 1 / ITEMS)
    model.draws["shop"] = Draws(uniform, uniform)
    torch.testing.assert_close(model(**fields)["shop/next_item/loss"], exact)


def test_smoothing_spreads_a_share_over_the_items_that_training_has(model: RecModel) -> None:
    """Not so in the second part of the loss, by texts alone beside popularity."""
    fields = batch_of(model)
    catalogue = model.rows_of("shop")
    torch.nn.init.normal_(catalogue.bias)
    torch.nn.init.normal_(catalogue.text_up)
    catalogue.spared[9] = True
    catalogue.warm[:4] = False
    fields["target_id"][:] = 7
    rows, bias = catalogue()
    states = model.hidden(model.embed(fields["tokens"], "shop", rows), None, None).last_hidden_state[0, :2]
    scores = model.item_scores(states, catalogue.log_scale, rows, bias)[:, 4:]
    by_text = model.item_scores(states, catalogue.text_log_scale, catalogue.by_text(), catalogue.bias)
    by_text[:, 9] = -torch.inf  # spared
    model.label_smoothing = 0.2
    for module in model.modules():
        module.training = isinstance(module, RecModel)  # no dropout
    expected = nn.functional.cross_entropy(scores, torch.tensor([3, 3]), reduction="sum", label_smoothing=0.2)
    expected = expected + nn.functional.cross_entropy(by_text[:, 4:], torch.tensor([3, 3]), reduction="sum")
    torch.testing.assert_close(model(**fields)["shop/next_item/loss"], expected, atol=1e-4, rtol=1e-4)


def test_a_condition_leaves_only_its_items_in_the_softmax(model: RecModel) -> None:
    mask = torch.zeros(1, ITEMS, dtype=torch.bool)
    mask[0, [7, 9]] = True
    model.allowed[0] = mask
    losses = {}
    for name, allowed in (("plain", -1), ("under", 0)):
        losses[name] = float(model(**batch_of(model, allowed))["shop/next_item/loss"])
    fields = batch_of(model)
    rows, bias = model.rows_of("shop")()
    states = model.hidden(model.embed(fields["tokens"], "shop", rows), None, None).last_hidden_state[0, 1]
    scores = model.item_scores(states[None], model.rows_of("shop").log_scale, rows, bias)[0]
    difference = nn.functional.cross_entropy(scores, torch.tensor(7)) - nn.functional.cross_entropy(
        scores[[7, 9]], torch.tensor(0)
    )
    assert losses["plain"] - losses["under"] == pytest.approx(difference.item(), abs=1e-4)


def test_learned_weights_settle_at_the_loss_however_rare_a_task_is(model: RecModel) -> None:
    """d/ds of w (exp(-s) L + s / 2), the second half also in batches that lack the task."""
    output = model(**batch_of(model))
    output["loss"].backward()
    asked = float(output["shop/next_item/loss"]) / 2
    assert model.log_variance.grad.tolist() == pytest.approx([0.5 - asked, 2.0 * 0.5], rel=1e-4)
    assert math.isclose(model.log_variance.sum().item(), 0)


def test_an_item_that_nobody_took_in_training_is_no_wrong_answer(model: RecModel) -> None:
    """It is placed by its text alone, and training does not push it down."""
    catalogue = model.rows_of("shop")
    catalogue.warm[20] = False
    model.dropout.p = 0.0
    losses = []
    for factor in (1.0, -3.0):
        catalogue.text[20] *= factor
        model.train()
        output = model(**batch_of(model))
        losses.append(float(output["shop/next_item/loss"]))
    assert losses[0] == losses[1]
    model.zero_grad()
    output["loss"].backward()
    assert catalogue.residual.grad[20].abs().max() == 0 and catalogue.residual.grad[21].abs().max() > 0
    catalogue.residual.data[20], catalogue.bias.data[20] = 5.0, 5.0
    rows, bias = model.eval().rows_of("shop")()
    text = catalogue.text[20]
    torch.testing.assert_close(rows[20], text + text @ catalogue.down @ catalogue.up)
    assert bias[20] == 0
