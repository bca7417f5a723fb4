"""Beams over the titles of a catalogue: ours beside transformers' generate with prefix_allowed_tokens_fn.

The same weights, prompts and titles for both, which take turns, so that the ratio holds on a busy machine, too.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genrec.data.load import DataOptions, load_dataset
from genrec.language.titles import BEAMS, Titles, read_titles, title_prompt
from genrec.language.trie import beam_search
from genrec.model.backbone import load_language

Found = list[tuple[list[int], list[float]]]  # catalogue indices and scores per prompt


def ours(titles: Titles, prompts: list[list[int]]) -> Found:
    """What beam_search finds."""
    allowed = np.ones((len(prompts), len(titles.tokens)), dtype=bool)
    found = beam_search(titles.language.model, prompts, titles.trie, allowed, BEAMS)
    return [(index.tolist(), score.tolist()) for index, score in found]


def plain(titles: Titles, prompts: list[list[int]], follow: dict[tuple[int, ...], list[int]]) -> Found:
    """What generate finds; follow: the tokens that may come after each beginning of a title."""
    model: Any = titles.language.model
    longest = max(map(len, prompts))
    rows = torch.tensor([[titles.end] * (longest - len(p)) + p for p in prompts])
    shown = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts])
    with torch.inference_mode():
        found = model.generate(
            rows,
            attention_mask=shown,
            num_beams=BEAMS,
            num_return_sequences=BEAMS,
            do_sample=False,
            length_penalty=0.0,
            max_new_tokens=max(map(len, titles.tokens)) + 1,
            eos_token_id=titles.end,
            pad_token_id=titles.end,
            prefix_allowed_tokens_fn=lambda _, row: follow.get(tuple(row[longest:].tolist()), [titles.end]),
            return_dict_in_generate=True,
            output_scores=True,
        )
    of = {tuple(t): n for n, t in enumerate(titles.tokens)}
    index = [of[tuple(row[: row.index(titles.end)])] for row in found.sequences[:, longest:].tolist()]
    scores = found.sequences_scores.tolist()
    return [(index[n : n + BEAMS], scores[n : n + BEAMS]) for n in range(0, len(index), BEAMS)]


def main() -> None:
    """Time both on the same users."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--users", type=int, default=4, help="prompts read together")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--fp32", action="store_true", help="float32 weights, so that both find the same to the digit")
    parser.add_argument("--out", type=Path, help="raw figures as JSON")
    options = parser.parse_args()
    dataset = load_dataset("ml-100k", DataOptions())
    language = load_language("smollm2-135m")
    if options.fp32:
        language.model.float()
    titles = read_titles(language, dataset.items)
    follow: dict[tuple[int, ...], list[int]] = {}
    for tokens in titles.tokens:
        whole = [*tokens, titles.end]
        for at in range(len(whole)):
            after = follow.setdefault(tuple(whole[:at]), [])
            if whole[at] not in after:
                after.append(whole[at])
    place = {item: n for n, item in enumerate(dataset.items["item_id"].to_list())}
    users = dataset.interactions["user_id"].unique(maintain_order=True).to_list()[: options.users]
    prompts = []
    for user in users:
        history = dataset.interactions.filter(user_id=user).sort("timestamp", maintain_order=True)["item_id"].to_list()
        prompts.append(title_prompt(titles, [place[item] for item in history]))
    seconds: dict[str, list[float]] = {"ours": [], "transformers": []}
    for repeat in range(options.repeats + 1):  # the first warms up
        started = time.perf_counter()
        mine = ours(titles, prompts)
        between = time.perf_counter()
        theirs = plain(titles, prompts, follow)
        if repeat:
            seconds["ours"].append(between - started)
            seconds["transformers"].append(time.perf_counter() - between)
    gaps = [abs(a - b) for own, other in zip(mine, theirs, strict=True) for a, b in zip(own[1], other[1], strict=True)]
    ratios = [b / a for a, b in zip(seconds["ours"], seconds["transformers"], strict=True)]
    report = {
        "titles": len(titles.tokens),
        "beams": BEAMS,
        "prompt_tokens": [len(p) for p in prompts],
        "threads": torch.get_num_threads(),
        "dtype": str(language.model.dtype),
        "seconds": seconds,
        "median_seconds": {name: statistics.median(values) for name, values in seconds.items()},
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "same_lists": sum(own[0] == other[0] for own, other in zip(mine, theirs, strict=True)),
        "largest_gap_of_scores": max(gaps),
    }
    text = json.dumps(report, indent=1)
    if options.out:
        options.out.write_text(text)
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main()
