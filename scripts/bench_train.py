"""Training speed: tokens per second, and achieved FLOP/s as a share of what the machine's matrix products reach.

Usage: scripts/bench train [--dataset NAME] [--steps N] [--race] [--json FILE]

--race: the time to a validation NDCG@10 of TARGET on next_item (seen items removed), one history being one row, against
one example per target: the same backbone, item rows, learning rates and tokens per step, each history up to an event
with that one event as target. Validation is not counted. The second arm is stopped at LIMIT times the first's time.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from genrec.model.batching import batches_by_length, collate
from genrec.model.precision import choose_precision
from genrec.model.recmodel import RecModel
from genrec.rows.arrays import select
from genrec.rows.row import prompt_row, read_at
from genrec.run.config import FinetuneConfig
from genrec.scoring.scorer import Scorer
from genrec.training.plan import PlannedBatches, plan_epoch
from genrec.training.prepare import Prepared, prepare
from genrec.training.start import build_model, set_expected_targets, set_scales
from genrec.training.trainer import parameter_groups
from genrec.training.validate import validation

TARGET = 0.0595
LIMIT = 10
Fields = dict[str, torch.Tensor]


def optimizer_of(model: RecModel, config: FinetuneConfig) -> torch.optim.Optimizer:
    """The optimizer of a fine-tuning."""
    groups = [g for g in parameter_groups(model, config.lr, config.row_lr, config.weight_decay) if g["params"]]
    return torch.optim.AdamW(groups, fused=True)


def train_step(model: RecModel, optimizer: torch.optim.Optimizer, fields: Fields) -> None:
    """One step as the trainer takes it."""
    model(**fields)["loss"].backward()
    torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
    optimizer.step()
    optimizer.zero_grad()


def gemm_peak(dtype: torch.dtype, size: int = 2048, runs: int = 5) -> float:
    """FLOP/s of the best of several square matrix products."""
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    best = float("inf")
    for _ in range(runs):
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


# --- speed --------------------------------------------------------------------------------------------------------


def speed(config: FinetuneConfig, steps: int) -> dict[str, object]:
    """Tokens and FLOP per second of real steps; the GEMM peak is measured between them."""
    prepared = prepare(config, lambda line: None)
    model = build_model(config, prepared, config.seed)
    model.train()
    plan = plan_epoch(prepared.index, config.batch_tokens, config.seed, 0)
    set_expected_targets(model, prepared, plan)
    batches = PlannedBatches(prepared.rows, prepared.index, plan)
    optimizer = optimizer_of(model, config)
    seconds, tokens, flops, peaks = [], [], [], []
    for number in range(steps + 1):
        fields = batches.batch(number % len(batches))
        with FlopCounterMode(display=False) as counter:  # a separate pass: counting slows a step
            model(**fields)["loss"].backward()
        optimizer.zero_grad()
        start = time.perf_counter()
        train_step(model, optimizer, fields)
        elapsed = time.perf_counter() - start
        if number:  # the first step warms up
            seconds.append(elapsed)
            tokens.append(int((fields["tokens"] > 0).sum()))
            flops.append(counter.get_total_flops())
            peaks.append({d: gemm_peak(d) for d in (torch.float32, torch.bfloat16)})
        giga = counter.get_total_flops() / 1e9
        print(f"step {number}: {elapsed:.2f} s, {fields['tokens'].numel()} padded tokens, {giga:.0f} GFLOP", flush=True)
    middle = {str(d).removeprefix("torch."): sorted(p[d] for p in peaks)[len(peaks) // 2] for d in peaks[0]}
    precision = str(choose_precision("cpu")).removeprefix("torch.")
    return {
        "tokens_per_second": sum(tokens) / sum(seconds),
        "flops_per_second": sum(flops) / sum(seconds),
        "gemm_flops_per_second": middle,
        "share_of_peak": sum(flops) / sum(seconds) / middle[precision],
        "precision": precision,
    }


# --- the race -----------------------------------------------------------------------------------------------------


def dense_batches(config: FinetuneConfig, prepared: Prepared) -> Iterator[Fields]:
    """One history is one row: the batches of a fine-tuning, epoch after epoch."""
    epoch = 0
    while True:
        plan = plan_epoch(prepared.index, config.batch_tokens, config.seed, epoch)
        planned = PlannedBatches(prepared.rows, prepared.index, plan)
        yield from map(planned.batch, range(len(plan)))
        epoch += 1


def single_batches(config: FinetuneConfig, prepared: Prepared) -> Iterator[Fields]:
    """One example per target: the history before each training event, that event the only target, in random order."""
    (corpus,) = prepared.corpora
    assert corpus.events is not None
    train = select(corpus.events, corpus.events.part == 0)
    pairs = [
        (user, at)
        for user in range(len(train.users))
        for at in range(int(train.offsets[user]) + 1, int(train.offsets[user + 1]))
        if train.target[at]
    ]
    rng = np.random.default_rng(config.seed)
    while True:
        order = rng.permutation(len(pairs))
        for start in range(0, len(order), 2_000):  # of like length within a drawn two thousand
            rows = []
            for number in order[start : start + 2_000].tolist():
                user, at = pairs[number]
                lo = max(int(train.offsets[user]), at - config.max_events)
                row = prompt_row(corpus, train.users[user], train, lo, at, [])
                rows.append(replace(read_at(row, [len(row.tokens) - 1]), target_id=[int(train.item[at])]))
            batches = batches_by_length([len(r.tokens) for r in rows], config.batch_tokens)
            for chosen in rng.permutation(len(batches)).tolist():
                yield collate([rows[n] for n in batches[chosen]], 0)


def race(config: FinetuneConfig) -> dict[str, object]:
    """Seconds of training until validation reaches TARGET, of both arms."""
    prepared = prepare(config, lambda line: None)
    found: dict[str, object] = {"target": TARGET}
    limit = float("inf")
    lap = 15.0  # seconds of training between validations; of the second arm, twice the time of the first
    for arm, batches in (("history", dense_batches), ("single", single_batches)):
        model = build_model(config, prepared, config.seed)
        first = PlannedBatches(
            prepared.rows, prepared.index, plan_epoch(prepared.index, config.batch_tokens, config.seed, 0)
        )
        set_scales(model, prepared, first)
        scorer, optimizer = Scorer(model), optimizer_of(model, config)
        seconds, best, steps, targets, due = 0.0, 0.0, 0, 0, lap
        model.train()
        warmup = 10
        for fields in batches(config, prepared):
            start = time.perf_counter()
            for group in optimizer.param_groups:  # a short warm-up, then constant: neither arm knows its end
                group.setdefault("peak", group["lr"])
                group["lr"] = group["peak"] * min(1.0, (steps + 1) / warmup)
            train_step(model, optimizer, fields)
            seconds += time.perf_counter() - start
            steps, targets = steps + 1, targets + len(fields["target_at"])
            if seconds < due and seconds < limit:
                continue
            due = seconds + lap
            best = validation(config, prepared, scorer, tokens=config.valid_tokens)["criterion"]
            print(f"{arm}: {seconds:.0f} s, {steps} steps, {targets:,} targets, NDCG@10 {best:.4f}", flush=True)
            model.train()
            if best >= TARGET or seconds >= limit:
                break
        model.backbone.unload()  # type: ignore[operator]
        found[arm] = {
            "seconds": seconds,
            "steps": steps,
            "targets": targets,
            "ndcg@10": best,
            "reached": best >= TARGET,
        }
        if arm == "history":
            limit, lap = LIMIT * seconds, 2 * seconds
    return found


def main() -> None:
    """Measure and print; the last line is the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--race", action="store_true", help="time to a validation NDCG@10, against one row per target")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.race:
        found = race(FinetuneConfig(names=(args.dataset,), task=("next_item",)))
        one, other = found["history"], found["single"]
        assert isinstance(one, dict) and isinstance(other, dict)
        ratio = other["seconds"] / one["seconds"]
        reached = "reached it in" if other["reached"] else "had not reached it after"
        summary = (
            f"NDCG@10 {TARGET} in {one['seconds']:.0f} s; one example per target {reached} {ratio:.1f} times that "
            f"(NDCG@10 {other['ndcg@10']:.4f})"
        )
    else:
        found = speed(FinetuneConfig(names=(args.dataset,)), args.steps)
        peaks = found["gemm_flops_per_second"]
        assert isinstance(peaks, dict)
        summary = (
            f"{found['tokens_per_second']:.0f} tokens/s, {found['flops_per_second'] / 1e12:.3f} TFLOP/s = "  # type: ignore[operator]
            f"{found['share_of_peak']:.2f} of the GEMM peak of "
            f"{peaks[str(found['precision'])] / 1e12:.3f} TFLOP/s in {found['precision']}"
        )
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))
    print(summary)


if __name__ == "__main__":
    main()
