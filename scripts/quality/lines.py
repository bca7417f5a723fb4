"""The lines of the quality table: which runs each one trains, and what is measured of them.

A measure gives rows, genrec's own first, then baselines and rules of the same cases; metrics have 95 % intervals.
"""

import hashlib
import json
import shlex
import shutil
import tempfile
import time
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
import yaml

from genrec.cli import main
from genrec.cli.output import progress_bar, say
from genrec.errors import RunError
from genrec.evaluation import metrics
from genrec.evaluation.bootstrap import clusters, mean_intervals, metric_intervals
from genrec.evaluation.cases import answers_of, measure_of, rank_values, ranks_of, read_cases
from genrec.evaluation.metrics import METRICS
from genrec.evaluation.results import cases_file
from genrec.files import write_text
from genrec.recommender import Recommender
from genrec.run.loaded import load_run
from genrec.store.write import add_events

from . import converters, rules, sasrec

AT_ONCE = 512  # cases answered between two signs of progress
K = 10
SECONDS = "bench-seconds.txt"  # of a run: how long its training took
Metrics = dict[str, dict[str, float | None]]  # by name: value, low, high


@dataclass(frozen=True)
class Row:
    """One model or rule of a line; `values`: of every run alone. seconds: of training, of all runs. parts: metrics of
    genrec's own parts, by part; over: what all of them together have over a part or a rival, by its name and metric,
    paired."""

    name: str
    metrics: Metrics
    values: dict[str, list[float | None]] = field(default_factory=dict)
    seconds: float | None = None
    parts: dict[str, Metrics] = field(default_factory=dict)
    over: dict[str, Metrics] = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """What a line is measured with: its settings, the raw files, and the folders of its work and of all results.

    baselines: whether `genrec evaluate` measures its own beside a run.
    """

    name: str
    settings: Mapping[str, Any]
    raw: Path
    work: Path
    results: Path
    baselines: bool

    @property
    def files(self) -> Path:
        """Where the converted files are."""
        return self.work / "data"


Options = dict[str, Any]
Runs = list[tuple[str, Options]]  # folder of a run, and its options besides those of the settings


@dataclass(frozen=True)
class Line:
    """A line: raw files to its own, which runs, and what is measured."""

    convert: Callable[..., None] | None
    runs: Callable[[Bench], Runs]
    measure: Callable[[Bench], list[Row]]


# --- runs ---------------------------------------------------------------------------------------------------------


def data_options(bench: Bench, interactions: str = "interactions", folder: str = ".") -> Options:
    """The options that name a line's converted files; none for a named data set."""
    place = bench.files / folder
    files = {"interactions": interactions, "items": "items", "users": "users"}
    found = {role: place / f"{name}.parquet" for role, name in files.items()}
    return {role: str(path) for role, path in found.items() if path.is_file()}


def by_seed(bench: Bench) -> Runs:
    """One run per seed."""
    return [(f"seed-{n}", {**data_options(bench), "seed": n}) for n in range(bench.settings["runs"])]


def by_file(pattern: str) -> Callable[[Bench], Runs]:
    """One run per file of interactions: folds, or draws."""

    def runs(bench: Bench) -> Runs:
        names = sorted(p.stem for p in bench.files.glob(f"{pattern}.parquet"))
        return [(name, data_options(bench, name)) for name in names[: bench.settings["runs"]]]

    return runs


def joint_and_single(bench: Bench) -> Runs:
    """Per seed one run on all tasks, then one per task; those of next_item are the runs of the line of ML-100K."""
    runs: Runs = []
    for n in range(bench.settings["runs"]):
        runs.append((f"{n}-joint", {"seed": n}))
        for task in bench.settings["finetune"]["task"]:
            name = f"../ml-100k/seed-{n}" if task == "next_item" else f"{n}-{task}"
            runs.append((name, {"task": [task], "seed": n}))
    return runs


COLD = ("ml-100k", "beauty", "ml-latest-small")


def with_and_without(bench: Bench) -> Runs:
    """Per data set a run without the withheld items, and one with them."""
    kinds = {"cold": "interactions", "all": "all"}
    return [(f"{d}-{kind}", data_options(bench, file, d)) for d in COLD for kind, file in kinds.items()]


def call(arguments: Sequence[str]) -> None:
    """A genrec command in this process, printed as it can be repeated; ends where the command fails."""
    say(f"$ genrec {shlex.join(arguments)}")
    if code := main([*arguments]):
        raise SystemExit(code)


def finetune(bench: Bench, run: str, options: Options) -> Path:
    """A finished run; an interrupted one goes on. Its seconds are added up in a file of the run."""
    folder, config = bench.work / run, bench.work / f"{run}.yaml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(yaml.safe_dump({**bench.settings["finetune"], **options}, sort_keys=False), encoding="utf-8")
    finished = (folder / "adapter" / "genrec.json").is_file()
    before, start = seconds_of(bench, run), time.perf_counter()
    try:
        call(["finetune", "--config", str(config), "--out", str(folder)])
    finally:
        if not finished and folder.is_dir():
            spent = before + time.perf_counter() - start
            (folder / SECONDS).write_text(f"{spent:.1f}\n", encoding="utf-8")
    return folder


def seconds_of(bench: Bench, run: str) -> float:
    """How long a run has been trained, its interruptions left out."""
    path = bench.work / run / SECONDS
    return float(path.read_text(encoding="utf-8")) if path.is_file() else 0.0


def evaluate(bench: Bench, run: str) -> dict[str, Any]:
    """What `genrec evaluate` finds of the one data set of a run; measured once."""
    path = bench.work / run / "results.json"
    if not path.is_file() or (bench.baselines and "baselines" not in only(read(path)["datasets"])):
        call(["evaluate", str(path.parent), "--phrasing", "served", *(["--baselines"] if bench.baselines else [])])
    return only(read(path)["datasets"])


def read(path: Path) -> Any:
    """A JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def only(values: Mapping[str, Any] | Sequence[Any]) -> Any:
    """The one value."""
    (value,) = values.values() if isinstance(values, Mapping) else values
    return value


# --- numbers ------------------------------------------------------------------------------------------------------


def intervals(found: Mapping[str, tuple[float, float, float]]) -> Metrics:
    """Intervals as JSON values; what is not defined is null."""
    names = ("value", "low", "high")
    return {
        k: {n: float(v) if np.isfinite(v) else None for n, v in zip(names, own, strict=True)}
        for k, own in found.items()
    }


def pooled(name: str, runs: Sequence[Metrics], seconds: float | None = None, disjoint: bool = False) -> Row:
    """The mean of several runs, and that of the ends of their intervals: runs share their cases, or their users, so
    that averaging them does not narrow an interval.

    disjoint: runs share no users, so that their deviations are independent and add up in squares.
    """
    found: Metrics = {}
    for metric in runs[0]:
        every = [run[metric] for run in runs if metric in run]
        value, low, high = (mean([own[end] for own in every]) for end in ("value", "low", "high"))
        if disjoint and value is not None and low is not None and high is not None:
            down, up = (np.asarray([own["value"] - own[end] for own in every]) for end in ("low", "high"))  # type: ignore
            low = value - float(np.hypot.reduce(down)) / len(every)
            high = value + float(np.hypot.reduce(up)) / len(every)
        if len(every) == len(runs):
            found[metric] = {"value": value, "low": low, "high": high}
    return Row(name, found, {m: [run[m]["value"] for run in runs] for m in found}, seconds)


def mean(values: Sequence[float | None]) -> float | None:
    """The mean; None where a value is not known."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def yes_no(scores: np.ndarray, label: np.ndarray, users: Sequence[str]) -> Metrics:
    """AUC and the mean AUC within users, with intervals by user."""
    ones = np.ones(len(label))
    found = metric_intervals(lambda factor: {"auc": metrics.auc(scores, label, factor)}, users)
    within = metrics.user_auc(scores, label, clusters(users), ones)
    if within:
        found |= mean_intervals({"user_auc": np.asarray(list(within.values()))}, [str(u) for u in within])
    return intervals(found)


def listed(lists: Sequence[Sequence[str]], wanted: Sequence[str], users: Sequence[str]) -> Metrics:
    """HR@10 and NDCG@10 of lists of item ids with one right item each, with intervals by user."""
    ranks = [
        np.asarray([own[:K].index(item) + 1 if item in own[:K] else 2 * max(metrics.KS)])
        for own, item in zip(lists, wanted, strict=True)
    ]
    values = metrics.ranking_values(ranks)
    return intervals(mean_intervals({k: values[k] for k in ("hr@10", "ndcg@10")}, users))


# --- measured by genrec evaluate ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """What `genrec evaluate` says of one run: metrics of the whole, by part and of baselines, the paired differences of
    the whole from these, and the seconds of training, its own and the baselines'."""

    seconds: float
    own: Metrics
    parts: dict[str, Metrics]
    baselines: dict[str, Metrics]
    over: dict[str, Metrics]
    baseline_seconds: dict[str, list[float]]


def code_of_genrec() -> str:
    """The first digits of a hash of genrec's sources and task files."""
    root = Path(__file__).parents[2]
    files = sorted([*root.glob("genrec/**/*.py"), *root.glob("prompts/*.yaml")])
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:12]


def file_name(value: Any) -> Any:
    """The value of an option; of a path its last part alone, since the folders are those of a machine."""
    return Path(value).name if isinstance(value, str) and "/" in value else value


def recorded(
    bench: Bench,
    name: str,
    options: Options,
    measure: Callable[[], Any],
    enough: Callable[[Any], bool] = lambda _: True,
) -> Any:
    """What was measured of a run or data set, once, by any machine that has what RESULTS/runs holds.

    options: of the training, which must be those of the record. measure: gives JSON values. enough: whether a record
    has what is asked for now.
    """
    every = {**bench.settings["finetune"], **options}
    named = {k: [*map(file_name, v)] if isinstance(v, list) else file_name(v) for k, v in every.items()}
    path = bench.results / "runs" / bench.name / f"{name}.json"
    if path.is_file():
        known = read(path)
        if known["options"] != named:
            raise RunError(
                f"{path} is of a run with other options than {bench.name} has now; remove it to measure anew"
            )
        if enough(known["found"]):
            return known["found"]
    found = measure()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"options": named, "code": code_of_genrec(), "found": found}) + "\n")
    return found


def measured_run(bench: Bench, run: str, options: Options) -> Measured:
    """What a run is measured at."""

    def measure() -> dict[str, Any]:
        finetune(bench, run, options)
        found = evaluate(bench, run)
        parts, over, baselines = by_part(found, "metrics"), by_part(found, "difference"), dict[str, Metrics]()
        seconds: dict[str, list[float]] = {}
        for task, rivals in found.get("baselines", {}).items():
            for rival in rivals:
                name = rival["name"]
                seconds.setdefault(name, []).append(rival["train_seconds"])
                for kept, key in ((baselines, "metrics"), (over, "difference")):
                    kept.setdefault(name, {}).update({f"{task}/{k}": v for k, v in rival[key].items()})
        return asdict(Measured(seconds_of(bench, run), metrics_of(found), parts, baselines, over, seconds))

    def enough(found: Mapping[str, Any]) -> bool:
        is_here = (bench.work / run / "adapter").is_dir()  # baselines can be measured beside it
        return bool(found["baselines"]) or not (bench.baselines and is_here)

    return Measured(**recorded(bench, Path(run).name, options, measure, enough))


def evaluated(bench: Bench) -> list[Row]:
    """What `genrec evaluate` says of every run, and of the baselines beside it: of runs with the same cases some may
    have been measured without these."""
    runs = [measured_run(bench, run, options) for run, options in LINES[bench.name].runs(bench)]
    disjoint = bool(bench.settings.get("disjoint"))

    def pooled_by_name(kind: str) -> dict[str, Row]:
        every = [getattr(run, kind) for run in runs]
        have = {name: [own[name] for own in every if name in own] for own in every for name in own}
        return {
            name: pooled(name, own, None, disjoint)
            for name, own in have.items()
            if len(own) == len(runs) or not disjoint
        }

    parts, over = ({n: row.metrics for n, row in pooled_by_name(kind).items()} for kind in ("parts", "over"))
    own = pooled("genrec", [run.own for run in runs], sum(run.seconds for run in runs), disjoint)
    rows = [replace(own, parts=parts, over=over)]
    for name, row in pooled_by_name("baselines").items():  # a time that comes back is the same, out of the cache
        seconds = {s for run in runs for s in run.baseline_seconds.get(name, [])}
        rows.append(replace(row, seconds=sum(seconds)))
    return rows


def by_part(found: Mapping[str, Any], key: str) -> dict[str, Metrics]:
    """`task/metric` of a data set's results by part, of the parts that have it."""
    values: dict[str, Metrics] = {}
    for task, parts in found.get("parts", {}).items():
        for part, own in parts.items():
            values.setdefault(part, {}).update({f"{task}/{m}": v for m, v in own.get(key, {}).items()})
    return {part: own for part, own in values.items() if own}


def metrics_of(found: Mapping[str, Any]) -> Metrics:
    """`task/metric` of a data set's results, as served."""
    tasks = found["tasks"]
    return {f"{t}/{k}": v for t, phrasings in tasks.items() for k, v in phrasings["served"]["metrics"].items()}


# --- measured by asking a run -------------------------------------------------------------------------------------


@contextmanager
def loaded(run: Path, cases: pl.DataFrame) -> Iterator[Recommender]:
    """A run that knows the cases: where they have histories of their own, each is a user more, in a copy of the run."""
    if "history" not in cases.columns:
        yield Recommender.load(run)
        return
    with tempfile.TemporaryDirectory(dir=run.parent, prefix=f".{run.name}-") as folder, progress_bar() as progress:
        copy = Path(folder) / run.name
        shutil.copytree(run, copy)
        recommender = Recommender.load(copy)
        columns = dict.fromkeys(("item_id", "event"), pl.String)
        for n, (case, *own) in enumerate(cases.select("case", "history", "events").iter_rows(), start=1):
            events = pl.DataFrame(dict(zip(columns, own, strict=True)), schema=columns)
            add_events(recommender.store, recommender.datasets[0], case, events)
            progress.update("histories of the cases", n, cases.height)
        yield recommender
        recommender.store.close()


Ask = Callable[[Recommender, pl.DataFrame], list[Any]]


def answered(run: Path, cases: pl.DataFrame, ask: Ask, name: str = "answers") -> pl.DataFrame:
    """The cases with what a run answers in `answer`: asked once, then read from the run's NAME.parquet."""
    path = run / f"{name}.parquet"
    if not path.is_file():
        found: list[Any] = []
        with loaded(run, cases) as recommender, progress_bar() as progress:
            for part in cases.iter_slices(AT_ONCE):
                found += ask(recommender, part)
                progress.update(f"asking {run.name}", len(found), cases.height)
        converters.write(cases.select("case").with_columns(pl.Series("answer", found)), path)
    answers = pl.read_parquet(path)
    if answers["case"].to_list() != cases["case"].to_list():
        raise RunError(f"{path} answers other cases than there are now; remove it to ask again")
    return cases.with_columns(answers["answer"])


Rule = Callable[["Bench", pl.DataFrame], dict[str, np.ndarray]]  # scores of the cases, by the rule's name


def asked(task: str, rule: Rule) -> Callable[[Bench], list[Row]]:
    """A yes/no task asked about every case alone, beside rules that score the same cases."""

    def ask(recommender: Recommender, part: pl.DataFrame) -> list[float]:
        found = recommender.predict(task, users=part["case"].to_list(), items=part["item_id"].to_list())
        return found.frame["probabilities"].list.get(1).to_list()

    def measure(bench: Bench) -> list[Row]:
        cases = pl.read_parquet(bench.files / "cases.parquet")
        label, users = cases["label"].to_numpy() == 1, cases["user_id"].to_list()
        own, seconds = [], 0.0
        for run, options in LINES[bench.name].runs(bench):
            answers = answered(finetune(bench, run, options), cases, ask)
            own.append(yes_no(answers["answer"].to_numpy(), label, users))
            seconds += seconds_of(bench, run)
        others = [Row(name, yes_no(scores, label, users)) for name, scores in rule(bench, cases).items()]
        return [pooled("genrec", own, seconds), *others]

    return measure


def liked_rule(bench: Bench, cases: pl.DataFrame) -> dict[str, np.ndarray]:
    """TALLRec's rule."""
    return {"share of liked": rules.share_of_liked(cases)}


def means_rule(bench: Bench, cases: pl.DataFrame) -> dict[str, np.ndarray]:
    """CoLLM's rule, with the damping that is known to pass published figures, and with that chosen on validation."""
    known = pl.read_parquet(bench.files / "interactions.parquet")
    train, valid = (known.filter(pl.col("part") == part) for part in ("train", "valid"))
    of_user, of_item = rules.best_damping(train, valid)
    return {
        "smoothed means": rules.smoothed_means(train, cases, 5, 10),
        f"smoothed means, validated ({of_user}, {of_item})": rules.smoothed_means(train, cases, of_user, of_item),
    }


def bought(bench: Bench) -> list[Row]:
    """Tmall: what the user viewed or carted and did not buy, by the probability of buying it; no other item comes
    before these."""
    cases = pl.read_parquet(bench.files / "cases.parquet")
    sets = converters.tmall_sets(bench.raw)
    users, wanted = cases["user_id"].to_list(), cases["item_id"].to_list()

    def ask(recommender: Recommender, part: pl.DataFrame) -> list[list[str]]:
        left = [converters.open_items(sets, user) for user in part["user_id"].to_list()]
        names = [case for case, own in zip(part["case"].to_list(), left, strict=True) for _ in own]
        found = recommender.predict("buy", users=names, items=[item for own in left for item in own]).frame
        best = found.with_columns(yes=pl.col("probabilities").list.get(1)).sort(
            "yes", descending=True, maintain_order=True
        )
        lists = dict(best.group_by("user_id").agg(pl.col("item_id").head(K)).iter_rows())
        return [lists.get(case, []) for case in part["case"].to_list()]

    own, seconds = [], 0.0
    for run, options in LINES[bench.name].runs(bench):
        answers = answered(finetune(bench, run, options), cases, ask)
        own.append(listed(answers["answer"].to_list(), wanted, users))
        seconds += seconds_of(bench, run)
    rule = listed([converters.open_items(sets, user) for user in users], wanted, users)
    return [pooled("genrec", own, seconds), Row("carted, then viewed, not bought", rule)]


KNN = {"last": 1, "mean of the last 5": 5, "mean of all": 10**6}  # of a history's items, to which others are like


def top_ten(recommender: Recommender, part: pl.DataFrame) -> list[list[str]]:
    """The list of each case."""
    found = recommender.recommend(part["case"].to_list(), k=K).frame
    lists = dict(found.group_by("user_id").agg("item_id").iter_rows())
    return [lists[case] for case in part["case"].to_list()]


def without(bench: Bench) -> list[Row]:
    """Withheld items as targets, beside content kNN and SASRec (over the whole catalogue, and in the places that genrec
    gives to withheld items), and the last items of the users: with the withheld items in training and without, and
    after histories that hold withheld ones. `gain`: of genrec over the best kNN in its places, paired."""
    runs = dict(LINES[bench.name].runs(bench))
    rows: dict[str, Metrics] = {}
    seconds = 0.0
    for data in COLD:
        found = recorded(bench, data, runs[f"{data}-cold"], partial(cold_items, bench, data, runs))
        seconds += found["seconds"]
        for name, figures in found["rows"].items():
            rows.setdefault(name, {}).update({f"{data}/{figure}": value for figure, value in figures.items()})
    return [Row(name, own, seconds=seconds if name == "genrec" else None) for name, own in rows.items()]


def cold_items(bench: Bench, data: str, runs: Mapping[str, Options]) -> dict[str, Any]:
    """What is measured of one data set: figures by row, and the seconds of training."""
    folders = {kind: finetune(bench, f"{data}-{kind}", runs[f"{data}-{kind}"]) for kind in ("cold", "all")}
    folder, files = folders["cold"], bench.files / data
    rows: dict[str, Metrics] = {"genrec": {}}
    for kind, name in (("cold", "other items"), ("all", "other items, nothing withheld")):
        rows[name] = {"hr@10": metrics_of(evaluate(bench, f"{data}-{kind}"))["next_item/seen_removed/hr@10"]}
    cases = pl.read_parquet(files / "cases.parquet")
    wanted, users = cases["item_id"].to_list(), cases["user_id"].to_list()
    lists = answered(folder, cases, top_ten)["answer"].to_list()
    rows["genrec"]["hr@10"] = listed(lists, wanted, users)["hr@10"]
    rows["genrec"] |= beside_cold(folder, files / "interactions.parquet", cases, lists, rows)
    cold = {*pl.read_parquet(files / "items.parquet")["item_id"]}
    items = len(cold)
    cold -= {*pl.read_parquet(files / "interactions.parquet")["item_id"]}
    after = pl.read_parquet(files / "after.parquet")
    plain = after.with_columns(
        history=pl.Series([[i for i in h if i not in cold] for h in after["history"].to_list()])
    ).with_columns(events=pl.col("history").list.eval(pl.lit("interaction")))
    for name, asked_cases, row in (
        ("after", after, "other items after withheld ones"),
        ("plain", plain, "the same, withheld ones left out of the history"),
    ):
        found = answered(folder, asked_cases, top_ten, name)["answer"].to_list()
        rows[row] = {"hr@10": listed(found, after["item_id"].to_list(), after["user_id"].to_list())["hr@10"]}
    rows["random"] = {"hr@10": {"value": K / items, "low": None, "high": None}}
    before, now = (rows[n]["hr@10"]["value"] for n in ("other items, nothing withheld", "other items"))
    if before is not None and now is not None:
        rows["genrec"]["cost"] = {"value": now / before - 1, "low": None, "high": None}
    return {"seconds": sum(seconds_of(bench, f"{data}-{kind}") for kind in folders), "rows": rows}


def beside_cold(
    run: Path, train: Path, cases: pl.DataFrame, lists: list[list[str]], rows: dict[str, Metrics]
) -> Metrics:
    """Content kNN and SASRec on the vectors of a run's texts, into `rows`: over the whole catalogue, and in the places
    of withheld items in the run's lists; returns the paired gain of genrec over the best kNN of the latter."""
    recommender = Recommender.load(run)
    view = recommender.views.with_catalogue(None)
    catalogue = recommender.adapter.model.rows_of(view.name)
    text, is_cold, index = catalogue.white.cpu().numpy(), ~catalogue.warm.cpu().numpy(), view.catalogue.index
    histories = [np.asarray([index[i] for i in h]) for h in cases["history"].to_list()]
    targets = np.asarray([index[i] for i in cases["item_id"].to_list()])
    places = np.asarray([sum(is_cold[index[i]] for i in own) for own in lists])
    hits = np.asarray([item in own for item, own in zip(cases["item_id"].to_list(), lists, strict=True)], dtype=float)
    ranks = {
        f"content kNN, {name}": rules.cold_ranks(rules.nearest(text, last), histories, targets, is_cold)
        for name, last in KNN.items()
    }
    path = run / "sasrec.parquet"
    if not path.is_file():
        model = sasrec.trained(text, *sasrec_data(pl.read_parquet(train), index))
        found = rules.cold_ranks(partial(sasrec.scores_of, model), histories, targets, is_cold)
        converters.write(pl.DataFrame(dict(zip(("whole", "among"), found, strict=True))), path)
    of_sasrec = pl.read_parquet(path)
    ranks["SASRec, content start"] = of_sasrec["whole"].to_numpy(), of_sasrec["among"].to_numpy()
    users, of_knn = cases["user_id"].to_list(), []
    for name, (whole, among) in ranks.items():
        for title, hit in ((name, whole <= K), (f"{name}, in genrec's places", among <= places)):
            rows[title] = intervals(mean_intervals({"hr@10": hit.astype(float)}, users))
        if name.startswith("content"):
            of_knn.append((among <= places).astype(float))
    gain = hits - max(of_knn, key=lambda found: float(found.mean()))
    return intervals(mean_intervals({"gain": gain}, users))


def sasrec_data(
    interactions: pl.DataFrame, index: Mapping[str, int]
) -> tuple[list[np.ndarray], list[tuple[np.ndarray, int]]]:
    """Histories of the training part, and those before each user's validation item with this."""
    train, valid = [], []
    for _, own in interactions.group_by("user_id", maintain_order=True):
        items, parts = np.asarray([index[i] for i in own["item_id"].to_list()]), own["part"].to_list()
        history = items[[part == "train" for part in parts]]
        train.append(history)
        valid += [(history, int(i)) for i, part in zip(items, parts, strict=True) if part == "valid" and len(history)]
    return train, valid


def cold_and_all(bench: Bench) -> Runs:
    """Per seed a run without the clicks on what is asked about, and one with them."""
    kinds = {"cold": "cold", "all": "all"}
    return [
        (f"{n}-{kind}", {**data_options(bench, file), "seed": n})
        for n in range(bench.settings["runs"])
        for kind, file in kinds.items()
    ]


def clicked(bench: Bench) -> list[Row]:
    """Clicks against what was shown with them, beside rules without training on the same texts. `gain/user_auc`: of
    genrec over the rule with the best AUC, paired."""
    found: dict[str, list[Metrics]] = {"cold": [], "all": []}
    measured, values, rule_values = [], [], dict[str, dict[str, np.ndarray]]()
    seconds = dict.fromkeys(found, 0.0)
    for run, options in LINES[bench.name].runs(bench):
        kind = run.rpartition("-")[2]
        folder = finetune(bench, run, options)
        seconds[kind] += seconds_of(bench, run)
        result = evaluate(bench, run)
        cases = read_cases(cases_file(folder, "test")).filter(task="click", phrasing="served")
        label, users = cases["answer"].to_numpy() == 1, cases["about"].to_list()
        own, names = rules.of_impressions(cases["probabilities"].list.get(1).to_numpy(), label, users)
        found[kind].append(intervals(mean_intervals(own, names)))
        if kind == "cold":
            measured.append(result)
            values.append(own)
            if not rule_values:
                scores = history_rules(folder, pl.read_parquet(options["interactions"]), cases)
                rule_values = {rule: rules.of_impressions(s, label, users)[0] for rule, s in scores.items()}
    best = max(rule_values, key=lambda rule: float(rule_values[rule]["click/user_auc"].mean()))
    over = {r: intervals(mean_intervals(differences(values, own), names)) for r, own in rule_values.items()}
    cold, warm = (pooled(kind, found[kind], seconds[kind]) for kind in found)
    parts, over_parts = (
        {p: pooled(p, [by_part(m, key)[p] for m in measured]).metrics for p in by_part(measured[0], key)}
        for key in ("metrics", "difference")
    )
    more = {"gain/user_auc": over[best]["click/user_auc"]}
    return [
        replace(cold, name="genrec", metrics=cold.metrics | more, parts=parts, over=over_parts | over),
        replace(warm, name="genrec, clicks on the same news in training"),
        *(Row(rule, intervals(mean_intervals(own, names))) for rule, own in rule_values.items()),
    ]


def differences(ours: Sequence[Mapping[str, np.ndarray]], theirs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the mean of our runs has over theirs, by metric and case."""
    return {metric: values - theirs[metric] for metric, values in averages(ours).items()}


def history_rules(run: Path, impressions: pl.DataFrame, cases: pl.DataFrame) -> dict[str, np.ndarray]:
    """What `rules.of_histories` says of the cases of a run, by its own texts."""
    loaded = load_run(run)
    (corpus,) = loaded.corpora
    items, rows = corpus.dataset.items, loaded.scorer.model.rows_of(corpus.dataset.name)
    index = {item: n for n, item in enumerate(items["item_id"])}
    of_row = dict(corpus.dataset.interactions.select("row", "item_id").iter_rows())
    text = torch.nn.functional.normalize(rows.text, dim=1).cpu().numpy()
    past = {u: [index[i] for i in own] for u, own in impressions.select("user_id", "history").iter_rows()}
    asked = [(u, index[of_row[int(c.removeprefix("row "))]]) for u, c in cases.select("about", "case").iter_rows()]
    return rules.of_histories(items, text, past, asked)


LOWER = ("mse", *(name for name, metric in METRICS.items() if metric.lower))  # the less, the better


def compared(bench: Bench) -> list[Row]:
    """One adapter for all tasks against one per task: `change METRIC` is the mean gain over the seeds in shares of the
    single ones' value, with a paired interval."""
    tasks = bench.settings["finetune"]["task"]
    found: dict[str, list[Metrics]] = {kind: [] for kind in ("joint", *tasks)}
    cases: dict[str, list[pl.DataFrame]] = {kind: [] for kind in found}
    seconds = dict.fromkeys(found, 0.0)
    values: dict[str, tuple[float, ...]] = {}
    for run, options in LINES[bench.name].runs(bench):
        kind = only(options["task"]) if "task" in options else "joint"
        folder = finetune(bench, run, options)
        measured = evaluate(bench, run)
        found[kind].append(metrics_of(measured))
        cases[kind].append(read_cases(cases_file(folder, "test")))
        seconds[kind] += seconds_of(bench, run)
        values |= {task: tuple(own["values"]) for task, own in measured["answers"].items()}
    changes: Metrics = {}
    for task in tasks:
        both = [[own.filter(task=task) for own in cases[kind]] for kind in (task, "joint")]
        changes |= {f"change {task}/{m}": own for m, own in gains(*both, values[task]).items()}
    joint = pooled("genrec", found["joint"], seconds["joint"])
    alone = [dict(ChainMap(*of_seed)) for of_seed in zip(*(found[t] for t in tasks), strict=True)]
    return [
        Row(joint.name, joint.metrics | changes, joint.values, joint.seconds),
        pooled("one adapter per task", alone, sum(seconds[t] for t in tasks)),
    ]


def gains(single: Sequence[pl.DataFrame], joint: Sequence[pl.DataFrame], values: tuple[float, ...]) -> Metrics:
    """Means of a task's metrics over the joint runs less those over the single ones, in shares of the latter and above
    0 where the joint ones are better; the intervals draw users, the same of every run.

    single, joint: the cases of each run, the same cases in the same order. values: of the task's answers.
    """
    about = single[0]["about"].to_list()
    if any(own["about"].to_list() != about for own in (*single, *joint)):
        raise RunError("the runs of the line were not asked the same")
    if single[0]["probabilities"].null_count():
        before, after = (averages([rank_values(*ranks_of(own)) for own in runs]) for runs in (single, joint))
        base = {m: float(v.mean()) for m, v in before.items()}
        found = mean_intervals({m: after[m] - before[m] for m in before}, about)
    else:
        old, new = ([measure_of(answers_of(own), values, None) for own in runs] for runs in (single, joint))
        base = averages([measure(np.ones(len(about))) for measure in old])

        def difference(factor: np.ndarray) -> dict[str, float]:
            before, after = (averages([measure(factor) for measure in measures]) for measures in (old, new))
            return {m: after[m] - before[m] for m in before}

        found = metric_intervals(difference, about)
    shares = {m: [end / base[m] if base[m] else float("nan") for end in own] for m, own in found.items()}
    return intervals({m: (-v, -high, -low) if m in LOWER else (v, low, high) for m, (v, low, high) in shares.items()})


def averages(every: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean of each entry, numbers or arrays, of mappings with the same keys."""
    return {name: sum(own[name] for own in every) / len(every) for name in every[0]}


# --- the table ----------------------------------------------------------------------------------------------------

LINES: dict[str, Line] = {
    "ml-100k": Line(None, by_seed, evaluated),
    "beauty": Line(converters.beauty, by_seed, evaluated),
    "sports": Line(converters.sports, by_seed, evaluated),
    "ml-latest-small": Line(converters.ml_latest, by_seed, evaluated),
    "ml-100k-rating": Line(converters.ml_100k_rating, by_file("u[1-5]"), evaluated),
    "collm": Line(converters.collm, by_seed, asked("click", means_rule)),
    "clothing": Line(None, by_seed, evaluated),
    "amazon2023": Line(converters.amazon2023, by_file("fold-*"), evaluated),
    "online-retail": Line(converters.online_retail, by_seed, evaluated),
    "ml-1m": Line(converters.ml_1m, by_seed, evaluated),
    "tmall": Line(converters.tmall, by_seed, bought),
    "tallrec": Line(converters.tallrec, by_file("draw-*"), asked("like", liked_rule)),
    "joint": Line(None, joint_and_single, compared),
    "mind-sample": Line(converters.mind_sample, cold_and_all, clicked),
    "cold": Line(converters.cold, with_and_without, without),
}
