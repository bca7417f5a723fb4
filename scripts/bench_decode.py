"""Answering: latency, throughput and memory, as ratios to what the machine's forward pass costs in the same minute.

Usage: scripts/bench decode [--layers N ...] [--only PART ...] [--run RUN] [--repeats N] [--out FILE]

The model is untrained: item rows from text and co-occurrence, LoRA at zero. Speed does not depend on the weights; NF4's
overlap and what merging LoRA costs do, and are measured on a trained run, too, where --run gives one. Each figure is
the median of interleaved repetitions. Parts:

lists       the ten best items for one user against constrained beams over titles and one bare forward pass
returning   a user whose history is known, against a cold one, at 200 events
batch       all users of the data set against bare forward passes over the same padded batches
nf4         memory in 4 bits of the blocks, and of all with LoRA and item rows; how much of the lists it keeps
lora        LoRA merged into the weights against LoRA apart: latency, and distance from float32's scores
catalogue   10 thousand to 1 million generated items: latency beside the matrix product alone, and memory
start       a process that starts, loads the run and answers
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
import transformers
from torch import nn

from genrec.model.backbone import load_backbone
from genrec.model.batching import batches_by_length
from genrec.model.item_rows import ItemRows
from genrec.model.recmodel import RecModel
from genrec.recommender import Recommender
from genrec.recommender.histories import prompts_of, stored_history
from genrec.recommender.lists import CHUNK
from genrec.rows.corpus import header_columns
from genrec.rows.row import Row, read_at
from genrec.run.adapter import load_adapter, save_adapter
from genrec.run.config import FinetuneConfig
from genrec.run.manifest import Manifest
from genrec.scoring.scorer import Scorer
from genrec.store.connect import create_store
from genrec.store.read import history
from genrec.store.write import add_events
from genrec.tasks.vocabulary import Group, build_vocabulary
from genrec.training.finish import answers_of, with_popularity
from genrec.training.plan import PlannedBatches, plan_epoch
from genrec.training.prepare import Prepared, prepare
from genrec.training.start import build_model, set_scales

PROMPTS = (30, 100, 300)  # tokens
BEAMS = 10
EVENTS = 200  # of a returning user
APPENDED = 3
SIZES = (10_000, 100_000, 1_000_000)
Case = tuple[Callable[[], Any], Callable[[Any], object]]  # what prepares a repetition, untimed, and what is timed
Found = dict[str, Any]


def nothing() -> None:
    """A repetition that needs no preparation."""


def timed(cases: Mapping[str, Case], repeats: int) -> dict[str, list[float]]:
    """Seconds of each case, interleaved; the first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(repeats + 1):
        for name, (before, run) in cases.items():
            given = before()
            start = time.perf_counter()
            run(given)
            if number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(seconds: Mapping[str, Sequence[float]], one: str, other: str) -> float:
    """How many times the median of `other` that of `one` is."""
    return statistics.median(seconds[one]) / statistics.median(seconds[other])


# --- a run without training ---------------------------------------------------------------------------------------


def untrained_run(folder: Path, prepared: Prepared, config: FinetuneConfig) -> Path:
    """A run folder as a fine-tuning of no steps would leave it."""
    model = build_model(config, prepared, config.seed)
    plan = plan_epoch(prepared.index, config.batch_tokens, config.seed, 0)
    set_scales(model, prepared, PlannedBatches(prepared.rows, prepared.index, plan, model.split))
    manifest = Manifest(
        backbone=prepared.backbone.source,
        vocabulary=prepared.vocabulary,
        tasks=answers_of(prepared),
        max_events=prepared.max_events,
        header_columns={d.name: header_columns(d.users) for d in prepared.datasets},
        calibration={},
        metrics={},
        fingerprints={},
        options={},
        files={},
    )
    folder.mkdir(parents=True)
    create_store(folder / "store.db", prepared.datasets).close()
    catalogues = {c.dataset.name: with_popularity(c) for c in prepared.corpora}
    tokenizer = prepared.backbone.tokenizer
    save_adapter(folder / "adapter", model, {}, tokenizer, manifest, prepared.all_tasks, catalogues, "")
    return folder


def with_user(recommender: Recommender, tokens: int) -> str:
    """A new user whose prompt has so many tokens: the first one, an item and an outcome per event, the last may lack
    its outcome."""
    user, name = f"bench {tokens}", recommender.datasets[0]
    n = tokens // 2
    longest = max(recommender.all_users(name), key=lambda u: history(recommender.store, name, u).height)
    events = history(recommender.store, name, longest).head(n).select("item_id", "event", "rating")
    if tokens % 2 == 0:
        last = pl.Series([*events["rating"][:-1], None], dtype=pl.Float64)
        events = events.with_columns(rating=last)
    add_events(recommender.store, name, user, events)
    return user


def row_of(recommender: Recommender, user: str) -> Row:
    """The row that a list for the user is read from."""
    views = recommender.views
    view = views.of(None)
    return prompts_of(views, view, [user], [stored_history(views, view, user)]).row(0, [])


@torch.inference_mode()
def forward(backbone: nn.Module, embedded: torch.Tensor) -> None:
    """A bare forward pass."""
    backbone(inputs_embeds=embedded, use_cache=False)


# --- lists --------------------------------------------------------------------------------------------------------


class Titles:
    """Constrained beams over the titles of a catalogue, as transformers' `generate` does them."""

    def __init__(self, recommender: Recommender) -> None:
        source = recommender.adapter.manifest.backbone
        backbone = load_backbone(source.model, layers=source.blocks)
        backbone.model.set_attn_implementation("sdpa")  # plain transformers
        self.model = transformers.AutoModelForCausalLM.from_config(backbone.model.config, dtype=backbone.model.dtype)
        self.model.model = backbone.model
        self.model.lm_head.weight = backbone.model.get_input_embeddings().weight
        self.model.eval()
        self.tokenizer = backbone.tokenizer
        self.words = backbone.model.get_input_embeddings()
        self.end = self.tokenizer.eos_token_id
        allowed: dict[tuple[int, ...], set[int]] = {}
        self.longest = 0
        for title in recommender.adapter.catalogues[recommender.datasets[0]]["title"]:
            ids = [*self.tokenizer(f" {title}", add_special_tokens=False)["input_ids"], self.end]
            self.longest = max(self.longest, len(ids))
            for n, token in enumerate(ids):
                allowed.setdefault(tuple(ids[:n]), set()).add(token)
        self.allowed = {prefix: sorted(tokens) for prefix, tokens in allowed.items()}

    def best(self, prompt: torch.Tensor, cache: transformers.DynamicCache | None = None) -> torch.Tensor:
        """Tokens of the ten best titles after an embedded prompt (1, length, width)."""
        found: torch.Tensor = self.model.generate(
            inputs_embeds=prompt,
            num_beams=BEAMS,
            num_return_sequences=BEAMS,
            max_new_tokens=self.longest,
            length_penalty=0.0,
            do_sample=False,
            prefix_allowed_tokens_fn=lambda _, ids: self.allowed.get(tuple(ids.tolist()), [self.end]),
            eos_token_id=self.end,
            pad_token_id=self.end,
            **({} if cache is None else {"cache": cache}),
        )
        return found

    @torch.inference_mode()
    def read(self, prompt: torch.Tensor) -> transformers.DynamicCache:
        """The keys and values of a prompt but for its last token, for every beam."""
        cache = transformers.DynamicCache()
        self.model.model(inputs_embeds=prompt[:, :-1], cache=cache, use_cache=True)
        cache.batch_repeat_interleave(BEAMS)
        return cache

    def spelled(self, titles: Sequence[str]) -> torch.Tensor:
        """A prompt that holds titles instead of item tokens, embedded."""
        text = "The user watched, oldest first: " + ", ".join(titles) + ". Next:"
        ids = torch.tensor([self.tokenizer(text, add_special_tokens=False)["input_ids"]])
        embedded: torch.Tensor = self.words(ids)
        return embedded


def lists(recommender: Recommender, repeats: int) -> Found:
    """The ten best for one user: ours cold, ours known but for the last event, beams, and one bare forward pass."""
    titles = Titles(recommender)
    scorer, name = recommender.scorer, recommender.datasets[0]
    model, items = scorer.model, scorer.item_rows(name)[0]
    shown = recommender.adapter.catalogues[name]
    title_of = dict(zip(shown["item_id"], shown["title"], strict=True))
    found: Found = {}
    for tokens in PROMPTS:
        user = with_user(recommender, tokens)
        row = row_of(recommender, user)
        assert len(row.tokens) == tokens, (len(row.tokens), tokens)
        with torch.no_grad():
            prompt = model.embed(torch.tensor([row.tokens]), name, items).to(model.compute_dtype)
            spelled = titles.spelled([title_of[i] for i in history(recommender.store, name, user)["item_id"]])
        before = replace(read_at(row, [tokens - 2]), tokens=row.tokens[:-1], segment=row.segment[:-1])

        def read(row: Row = before) -> None:
            scorer.prefixes.clear()
            scorer.states([row])

        def ours(_: None, user: str = user) -> None:
            recommender.recommend(user, k=BEAMS, dataset=name)

        cases: dict[str, Case] = {
            "ours": (scorer.prefixes.clear, ours),
            "forward": (nothing, lambda _, prompt=prompt: forward(model.backbone, prompt)),
            "ours, known": (read, ours),
            "beams": (nothing, lambda _, prompt=prompt: titles.best(prompt)),
            "beams, known": (
                lambda prompt=prompt: titles.read(prompt),
                lambda cache, prompt=prompt: titles.best(prompt, cache),
            ),
            "beams, titles": (nothing, lambda _, spelled=spelled: titles.best(spelled)),
        }
        quick = timed({k: cases[k] for k in ("ours", "forward", "ours, known")}, 4 * repeats)
        seconds = timed(cases, repeats)
        report = {
            "beams / ours": ratio(seconds, "beams", "ours"),
            "known: beams / ours": ratio(seconds, "beams, known", "ours, known"),
            "titles: beams / ours": ratio(seconds, "beams, titles", "ours"),
            "ours / forward": ratio(quick, "ours", "forward"),
            "beams / forward": ratio(seconds, "beams", "forward"),
        }
        words = int(spelled.shape[1])
        found[str(tokens)] = report | {"seconds": seconds, "quick": quick, "tokens of the titles": words}
        shown_now = ", ".join(f"{k} {v:.2f}" for k, v in report.items())
        ms = statistics.median(quick["ours"]) * 1e3
        print(f"  {tokens} tokens: {ms:.1f} ms; {shown_now} ({words} tokens as titles)", flush=True)
    return found


# --- returning users ----------------------------------------------------------------------------------------------


def returning(recommender: Recommender, repeats: int) -> Found:
    """A cold user of EVENTS events against the same one back with some more, and with another question."""
    name = recommender.datasets[0]
    user = with_user(recommender, 2 * EVENTS + 1)
    few = history(recommender.store, name, user).head(APPENDED).select("item_id", "event", "rating")
    item = str(few["item_id"][0])
    prefixes = recommender.scorer.prefixes

    def ask(_: None) -> None:
        recommender.recommend(user, dataset=name)

    def grown() -> None:
        ask(None)
        add_events(recommender.store, name, user, few)

    cases: dict[str, Case] = {
        "cold": (prefixes.clear, ask),
        "some events more": (grown, ask),
        "another question": (
            lambda: ask(None),
            lambda _: recommender.predict("rating", users=user, items=item, dataset=name),
        ),
        "the same question": (lambda: ask(None), ask),
    }
    seconds = timed(cases, repeats)
    report = {f"cold / {k}": ratio(seconds, "cold", k) for k in cases if k != "cold"}
    print("  " + ", ".join(f"{k} {v:.1f}" for k, v in report.items()), flush=True)
    return report | {"seconds": seconds, "events": [EVENTS, EVENTS + APPENDED * (repeats + 1)]}


# --- many users ---------------------------------------------------------------------------------------------------


def batch(recommender: Recommender, repeats: int) -> Found:
    """Lists for all users against bare forward passes over the same padded batches."""
    name = recommender.datasets[0]
    scorer = recommender.scorer
    users = [u for u in recommender.all_users(name) if not u.startswith("bench ")]
    width, dtype = scorer.model.outcome_rows.shape[1], scorer.model.compute_dtype
    groups = []
    for start in range(0, len(users), CHUNK):
        lengths = [len(row_of(recommender, u).tokens) for u in users[start : start + CHUNK]]
        groups += [(len(g), max(lengths[n] for n in g)) for g in batches_by_length(lengths, scorer.batch_tokens)]
    tokens = sum(n * length for n, length in groups)

    def bare(_: None) -> None:
        for n, length in groups:
            forward(scorer.model.backbone, torch.zeros(n, length, width, dtype=dtype))

    cases: dict[str, Case] = {
        "ours": (nothing, lambda _: recommender.recommend(users, dataset=name)),
        "forward": (nothing, bare),
    }
    seconds = timed(cases, repeats)
    share = ratio(seconds, "forward", "ours")
    rate = len(users) / statistics.median(seconds["ours"])
    print(f"  {len(users)} users, {tokens:,} padded tokens: {rate:.1f} users/s, {share:.2f} of the bare forward pass")
    return {"users": len(users), "users / s": rate, "share of forward": share, "tokens": tokens, "seconds": seconds}


# --- quantized ----------------------------------------------------------------------------------------------------


def nbytes(module: nn.Module, lora: bool = True) -> int:
    """Bytes of a module's parameters and buffers, the constants of quantized ones included; shared ones once."""
    seen: dict[int, int] = {}
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if "lora_" in name and not lora:
            continue
        seen[tensor.data_ptr()] = tensor.nbytes
        state = getattr(tensor, "quant_state", None)
        for own in (state, getattr(state, "state2", None)):
            for value in vars(own).values() if own is not None else ():
                if isinstance(value, torch.Tensor):
                    seen[value.data_ptr()] = value.nbytes
    return sum(seen.values())


def blocks_of(model: RecModel) -> nn.Module:
    """The blocks of the backbone."""
    return next(m for n, m in model.backbone.named_modules() if n.endswith("layers") and isinstance(m, nn.ModuleList))


def lists_of(recommender: Recommender, users: Sequence[str]) -> list[set[str]]:
    """The ten best of each user."""
    frame = recommender.recommend(users, dataset=recommender.datasets[0]).frame
    return [set(ids) for ids in frame.group_by("user_id", maintain_order=True).agg("item_id")["item_id"]]


def nf4(run: Path, users: int) -> Found:
    """Memory of a run in 4 bits and in full, and the shared part of their lists."""
    full, small = (Recommender.load(run, quantize=q) for q in ("none", "nf4"))
    asked = [u for u in full.all_users() if not u.startswith("bench ")][:users]
    lists = [lists_of(r, asked) for r in (full, small)]  # read before the memory: packing happens at the first forward
    overlap = float(np.mean([len(a & b) / max(len(a), 1) for a, b in zip(*lists, strict=True)]))
    models = [r.scorer.model for r in (full, small)]
    sizes = {"blocks": [nbytes(blocks_of(m), lora=False) for m in models], "whole": [nbytes(m) for m in models]}
    share = {part: small / full for part, (full, small) in sizes.items()}
    blocks = full.adapter.manifest.backbone.blocks
    text = ", ".join(f"{part} {value:.2f}" for part, value in share.items())
    print(
        f"  {blocks} blocks, memory of full precision's: {text}; overlap {overlap:.3f} of {len(asked)} users",
        flush=True,
    )
    return {"blocks": blocks, "memory": share, "bytes": sizes, "overlap": overlap, "users": len(asked)}


# --- LoRA merged or apart -----------------------------------------------------------------------------------------


def lora(run: Path, users: int, repeats: int) -> Found:
    """Latency of a forward pass with LoRA merged, apart, and in float32; distance of the scores from float32's."""
    loaded = {
        "merged": load_adapter(run / "adapter").model,
        "apart": load_adapter(run / "adapter", merge=False).model,
        "float32": load_adapter(run / "adapter", merge=False).model.float(),
    }
    reader = Recommender.load(run)
    name = reader.datasets[0]
    rows = [row_of(reader, u) for u in reader.all_users(name)[:users]]
    scores = {k: Scorer(m) for k, m in loaded.items()}
    read = {k: e.item_scores(e.states(rows), name) for k, e in scores.items()}
    spread = read["float32"].std(1, keepdim=True)
    away = {k: float(((v - read["float32"]) / spread).square().mean().sqrt()) for k, v in read.items()}
    top = {k: v.topk(10, 1).indices.tolist() for k, v in read.items()}
    pairs = {k: zip(v, top["float32"], strict=True) for k, v in top.items()}
    overlap = {k: float(np.mean([len(set(a) & set(b)) / 10 for a, b in pair])) for k, pair in pairs.items()}
    prompts = {k: torch.zeros(1, 100, m.outcome_rows.shape[1], dtype=m.compute_dtype) for k, m in loaded.items()}
    cases: dict[str, Case] = {
        k: (nothing, lambda _, m=m, k=k: forward(m.backbone, prompts[k])) for k, m in loaded.items() if k != "float32"
    }
    seconds = timed(cases, 4 * repeats)
    slower = ratio(seconds, "apart", "merged")
    print(
        f"  apart / merged {slower:.2f}; distance from float32 in standard deviations of the scores: "
        f"merged {away['merged']:.4f}, apart {away['apart']:.4f}; "
        f"overlap {overlap['merged']:.3f}, {overlap['apart']:.3f}",
        flush=True,
    )
    return {"apart / merged": slower, "distance": away, "overlap": overlap, "seconds": seconds, "users": len(rows)}


# --- catalogues ---------------------------------------------------------------------------------------------------


def resident(field: str) -> int:
    """Bytes of this process by a line of /proc/self/status: VmRSS now, VmHWM at most."""
    line = next(n for n in Path("/proc/self/status").read_text().splitlines() if n.startswith(field))
    return int(line.split()[1]) * 1024


def catalogue(recommender: Recommender, repeats: int) -> Found:
    """A list out of n generated items, for several n."""
    return {str(n): generated(recommender, n, repeats) for n in SIZES}


def generated(recommender: Recommender, n: int, repeats: int) -> Found:
    """A list after a history of 50 items out of n generated ones, and the product of one state with all rows."""
    manifest, of = recommender.adapter.manifest, recommender.scorer.model
    backbone, width = of.backbone, of.outcome_rows.shape[1]
    groups = [g for g in manifest.vocabulary.groups if not g.is_items]
    name = groups[0][0]
    vocabulary = build_vocabulary(manifest.vocabulary.n_words, [*groups, Group(name, "items", 0, n)])
    flat = torch.zeros(1, width).expand(n, width)  # no text and no neighbours: their vectors take no memory here
    items = ItemRows(flat, flat, torch.zeros(n, dtype=torch.bool))
    nn.init.normal_(items.residual)
    model = RecModel(backbone, vocabulary, {name: items}, of.outcome_rows.detach())
    ids = pl.int_range(n, eager=True).cast(pl.String)
    frame = pl.DataFrame({"item_id": ids, "title": "item " + ids, "train_count": pl.zeros(n, pl.Int64, eager=True)})
    manifest = replace(manifest, vocabulary=vocabulary)
    adapter = replace(recommender.adapter, model=model, manifest=manifest, catalogues={name: frame})
    large = Recommender(adapter, Scorer(model), recommender.store)
    seen, nothing_before = np.arange(0, n, n // 50), [np.zeros(0, dtype=np.int64)]
    past = [str(i) for i in seen]
    rows, state = large.scorer.item_rows(name)[0], torch.randn(1, width)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    prompt = torch.zeros(1, 51, width, dtype=model.compute_dtype)
    cases: dict[str, Case] = {
        "list": (nothing, lambda _: large.recommend(history=past, dataset=name)),
        "rank": (nothing, lambda _: large.scorer.rank(state, name, 10, [seen], nothing_before)),
        "product": (nothing, lambda _: state @ rows.t()),
        "forward": (nothing, lambda _: forward(backbone, prompt)),
    }
    seconds = timed(cases, 4 * repeats)
    middle = {k: statistics.median(v) for k, v in seconds.items()}
    beside = resident("VmHWM") - before
    print(
        f"  {n:,} items: list {middle['list'] * 1e3:.1f} ms, product {middle['product'] * 1e3:.1f} ms, "
        f"rank / product {middle['rank'] / middle['product']:.2f}; rows {rows.nbytes / 2**20:.0f} MiB, "
        f"at most {beside / 2**20:.0f} MiB beside them while answering",
        flush=True,
    )
    return {
        "list": middle["list"],
        "rank / product": middle["rank"] / middle["product"],
        "list / (forward + product)": middle["list"] / (middle["forward"] + middle["product"]),
        "bytes of the rows": rows.nbytes,
        "bytes beside": beside,
        "seconds": seconds,
    }


# --- start --------------------------------------------------------------------------------------------------------


def start(run: Path, repeats: int) -> Found:
    """Seconds from the start of a process to its end, the answer printed."""
    user = Recommender.load(run).all_users()[0]
    command = [sys.executable, "-m", "genrec", "ask", f"recommend for user {user}", "--run", str(run)]
    cases: dict[str, Case] = {"ask": (nothing, lambda _: subprocess.run(command, capture_output=True, check=True))}
    seconds = timed(cases, repeats)
    middle = statistics.median(seconds["ask"])
    print(f"  {middle:.1f} s", flush=True)
    return {"start to answer": middle, "seconds": seconds}


# --- all ----------------------------------------------------------------------------------------------------------

PARTS = ("lists", "returning", "batch", "nf4", "lora", "catalogue", "start")


def main() -> None:
    """Measure and print; the last line is the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--layers", type=int, nargs="+", default=[6, 30])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--run", type=Path, help="a trained run, for nf4, lora and start")
    parser.add_argument("--users", type=int, default=200, help="users whose lists are compared by nf4 and lora")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="raw figures as JSON")
    args = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    found: Found = {"threads": torch.get_num_threads(), "processor": torch.cpu.get_capabilities().get("cpu_name")}
    with tempfile.TemporaryDirectory() as scratch:
        for layers in args.layers:
            config = FinetuneConfig(names=(args.dataset,), layers=layers, max_events=2 * EVENTS)
            run = untrained_run(Path(scratch) / str(layers), prepare(config, lambda line: None), config)
            recommender = Recommender.load(run)
            parts: dict[str, Callable[[], Found]] = {
                "lists": partial(lists, recommender, args.repeats),
                "returning": partial(returning, recommender, args.repeats),
                "batch": partial(batch, recommender, args.repeats if layers <= 12 else 1),
            }
            if layers == args.layers[0]:
                parts["catalogue"] = partial(catalogue, recommender, args.repeats)
            found[f"{layers} blocks"] = measured(f"{layers} blocks", parts | on_run(run, args), args.only)
    if args.run is not None:
        found["trained run"] = measured(str(args.run), on_run(args.run, args), args.only)
    if args.out:
        args.out.write_text(json.dumps(found, indent=1))
    print(summary(found))


def on_run(run: Path, args: argparse.Namespace) -> dict[str, Callable[[], Found]]:
    """The parts that load a run folder themselves."""
    return {
        "nf4": partial(nf4, run, args.users),
        "lora": partial(lora, run, args.users, args.repeats),
        "start": partial(start, run, args.repeats),
    }


def measured(what: str, parts: Mapping[str, Callable[[], Found]], only: Sequence[str]) -> Found:
    """The chosen parts, one after the other."""
    found = {}
    for part, measure in parts.items():
        if part in only:
            print(f"{what}, {part}:", flush=True)
            found[part] = measure()
    return found


def summary(found: Found) -> str:
    """The figures that matter, in one line."""
    parts = []
    for name, own in found.items():
        if not isinstance(own, dict):
            continue
        said = []
        if "lists" in own:
            beams = "/".join(f"{own['lists'][str(n)]['beams / ours']:.1f}" for n in PROMPTS)
            bare = "/".join(f"{own['lists'][str(n)]['ours / forward']:.2f}" for n in PROMPTS)
            said.append(
                f"{beams} times as fast as beams and {bare} forward passes at {'/'.join(map(str, PROMPTS))} tokens"
            )
        if "returning" in own:
            said.append(
                f"a returning user {own['returning']['cold / some events more']:.1f} times as fast as a cold one"
            )
        if "batch" in own:
            said.append(
                f"{own['batch']['users / s']:.0f} users/s, {own['batch']['share of forward']:.2f} of the forward pass"
            )
        if "nf4" in own:
            memory = own["nf4"]["memory"]
            said.append(
                f"NF4 {memory['blocks']:.2f} of the blocks, {memory['whole']:.2f} of the whole, "
                f"overlap {own['nf4']['overlap']:.2f}"
            )
        if "catalogue" in own:
            worst = max(size["rank / product"] for size in own["catalogue"].values())
            said.append(f"catalogues up to {max(SIZES):,}: at most {worst:.2f} products")
        if "start" in own:
            said.append(f"start to answer {own['start']['start to answer']:.1f} s")
        parts.append(f"{name}: " + "; ".join(said))
    return " | ".join(parts)


if __name__ == "__main__":
    main()
