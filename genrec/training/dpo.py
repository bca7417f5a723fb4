"""The loss of preferences, and the Trainer that lowers it.

The loss is that of S-DPO (Chen et al. 2024), DPO with several rejected items per chosen one. TRL gives the options of a
DPO training (DPOConfig) and the names of what is logged. Its DPOTrainer is not the base class: it reads pairs of texts
with a tokenizer, scores them by a head over the words that it puts into the model, keeps the reference as a second LoRA
adapter, which knows nothing of item rows, and its losses have one rejected answer per chosen one. With one rejected
item, loss and logged values are those of DPOTrainer (a test compares them).
"""

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from ..model.batching import Batch
from ..model.recmodel import RecModel, read_states
from ..scoring.engine import Engine
from ..scoring.scorer import SCORES_AT_A_TIME
from ..tasks.vocabulary import ITEMS
from .trainer import RowTrainer

if TYPE_CHECKING:
    from trl.trainer.dpo_config import DPOConfig

    from .preferences import PreferenceBatches


def softmax_dpo(policy: Tensor, reference: Tensor, mask: Tensor, beta: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean loss of pairs, and TRL's DPO metrics of each (pairs,).

        reward_i = beta (log p(i) - log p_reference(i))
        loss     = -log sigmoid(-log sum_r exp(reward_r - reward_chosen))

    S-DPO (Chen et al. 2024); with one rejected item it is DPO (Rafailov et al. 2023). policy, reference: (pairs, 1 + n)
    log-probabilities, the chosen item's first. mask: (pairs, n) whether there is a rejected item, one at least.
    """
    reward = beta * (policy - reference)
    chosen, rejected = reward[:, :1], reward[:, 1:]
    behind = (rejected - chosen).masked_fill(~mask, -torch.inf)
    loss = -logsigmoid(-behind.logsumexp(1))

    def masked_mean(values: Tensor) -> Tensor:
        return (values * mask).sum(1) / mask.sum(1)

    metrics = {
        "rewards/chosen": chosen[:, 0],
        "rewards/rejected": masked_mean(rejected),
        "rewards/accuracies": masked_mean((chosen > rejected).float()),
        "rewards/margins": masked_mean(chosen - rejected),
        "logps/chosen": policy[:, 0],
        "logps/rejected": masked_mean(policy[:, 1:]),
    }
    return loss.mean(), {name: value.detach() for name, value in metrics.items()}


def log_probabilities(engine: Engine, batch: Batch, rejected: Tensor) -> Tensor:
    """Log-probabilities (pairs, 1 + n) of a batch's chosen and rejected items in its catalogue, seen items included.

    rejected: (pairs, n) catalogue indices, -1 for none: the log-probability in its place means nothing.
    """
    model = engine.model
    name = model.names[batch.dataset]
    catalogue = model.rows_of(name)
    first = model.vocabulary.group(name, ITEMS).first
    items = torch.cat([batch.target_id[:, None], rejected.clamp_min(0)], 1)
    history_items = [t[t >= first] - first for t in (batch.tokens, batch.encoder_tokens) if t is not None]
    used = torch.cat([*history_items, items.flatten()]).unique()
    position = torch.full((len(catalogue.residual),), -1, device=used.device)
    position[used] = torch.arange(len(used), device=used.device)
    rows, bias = catalogue(used)
    states = read_states(model.states(batch, rows, position), batch).float()
    scores = catalogue.log_scale.exp() * (rows[position[items]] @ states[:, :, None])[..., 0] + bias[position[items]]
    engine.refresh()
    parts = states.detach().split(max(1, SCORES_AT_A_TIME // len(position)))
    total = torch.cat([torch.logsumexp(engine.model_scores(part, name), 1) for part in parts])
    return (
        scores - total[:, None]
    )  # no gradient through the sum: it is the same for all items of a pair and cancels out


class PreferenceTrainer(RowTrainer):
    """RowTrainer with S-DPO's loss in place of the model's own."""

    def __init__(
        self,
        model: RecModel,
        args: "DPOConfig",
        batches: "PreferenceBatches",
        *rest: Any,
        engine: Engine,
        **options: Any,
    ) -> None:
        super().__init__(model, args, batches, *rest, **options)
        self.beta, self.engine = args.beta, engine
        self.preference_metrics: dict[str, list[Tensor]] = defaultdict(list)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of a batch of preferences; its metrics are collected for the log."""
        model.eval()  # no dropout, which a T5 has outside of modules, too: the reference was computed without
        fields = dict(inputs)
        rejected, reference = fields.pop("rejected"), fields.pop("reference")
        policy = log_probabilities(self.engine, Batch.from_fields(fields), rejected)
        loss, metrics = softmax_dpo(policy, reference, rejected >= 0, self.beta)
        for name, value in metrics.items():
            self.preference_metrics[name].append(value)
        return (loss, metrics) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the means of the metrics over the pairs since the last log."""
        if "loss" in logs:
            logs |= {name: float(torch.cat(values).mean()) for name, values in self.preference_metrics.items()}
            self.preference_metrics.clear()
        super().log(logs, start_time)
