"""The model at step 0: LoRA on the backbone, item rows, answers and scales."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from ..model.backbone import Backbone, word_table
from ..model.batching import Batch
from ..model.fused_lora import fuse_lora
from ..model.item_rows import ItemRows, collaborative_vectors
from ..model.item_texts import TextSpace, item_texts, mean_norm, mean_words, rarity, whitening
from ..model.lora import add_lora
from ..model.recmodel import SAMPLED_ABOVE, Draws, RecModel, TaskHead
from ..model.text_encoder import to_width
from ..rows.texts import text_rows
from ..run.config import FinetuneConfig
from ..scoring.engine import Engine
from ..tasks.vocabulary import RATING, Vocabulary
from .plan import PlannedBatches
from .prepare import Prepared

TEXTS = 2_000  # that the answers of a text task start from
SPARED = 0.1  # share of the items that the loss by texts alone leaves out
REGULARISATION = 0.01  # C of that regression: of .001 to .1 the least log loss of held-out clothing reviews


def word_embeddings(backbone: Backbone) -> torch.Tensor:
    """The backbone's word embeddings (vocabulary, width) float32, as its embedding layer gives them."""
    table = word_table(backbone)
    with torch.no_grad():
        embeddings: torch.Tensor = table(torch.arange(table.num_embeddings, device=table.weight.device))
    return embeddings.float().cpu()


def outcome_start(vocabulary: Vocabulary, encode: Callable[[str], list[int]], words: torch.Tensor) -> torch.Tensor:
    """Outcome rows start from their words: the mean embedding of `rated 3`, `rated 73.2`, `no`, `purchase`."""
    rows = []
    for group in vocabulary.groups:
        name = "rated" if group.name == RATING else group.name.replace("_", " ")
        about = f" {name}" if group.values else ""
        rows += [words[encode(f"{about} {word}")].float().mean(0) for word in group.short_words]
    return torch.stack(rows) if rows else torch.zeros(0, words.shape[1])


def build_model(
    config: FinetuneConfig, prepared: Prepared, seed: int, spaces: Mapping[str, TextSpace] | None = None
) -> RecModel:
    """The model at step 0: LoRA on the backbone, item rows from text and co-occurrence in the training part.

    spaces: by data set, of texts; one that is not given is made of the texts of the items in training.
    """
    torch.manual_seed(seed)
    backbone, vocabulary = prepared.backbone, prepared.vocabulary
    words = word_embeddings(backbone)
    encode = prepared.corpora[0].encode
    item_rows = {}
    draws = {}
    for corpus in prepared.corpora:
        if not corpus.dataset.items.height:
            continue
        texts = item_texts(corpus.dataset.items)
        n = len(texts)
        counts, warm = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=bool)
        if corpus.events is not None:
            train, counts = corpus.training, corpus.item_counts
            warm[train.item[train.item >= 0]] = True  # those that nobody wanted are known, too
        space, weight = (spaces or {}).get(corpus.dataset.name), torch.ones(vocabulary.n_words)
        if prepared.text_encoder is None:
            token_ids = [encode(t) if t else [] for t in texts]
            weight = rarity(token_ids, vocabulary.n_words) if space is None else space.rarity
            vectors = mean_words(token_ids, words, weight)
        else:
            vectors = to_width(prepared.encoded[corpus.dataset.name], words.shape[1], seed)
        space = space or whitening(vectors, torch.as_tensor(warm), weight, mean_norm(words))
        collaborative, known = torch.zeros(n, words.shape[1]), torch.zeros(n, dtype=torch.bool)
        if corpus.events is not None:
            if config.collaborative:
                norm = float(mean_norm(words))
                collaborative, known = collaborative_vectors(train.wanted, train.offsets, n, words.shape[1], norm, seed)
            if n > SAMPLED_ABOVE:
                q = 0.5 * counts**0.75 / (counts**0.75).sum() + 0.5 / n
                draws[corpus.dataset.name] = Draws(
                    *(torch.as_tensor(p, dtype=torch.float32) for p in (q, counts / counts.sum()))
                )
        item_rows[corpus.dataset.name] = ItemRows(
            space(vectors, seed),
            *(collaborative, known, torch.as_tensor(counts), space),
            warm=torch.as_tensor(warm),
            worded=(vectors != 0).any(1),
            spared=torch.as_tensor(warm & (np.random.default_rng([seed, 12]).random(n) < SPARED)),
        )
    heads = [
        TaskHead(
            dataset=number,
            task=corpus.all_tasks.index(task.name),
            name=task.name,
            group=vocabulary.index[corpus.dataset.name, corpus.group_of(task).name],
            weight=task.weight,
        )
        for number, corpus in enumerate(prepared.corpora)
        for task in corpus.tasks
    ]
    model = RecModel(
        add_lora(backbone.model, config.lora_r, config.lora_alpha),
        vocabulary,
        item_rows,
        outcome_start(vocabulary, encode, words),
        dropout=config.dropout,
        label_smoothing=config.label_smoothing,
        heads=heads,
        learned_weights=config.task_weights == "learned",
    )
    fuse_lora(model.backbone)
    for module in model.backbone.modules():  # bitsandbytes' packed weights for a CPU, made at the first evaluation,
        if hasattr(module, "support_avx512bf16_for_cpu"):  # have no gradient: later steps would train on none
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
    device = backbone.model.device
    model.draws = {name: Draws(d.probability.to(device), d.share.to(device)) for name, d in draws.items()}
    for number, corpus in enumerate(prepared.corpora):
        if corpus.conditions:
            masks = np.stack([mask for _, _, mask in corpus.conditions])
            model.allowed[number] = torch.as_tensor(masks, device=device)
    return model.to(device)


def set_expected_targets(model: RecModel, prepared: Prepared, plan: Sequence[np.ndarray]) -> None:
    """Average targets of each task per batch of its data set, so that a rare task is not blown up in the batches
    that have it."""
    index = prepared.index
    owner = np.asarray([index.dataset[batch[0]] for batch in plan])
    totals = np.stack([index.targets[batch].sum(0) for batch in plan])
    for dataset in np.unique(owner).tolist():
        mean = totals[owner == dataset].mean(0)
        model.expected_targets[dataset] = torch.as_tensor(np.maximum(mean, 1e-9), dtype=torch.float32).to(model.device)


def set_scales(model: RecModel, prepared: Prepared, batches: PlannedBatches) -> None:
    """Set each task's scale on the first planned batch that asks for it."""
    model.eval()
    index = prepared.index
    scaled: set[tuple[int, int]] = set()
    for number, chosen in enumerate(batches.plan):
        dataset = int(index.dataset[chosen[0]])
        unscaled = {(dataset, int(t)) for t in np.nonzero(index.targets[chosen].sum(0))[0]} - scaled
        if unscaled:
            fields = {k: v.to(model.device) for k, v in batches.batch(number).items()}
            model.set_scales(Batch.from_fields(fields))
            scaled |= unscaled
        if len(scaled) == len(model.heads):
            break
    model.train()


def fit_texts(model: RecModel, prepared: Prepared, seed: int, most: int = TEXTS) -> None:
    """Start the answers of every text task from a logistic regression on the backbone's states after `most` training
    texts before its first step. An answer that none of them has keeps its words' row."""
    from sklearn.linear_model import LogisticRegression

    heads = [head for head in model.head_list if prepared.all_tasks[head.task].unit == "text"]
    if not heads:
        return
    engine = Engine(model)
    norm = float(mean_norm(word_embeddings(prepared.backbone)))
    for head in heads:
        corpus = prepared.corpora[head.dataset]
        task = next(t for t in corpus.tasks if t.name == prepared.all_tasks[head.task].name)
        rows = list(text_rows(corpus, [task], "train", [task.seen], seed, most=most))
        answers = np.asarray([row.target_id[0] for row in rows])
        if len(np.unique(answers)) < 2:
            continue
        states = engine.states(rows).cpu().numpy()
        mean, deviation = states.mean(0), states.std(0) + 1e-6
        fitted = LogisticRegression(C=REGULARISATION, max_iter=1_000).fit((states - mean) / deviation, answers)
        weight, bias = fitted.coef_ / deviation, fitted.intercept_
        if len(fitted.classes_) == 2:  # scikit-learn gives the second answer's only
            weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
        bias = bias - weight @ mean
        scale = np.linalg.norm(weight, axis=1).mean() / norm  # rows as long as words, so that rates mean the same
        start_rows = torch.as_tensor(np.column_stack([weight / scale, bias]), dtype=torch.float32, device=model.device)
        index = torch.as_tensor(fitted.classes_, device=model.device)
        index = index + model.vocabulary.groups[head.group].first - model.vocabulary.n_words
        with torch.no_grad():
            model.outcome_rows[index], model.outcome_bias[index] = start_rows[:, :-1], start_rows[:, -1]
            model.outcome_log_scale[head.group] = float(np.log(scale))
