"""A backbone with LoRA, the added tokens of a run, and the scores over them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..tasks.vocabulary import ITEMS, Group, Vocabulary
from .batching import Batch
from .encoder_decoder import split_of
from .item_rows import ItemRows
from .losses import conditional, outcome_losses, smoothed

SAMPLED_ABOVE = 20_000  # catalogues larger than this train with a sampled softmax
SAMPLES = 8_192


@dataclass(frozen=True)
class TaskHead:
    """How one task on one data set enters the loss.

    dataset, task: their numbers in the rows. group: its answers' place in the vocabulary.
    """

    dataset: int
    task: int
    name: str
    group: int
    weight: float


@dataclass(frozen=True)
class Draws:
    """How items get into a sampled softmax: probability (items,) of each draw, and share (items,) of the events."""

    probability: Tensor
    share: Tensor

    def log_inclusion(self, index: Tensor, events: int) -> Tensor:
        """Log probability that the items at `index` are among SAMPLES draws and `events` events of a batch."""
        missed = SAMPLES * torch.log1p(-self.probability[index]) + events * torch.log1p(-self.share[index])
        return torch.log(-torch.expm1(missed))


@dataclass(frozen=True)
class CatalogueView:
    """A catalogue as a batch sees it: vectors (n, width) and biases (n,) of all its items, or of a sample.

    subset: (n,) catalogue indices of the sample. position_of: (items,) the place of each item in it, -1 for none. Both
    are None if the view is of all items. by_text, popularity: in training, vectors (n, width) of the items' texts
    alone, and learned biases (n,) that explain how often they are taken.
    """

    rows: Tensor
    bias: Tensor
    subset: Tensor | None = None
    position_of: Tensor | None = None
    by_text: Tensor | None = None
    popularity: Tensor | None = None


class RecModel(nn.Module):
    """Hidden states of rows, and scores of the answers at given places."""

    def __init__(
        self,
        backbone: nn.Module,
        vocabulary: Vocabulary,
        item_rows: Mapping[str, ItemRows],
        outcome_rows: Tensor,
        *,
        dropout: float = 0.0,
        label_smoothing: float = 0.0,
        heads: Sequence[TaskHead] = (),
        learned_weights: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.vocabulary = vocabulary
        self.split = split_of(backbone.config, vocabulary.n_words)  # type: ignore[arg-type]
        self.names = vocabulary.datasets
        self.catalogues = nn.ModuleList([item_rows[name] for name in self.names if name in item_rows])
        self.catalogue_of = {name: n for n, name in enumerate(n for n in self.names if n in item_rows)}
        self.outcome_rows = nn.Parameter(outcome_rows.clone())
        self.outcome_bias = nn.Parameter(torch.zeros(len(outcome_rows)))
        self.outcome_log_scale = nn.Parameter(torch.zeros(len(vocabulary.groups)))
        self.dropout = nn.Dropout(dropout)
        self.label_smoothing = label_smoothing
        self.heads = {(h.dataset, h.task): n for n, h in enumerate(heads)}
        self.head_list = tuple(heads)
        self.draws: dict[str, Draws] = {}  # data set -> how items get into a sampled softmax
        self.allowed: dict[int, Tensor] = {}  # data set -> (conditions, items) bool
        self.expected_targets: dict[int, Tensor] = {}  # data set -> (tasks,) targets per batch, on average
        self.log_variance = nn.Parameter(torch.zeros(max(1, len(self.heads))), requires_grad=learned_weights)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.outcome_rows.device

    @property
    def compute_dtype(self) -> torch.dtype:
        """The precision of the backbone's activations: that of its word embeddings."""
        found: torch.dtype = self.backbone.get_input_embeddings().weight.dtype  # type: ignore[operator]
        return found

    def rows_of(self, dataset: str) -> ItemRows:
        """A catalogue's item rows."""
        rows = self.catalogues[self.catalogue_of[dataset]]
        assert isinstance(rows, ItemRows)
        return rows

    def embed(self, tokens: Tensor, dataset: str, items: Tensor | None, position_of: Tensor | None = None) -> Tensor:
        """Input vectors (batch, length, width); items: (n, width) rows, `position_of` maps a catalogue index to its
        place in them."""
        words = self.backbone.get_input_embeddings()  # type: ignore[operator]
        n_words = self.vocabulary.n_words
        out = words(tokens.clamp(max=words.num_embeddings - 1)).float()
        first = n_words + self.vocabulary.n_outcomes
        is_outcome = (tokens >= n_words) & (tokens < first)
        is_item = tokens >= first
        added = torch.zeros_like(out)
        if is_outcome.any():
            added = added.index_put((is_outcome,), self.dropout(self.outcome_rows)[tokens[is_outcome] - n_words])
        if items is not None and is_item.any():
            index = tokens[is_item] - self.vocabulary.group(dataset, ITEMS).first
            index = index if position_of is None else position_of[index]
            added = added.index_put((is_item,), self.dropout(items[index]))
        return torch.where((is_outcome | is_item)[..., None], added, out)

    def hidden(self, embedded: Tensor, position: Tensor | None, mask: Tensor | None, **kwargs: Any) -> Any:
        """The backbone's output for embedded rows, in the compute precision; kwargs: `cache` to read on after."""
        return self.backbone(
            inputs_embeds=embedded.to(self.compute_dtype),
            position_ids=position,
            attention_mask=mask,
            use_cache="cache" in kwargs,
            **kwargs,
        )

    def states(self, batch: Batch, items: Tensor | None, position_of: Tensor | None = None) -> Tensor:
        """Last hidden states (batch, length, width) of a batch, an encoder-decoder's those of its decoder; items and
        position_of as in `embed`."""
        dataset = self.names[batch.dataset]
        embedded = self.embed(batch.tokens, dataset, items, position_of)
        if batch.encoder_tokens is None:
            output = self.hidden(embedded, batch.position, batch.mask)
        else:
            read = self.embed(batch.encoder_tokens, dataset, items, position_of).to(self.compute_dtype)
            output = self.backbone(
                encoder_outputs=self.backbone.encoder(inputs_embeds=read, attention_mask=batch.encoder_mask),  # type: ignore[operator]
                attention_mask=batch.cross_mask,
                decoder_inputs_embeds=embedded.to(self.compute_dtype),
                decoder_attention_mask=batch.mask,
                position_ids=batch.position,
                use_cache=False,
            )
        states: Tensor = output.last_hidden_state
        return states

    def group_scores(self, hidden: Tensor, group: Group) -> Tensor:
        """Scores (n, answers) of an outcome group at hidden states (n, width)."""
        lo = group.first - self.vocabulary.n_words
        rows, bias = self.outcome_rows[lo : lo + group.size], self.outcome_bias[lo : lo + group.size]
        scale = self.outcome_log_scale[self.vocabulary.index[group.dataset, group.name]].exp()
        return scale * (hidden.float() @ rows.t()) + bias

    def item_scores(self, hidden: Tensor, log_scale: Tensor, rows: Tensor, bias: Tensor) -> Tensor:
        """Scores (n, items) of item rows at hidden states (n, width)."""
        with torch.autocast(hidden.device.type, dtype=self.compute_dtype, enabled=self.compute_dtype != torch.float32):
            product = (hidden * log_scale.exp()) @ rows.t()
        return product + bias  # float32, like the biases

    def forward(self, **fields: Tensor) -> dict[str, Tensor]:
        """The weighted loss of a batch (the fields of `batching.Batch`), and each task's summed loss and count."""
        batch = Batch.from_fields(fields)
        view = self.view(batch)
        rows, position_of = (None, None) if view is None else (view.rows, view.position_of)
        hidden = self.states(batch, rows, position_of)  # (B, T, width)
        states = self.dropout(read_states(hidden, batch))  # (targets, width)
        tasks = batch.target_task.unique().tolist()
        return self.weigh(batch, {number: self.task_losses(number, states, batch, view) for number in tasks})

    def view(self, batch: Batch) -> CatalogueView | None:
        """The catalogue of a batch's data set, None if it has none.

        In training a large catalogue is sampled (with logQ correction), and cold items have no score: one that nobody
        took in training may be as good as any, so it is not a negative.
        """
        dataset = self.names[batch.dataset]
        if dataset not in self.catalogue_of:
            return None
        catalogue = self.rows_of(dataset)
        n = len(catalogue.residual)
        if not self.training:
            return CatalogueView(*catalogue())
        subset = position_of = None
        popularity: Tensor = catalogue.bias
        if n <= SAMPLED_ABOVE:
            rows, bias = catalogue()
            warm, spared = catalogue.warm, catalogue.spared
        else:
            subset, position_of, correction = self.sample_items(batch, dataset, n)
            rows, bias = catalogue(subset)
            bias, popularity = bias - correction, popularity[subset] - correction
            warm, spared = catalogue.warm[subset], catalogue.spared[subset]
        return CatalogueView(
            rows,
            bias.masked_fill(~warm, -torch.inf),
            subset,
            position_of,
            catalogue.by_text(subset),
            popularity.detach().masked_fill(~warm | spared, -torch.inf),
        )

    def task_losses(self, number: int, states: Tensor, batch: Batch, view: CatalogueView | None) -> Tensor:
        """Losses (n,) of a task's targets in a batch; states: (targets, width)."""
        of_task = batch.target_task == number  # (targets,)
        head = self.head_list[self.heads[batch.dataset, number]]
        group = self.vocabulary.groups[head.group]
        if group.is_items:
            assert view is not None
            return self.item_losses(states[of_task], batch, of_task, view)
        scores = self.group_scores(states[of_task], group)  # (n, answers)
        return outcome_losses(scores, batch.target_id[of_task], group.values or None)

    def weigh(self, batch: Batch, losses: Mapping[int, Tensor]) -> dict[str, Tensor]:
        """The weighted sum of the tasks' mean losses, and each task's summed loss and count.

        Learned weights are those of Kendall, Gal and Cipolla 2018: exp(-s) L + s / 2 for each task.
        """
        total = torch.zeros((), dtype=torch.float32, device=self.device)
        report: dict[str, Tensor] = {}
        expected = self.expected_targets.get(batch.dataset) if self.training else None
        for number, values in losses.items():
            weight = batch.target_weight[batch.target_task == number]
            head_number = self.heads[batch.dataset, number]
            head = self.head_list[head_number]
            summed, count = (values * weight).sum(), weight.sum()
            mean = summed / (count if expected is None else expected[number])
            total = total + head.weight * torch.exp(-self.log_variance[head_number]) * mean
            name = f"{self.names[batch.dataset]}/{head.name}"
            report |= {f"{name}/loss": summed.detach(), f"{name}/count": count}
        if self.log_variance.requires_grad:  # of every task, also those that a batch happens to lack
            for number, head in enumerate(self.head_list):
                if head.dataset == batch.dataset:
                    total = total + head.weight * 0.5 * self.log_variance[number]
        return {"loss": total, **report}

    @torch.no_grad()
    def set_scales(self, batch: Batch) -> None:
        """Set the scales of the tasks in a batch so that scores start with a standard deviation of about 1.

        Items: as measured over the catalogue. Outcomes are few and alike, so theirs is taken from the norms, as
        for random rows, and their biases level their mean scores.
        """
        dataset = self.names[batch.dataset]
        items = bias = None
        if dataset in self.catalogue_of:
            items, bias = self.rows_of(dataset)()
        states = read_states(self.states(batch, items), batch).float()
        for number in batch.target_task.unique().tolist():
            head = self.head_list[self.heads[batch.dataset, number]]
            group = self.vocabulary.groups[head.group]
            own = states[batch.target_task == number][:256]
            if group.is_items and items is not None and bias is not None:
                catalogue = self.rows_of(dataset)
                by_text = catalogue.by_text(), torch.zeros_like(bias)
                for scale, rows in ((catalogue.log_scale, (items, bias)), (catalogue.text_log_scale, by_text)):
                    spread = self.item_scores(own, scale, *rows).std(1).mean()
                    scale.sub_(spread.clamp_min(1e-6).log())
            else:
                width = own.shape[1]
                lo = group.first - self.vocabulary.n_words
                norms = own.norm(dim=1).mean() * self.outcome_rows[lo : lo + group.size].norm(dim=1).mean()
                self.outcome_log_scale[head.group] = (width**0.5 / norms.clamp_min(1e-6)).log()
                mean = self.group_scores(own, group).mean(0)
                self.outcome_bias[lo : lo + group.size] -= mean - mean.mean()

    def item_losses(self, states: Tensor, batch: Batch, of_task: Tensor, view: CatalogueView) -> Tensor:
        """Losses (n,) over the catalogue, or a sample of it, and over a condition's items only.

        states: (n, width). of_task: (targets,) bool. In training they have a second part: over the items' texts alone,
        beside how often the items are taken, so that what remains, without popularity, scores cold items. In the first
        part a share `label_smoothing` of the right answer is spread over the whole catalogue, cold items excepted; not
        so over a sample or a condition's items.
        """
        dataset = self.names[batch.dataset]
        answer, allowed = batch.target_id[of_task], batch.target_allowed[of_task]
        log_scale = self.rows_of(dataset).log_scale
        scores = self.item_scores(states, log_scale, view.rows, view.bias)  # (n, items)
        if view.position_of is not None:
            answer = view.position_of[answer]
        losses = outcome_losses(scores, answer, None)
        if view.by_text is not None and view.popularity is not None:
            scale = self.rows_of(dataset).text_log_scale
            taught = torch.isfinite(view.popularity)[answer]
            by_text = self.item_scores(states[taught], scale, view.by_text, view.popularity)
            losses = losses.index_add(0, torch.nonzero(taught)[:, 0], outcome_losses(by_text, answer[taught], None))
        if self.training and self.label_smoothing > 0 and view.subset is None:
            warm = torch.isfinite(view.bias)
            mean_row = (warm / warm.sum())[None] @ view.rows  # (1, width)
            mean_bias = view.bias[warm].mean(0, keepdim=True)
            mean_score = self.item_scores(states, log_scale, mean_row, mean_bias)[:, 0]
            losses = smoothed(losses, scores, answer, mean_score, self.label_smoothing)
        if not (allowed >= 0).any():
            return losses
        masks = self.allowed[batch.dataset]
        return conditional(losses, scores, answer, allowed, masks if view.subset is None else masks[:, view.subset])

    def sample_items(self, batch: Batch, dataset: str, n: int) -> tuple[Tensor, Tensor, Tensor]:
        """Items of the batch and SAMPLES drawn ones: their catalogue indices, the map from index to place, and the log
        probability that each is among them (logQ correction; Yi et al. 2019)."""
        group = self.vocabulary.group(dataset, ITEMS)
        heads = [h for h in self.head_list if h.dataset == batch.dataset and self.vocabulary.groups[h.group].is_items]
        is_item_task = torch.isin(batch.target_task, torch.tensor([h.task for h in heads], device=self.device))
        read = [t.flatten() for t in (batch.tokens, batch.encoder_tokens) if t is not None]
        shown = torch.cat([tokens[tokens >= group.first] - group.first for tokens in read])
        asked = batch.target_id[is_item_task]
        draws = self.draws[dataset]
        drawn = torch.multinomial(draws.probability, SAMPLES, replacement=True)
        subset = torch.cat([shown, asked, drawn]).unique()
        position_of = torch.full((n,), -1, device=self.device)
        position_of[subset] = torch.arange(len(subset), device=self.device)
        # an event is both shown and asked: the share of the events in the batch counts once
        return subset, position_of, draws.log_inclusion(subset, max(len(shown), len(asked)))


def read_states(hidden: Tensor, batch: Batch) -> Tensor:
    """Where a batch's targets are read (targets, width): hidden states (batch, length, width) at their places, the
    mean of them for a target with several."""
    states = hidden[batch.target_row, batch.target_at]
    several = torch.nonzero(batch.target_from < batch.target_at)[:, 0]
    if not len(several):
        return states
    first, last = batch.target_from[several, None], batch.target_at[several, None]
    place = torch.arange(hidden.shape[1], device=hidden.device)
    share = ((place >= first) & (place <= last)).float() / (last - first + 1)
    mean = (share[:, None] @ hidden[batch.target_row[several]].float())[:, 0]
    return states.index_put((several,), mean.to(states.dtype))
