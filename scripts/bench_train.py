"""Training speed: tokens per second, and achieved FLOP/s as a share of what the machine's matrix products reach.

Usage: scripts/bench train [--dataset NAME] [--steps N] [--json FILE]
"""

import argparse
import json
import time
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from genrec.model.backbone import choose_precision
from genrec.training.config import FinetuneConfig
from genrec.training.finetune import build_model, prepare, set_expected_targets
from genrec.training.plan import PlannedBatches, plan_epoch


def gemm_peak(dtype: torch.dtype, size: int = 2048, runs: int = 5) -> float:
    """FLOP/s of the best of several square matrix products."""
    a, b = torch.randn(size, size).to(dtype), torch.randn(size, size).to(dtype)
    best = float("inf")
    for _ in range(runs):
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def main() -> None:
    """Measure and print; the last line is the summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    config = FinetuneConfig(names=(args.dataset,))
    prepared = prepare(config, lambda line: None)
    model = build_model(config, prepared, config.seed)
    model.train()
    plan = plan_epoch(prepared.index, config.batch_tokens, config.seed, 0)
    set_expected_targets(model, prepared, plan)
    batches = PlannedBatches(prepared.rows, prepared.index, plan)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.0, fused=True)
    seconds, tokens, flops, peaks = [], [], [], []
    for number in range(args.steps + 1):
        fields = batches[number % len(batches)]
        with FlopCounterMode(display=False) as counter:  # a separate pass: counting slows a step
            model(**fields)["loss"].backward()
        optimizer.zero_grad()
        start = time.perf_counter()
        model(**fields)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        elapsed = time.perf_counter() - start
        peak = {d: gemm_peak(d) for d in (torch.float32, torch.bfloat16)}
        if number:  # the first step warms up
            seconds.append(elapsed)
            tokens.append(int((fields["tokens"] > 0).sum()))
            flops.append(counter.get_total_flops())
            peaks.append(peak)
        padded, giga = fields["tokens"].numel(), counter.get_total_flops() / 1e9
        print(f"step {number}: {elapsed:.2f} s, {padded} padded tokens, {giga:.0f} GFLOP")
    precision = choose_precision("cpu")
    middle = {str(d).removeprefix("torch."): sorted(p[d] for p in peaks)[len(peaks) // 2] for d in peaks[0]}
    achieved = sum(flops) / sum(seconds)
    used = middle[str(precision).removeprefix("torch.")]
    found = {
        "tokens_per_second": sum(tokens) / sum(seconds),
        "flops_per_second": achieved,
        "gemm_flops_per_second": middle,
        "share_of_peak": achieved / used,
        "precision": str(precision),
    }
    if args.json:
        args.json.write_text(json.dumps(found, indent=1))
    print(
        f"{found['tokens_per_second']:.0f} tokens/s, {achieved / 1e12:.3f} TFLOP/s = "
        f"{found['share_of_peak']:.2f} of the GEMM peak of {used / 1e12:.3f} TFLOP/s in {precision}"
    )


if __name__ == "__main__":
    main()
