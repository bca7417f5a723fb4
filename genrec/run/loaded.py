"""A finished run beside the data that it was trained on."""

from dataclasses import dataclass
from pathlib import Path

from ..data.dataset import Dataset
from ..rows.corpus import Corpus, build_corpus, first_token, plain_encoder
from ..scoring.scorer import Scorer
from .adapter import Adapter, load_adapter
from .config import FinetuneConfig
from .data import trained_data
from .folder import Run
from .manifest import Manifest

PREFIX_BYTES = 2**28  # memory for the histories read last


@dataclass(frozen=True)
class Loaded:
    """A finished run: its adapter, a scorer of it, and its data, split as it was for the training."""

    run: Run
    adapter: Adapter
    scorer: Scorer
    config: FinetuneConfig
    corpora: tuple[Corpus, ...]

    @property
    def manifest(self) -> Manifest:
        """The adapter's manifest."""
        return self.adapter.manifest


def load_run(folder: Path) -> Loaded:
    """A finished run with its data; raises RunError if data or tasks are not those of its training."""
    run = Run(folder)
    manifest = run.manifest()
    config, datasets = run.config(), trained_data(run)
    quantize = manifest.options.get("quantize", "none")
    adapter = load_adapter(run.adapter, quantize=quantize, place=run.local_model("model"))
    scorer = Scorer(adapter.model, adapter.counts, prefix_bytes=PREFIX_BYTES)
    return Loaded(run, adapter, scorer, config, tuple(corpus_of(adapter, d, config.seed) for d in datasets))


def corpus_of(adapter: Adapter, dataset: Dataset, seed: int) -> Corpus:
    """A data set as the adapter's tasks see it."""
    tasks = adapter.tasks_of(dataset.name)
    encode, bos = plain_encoder(adapter.tokenizer), first_token(adapter.tokenizer)
    return build_corpus(dataset, tasks, adapter.manifest.vocabulary, encode, bos, seed, tuple(adapter.tasks))
