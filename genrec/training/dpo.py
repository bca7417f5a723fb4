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


def softmax_dpo(policy: Tensor, reference: Tensor, known: Tensor, beta: float) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean loss of pairs, and TRL's DPO metrics of each (pairs,).

        reward_i = beta (log p(i) - log p_reference(i))
        loss     = -log sigmoid(-log sum_r exp(reward_r - reward_chosen))

    S-DPO (Chen et al. 2024); with one rejected item it is DPO (Rafailov et al. 2023). policy, reference: (pairs, 1 + n)
    log-probabilities, the chosen item's first. known: (pairs, n) whether there is a rejected item, one at least.
    """
    reward = beta * (policy - reference)
    chosen, rejected = reward[:, :1], reward[:, 1:]
    behind = (rejected - chosen).masked_fill(~known, -torch.inf)
    loss = -logsigmoid(-behind.logsumexp(1))

    def over_known(values: Tensor) -> Tensor:
        return (values * known).sum(1) / known.sum(1)

    metrics = {
        "rewards/chosen": chosen[:, 0],
        "rewards/rejected": over_known(rejected),
        "rewards/accuracies": over_known((chosen > rejected).float()),
        "rewards/margins": over_known(chosen - rejected),
        "logps/chosen": policy[:, 0],
        "logps/rejected": over_known(policy[:, 1:]),
    }
    return loss.mean(), {name: value.detach() for name, value in metrics.items()}


def log_probabilities(engine: Engine, batch: Batch, rejected: Tensor) -> Tensor:
    """Log-probabilities (pairs, 1 + n) of a batch's chosen and rejected items in its catalogue, seen items included.

    rejected: (pairs, n) catalogue indices; what stands where one is -1 means nothing.
    """
    model = engine.model
    name = model.names[batch.dataset]
    catalogue = model.rows_of(name)
    first = model.vocabulary.group(name, ITEMS).first
    asked = torch.cat([batch.target_id[:, None], rejected.clamp_min(0)], 1)
    read = [t[t >= first] - first for t in (batch.tokens, batch.encoder_tokens) if t is not None]
    used = torch.cat([*read, asked.flatten()]).unique()
    place = torch.full((len(catalogue.residual),), -1, device=used.device)
    place[used] = torch.arange(len(used), device=used.device)
    rows, bias = catalogue(used)
    states = read_states(model.states(batch, rows, place), batch).float()
    scores = catalogue.log_scale.exp() * (rows[place[asked]] @ states[:, :, None])[..., 0] + bias[place[asked]]
    engine.refresh()
    parts = states.detach().split(max(1, SCORES_AT_A_TIME // len(place)))
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
        self.found: dict[str, list[Tensor]] = defaultdict(list)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of a batch of preferences; its metrics are kept for the log."""
        model.eval()  # no dropout, which a T5 has outside of modules, too: the reference was read without
        fields = dict(inputs)
        rejected, reference = fields.pop("rejected"), fields.pop("reference")
        policy = log_probabilities(self.engine, Batch.from_fields(fields), rejected)
        loss, found = softmax_dpo(policy, reference, rejected >= 0, self.beta)
        for name, value in found.items():
            self.found[name].append(value)
        return (loss, found) if return_outputs else loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the means of the metrics over the pairs since the last log."""
        if "loss" in logs:
            logs |= {name: float(torch.cat(values).mean()) for name, values in self.found.items()}
            self.found.clear()
        super().log(logs, start_time)
