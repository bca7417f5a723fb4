"""Runs and adapters that are damaged or come from a stranger: one line that names the file, never a traceback, a crash,
an endless load, a file read outside, or code that runs."""

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from conftest import toy_command
from safetensors.torch import load_file, save_file

from genrec.cli import main
from genrec.errors import GenrecError, RunError
from genrec.model.backbone import load_backbone
from genrec.recommender import Recommender
from genrec.run.manifest import file_hash, read_manifest

List = list[tuple[Any, ...]]
LONG = 120  # seconds in which a load that is not endless ends on any machine
OTHER: list[Any] = [
    None,
    True,
    -1,
    10**30,
    1.5,
    "x",
    "../../x",
    [],
    [1],
    {},
    {"a": [1]},
]  # JSON values to put in places
TEXTS = ("config.yaml", "adapter/genrec.json", "adapter/adapter_config.json", "adapter/tasks/rating.yaml")
BINARIES = (
    *("store.db", "adapter/item_rows.safetensors", "adapter/adapter_model.safetensors"),
    *("adapter/catalogue.parquet",),
)


@pytest.fixture
def run(toy_run: Path, tmp_path: Path) -> Path:
    """A copy of the toy run to spoil."""
    shutil.copytree(toy_run, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def good(toy_run: Path) -> List:
    return ranked(toy_run)


def ranked(run: Path) -> List:
    """The list and the answer that a run gives a user."""
    recommender = Recommender.load(run)
    frame = recommender.recommend("u001", k=5).frame.select("item_id", "title", "score")
    return [*frame.rows(), *recommender.predict("rating", users="u001", items="003").frame.select("text").rows()]


def refused(run: Path, *said: str, load: Callable[[Path], object] = ranked) -> str:
    """The one line that loading ends in, which holds every text."""
    with pytest.raises(GenrecError) as failed:
        load(run)
    line = str(failed.value)
    assert "\n" not in line and len(line) < 2_000, line
    for text in said:
        assert text in line, line
    return line


def spoiled(run: Path, good: List) -> None:
    """Loading ends in one line, or all is as it was."""
    try:
        found = ranked(run)
    except GenrecError as error:
        assert "\n" not in str(error)
        return
    assert found == good


def rehash(run: Path) -> None:
    """A manifest whose hashes are those of the files, as a stranger would write it."""
    path = run / "adapter" / "genrec.json"
    value = json.loads(path.read_text())
    value["files"] = {name: file_hash(run / "adapter" / name) for name in value["files"]}
    path.write_text(json.dumps(value))


def manifest(run: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change genrec.json."""
    path = run / "adapter" / "genrec.json"
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def tensors(run: Path, name: str, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change the tensors of a file, and its hash."""
    path = run / "adapter" / name
    state = load_file(path)
    change(state)
    save_file({k: v.contiguous() for k, v in state.items()}, path)
    rehash(run)


def apart(code: str, paths: Iterable[Path]) -> list[str]:
    """What a process of its own says of loading each path in turn; it may not crash, go on for ever, or need memory."""
    whole = f"""
import sys
from genrec.errors import GenrecError
from genrec.model.backbone import load_backbone, load_encoder, load_language
from genrec.recommender import Recommender
from genrec.run.config import read_config
from pathlib import Path
for path in sys.argv[1:]:
    try:
        {code}
        print("loaded", flush=True)
    except GenrecError as error:
        print(error, flush=True)
(most,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
assert int(most) < 2 * 2**20, most  # KiB
"""
    arguments = [str(p) for p in paths]
    command = [sys.executable, "-c", whole, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(arguments), done.stdout
    return lines


def copies(source: Path, folder: Path, number: int) -> list[Path]:
    """So many copies of a folder."""
    return [Path(shutil.copytree(source, folder / f"copy{n}")) for n in range(number)]


LOAD = "Recommender.load(path)"


# --- any damage ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_cut_anywhere(name: str, run: Path, good: List) -> None:
    path = run / name
    whole = path.read_bytes()
    for cut in range(0, len(whole), max(1, len(whole) // 20)):
        path.write_bytes(whole[:cut])
        if name != "config.yaml" and not name.endswith("genrec.json"):
            rehash(run)
        spoiled(run, good)
    path.write_bytes(whole[: len(whole) // 2] + b"\xff\xfe" + whole[len(whole) // 2 :])
    refused(run, path.name)


@pytest.mark.parametrize("name", BINARIES)
@pytest.mark.parametrize("kind", ["zeros", "noise", "cut"])
def test_a_block_of_a_binary_file(name: str, kind: str, run: Path) -> None:
    path = run / name
    whole = path.read_bytes()
    size = max(64, len(whole) // 8)
    noise = random.Random(0).randbytes(len(whole))
    for at in (*range(0, len(whole), size), None):  # None: all of it
        lo, hi = (at, min(at + size, len(whole))) if at is not None else (0, len(whole))
        block = {"zeros": bytes(hi - lo), "noise": noise[lo:hi], "cut": b""}[kind]
        path.write_bytes(whole[:lo] + block + (whole[hi:] if kind != "cut" else b""))
        if name != "store.db":
            refused(run, path.name)  # the hash
            rehash(run)
        loads_or_refused(run)  # other numbers are other scores


def loads_or_refused(run: Path) -> None:
    """Loading ends in one line, or well."""
    try:
        ranked(run)
    except GenrecError as error:
        assert "\n" not in str(error)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value, of lists the first two."""
    yield at
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*at, key))
    elif isinstance(value, list):
        for n in range(min(2, len(value))):
            yield from places(value[n], (*at, n))


def put(value: Any, at: tuple[Any, ...], other: Any) -> Any:
    """The value with another one at a place."""
    if not at:
        return other
    copy = value.copy()
    copy[at[0]] = put(value[at[0]], at[1:], other)
    return copy


def test_other_values_anywhere_in_the_manifest(run: Path, good: List) -> None:
    path = run / "adapter" / "genrec.json"
    value = json.loads(path.read_text())
    loaded = 0
    for at in places(value):
        if at[:1] == ("metrics",) and len(at) == 2 and at[1] != "chain/rating/n":
            continue  # one of them stands for all
        for other in OTHER:
            path.write_text(json.dumps(put(value, at, other)))
            try:
                read_manifest(path.parent)
            except RunError as error:
                assert "\n" not in str(error) and "genrec.json" in str(error) or "format" in str(error)
                continue
            if at[0] in ("metrics", "fingerprints", "genrec", "calibration", "options"):
                continue  # what loading does not read, and other numbers where numbers are allowed
            (loads_or_refused(run) if at[0] == "header_columns" else spoiled(run, good))
            loaded += 1
    assert loaded < 60


def test_deep_and_long_values(run: Path) -> None:
    path = run / "adapter" / "genrec.json"
    text = path.read_text()
    for bad in ("[" * 10**5, '{"a":' * 10**5, text.replace("150", "9" * 10_000), '{"format": ' + "9" * 10_000 + "}"):
        path.write_text(bad)
        refused(run, "genrec.json")


# --- config.yaml --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        *(
            "- a\n- b\n",
            "text",
            "12",
            "model: [a]\n",
            "model: {a: b}\n",
            "model: 3\n",
            "? [a]\n: b\n",
            "a: 2020-99-99\n",
        ),
        *("model: !!python/object/apply:os.system ['touch ran']\n", "[" * 5_000, "\x00", "a: *b\n", "model: \t x"),
    ],
)
def test_config_yaml(text: str, run: Path) -> None:
    (run / "config.yaml").write_text(text)
    refused(run, "config.yaml")
    refused(run, "config.yaml", load=lambda r: finetune("--config", str(r / "config.yaml")))
    assert main(["evaluate", str(run)]) == 2
    assert main(["align", str(run)]) == 2
    assert main(["finetune", "--resume-from", str(run)]) == 2
    assert not Path("ran").exists()


def finetune(*arguments: str) -> None:
    from genrec.run.config import read_config

    read_config(Path(arguments[1]))


def test_a_model_that_no_file_can_have(run: Path) -> None:
    shutil.rmtree(run / "data", ignore_errors=True)  # it says where the model is
    for name in ("x" * 5_000, "~nosuchuser/x", "a\0b"):
        (run / "config.yaml").write_text(json.dumps({"model": name}))
        refused(run)  # 'tiny' is then looked for as a name
        refused(run, load=lambda _, name=name: load_backbone(name))


def test_aliases_that_stand_for_gigabytes(run: Path, tmp_path: Path) -> None:
    laughs = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    laughs += "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    merges = "a: &a {x: 1}\n"
    merges += "".join(
        f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 9)}]}}\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    runs = copies(run, tmp_path, 3)
    for copy, text in zip(runs, (laughs + "model: *i\n", merges, laughs + "epochs: *i\n"), strict=True):
        (copy / "config.yaml").write_text(text)
    for code in (LOAD, "read_config(Path(path) / 'config.yaml')"):
        assert all("config.yaml" in line and "aliases" in line for line in apart(code, runs))


# --- adapters whose files do not fit together ---------------------------------------------------------------------

ROWS, COUNTS, LORA = "item_rows.safetensors", "counts.safetensors", "adapter_model.safetensors"


def change(name: str, value: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict[str, torch.Tensor]], None]:
    def changed(state: dict[str, torch.Tensor]) -> None:
        state[name] = value(state[name])

    return changed


LAYER = "base_model.model.layers.0.mlp.up_proj.lora_A.weight"
MISFITS: list[tuple[str, str, Callable[[dict[str, torch.Tensor]], object], tuple[str, ...]]] = [
    ("items", ROWS, change("catalogues.0.text", lambda t: torch.cat([t, t])), ("catalogues.0.text has 24 rows", "12")),
    ("width", ROWS, change("catalogues.0.text", lambda t: t[:, :32]), ("catalogues.0.text has 32 columns", "64")),
    ("rank", ROWS, change("catalogues.0.up", lambda t: t[:32]), ("catalogues.0.up has 32 rows", "64")),
    ("outcomes", ROWS, change("outcome_rows", lambda t: t[:1]), ("outcome_rows has 1 rows", "2")),
    ("scales", ROWS, change("outcome_log_scale", lambda t: t[:1]), ("outcome_log_scale",)),
    ("variances", ROWS, change("log_variance", lambda t: torch.cat([t, t])), ("log_variance",)),
    ("missing", ROWS, lambda s: s.pop("catalogues.0.bias"), ("catalogues.0.bias", "missing")),
    ("unexpected", ROWS, lambda s: s.update(more=torch.zeros(1)), ("more", "not expected")),
    ("backbone", ROWS, lambda s: s.update({"backbone.embed_tokens.weight": torch.zeros(75, 64)}), ("not expected",)),
    ("another catalogue", ROWS, lambda s: s.update({"catalogues.1.text": torch.zeros(1, 64)}), ("not expected",)),
    (
        "dtype",
        ROWS,
        change("catalogues.0.residual", lambda t: t.half()),
        ("catalogues.0.residual is float16", "float32"),
    ),
    ("mask", ROWS, change("catalogues.0.warm", lambda t: t.float()), ("catalogues.0.warm is float32", "bool")),
    ("scalar", ROWS, change("catalogues.0.log_scale", lambda t: t[None]), ("log_scale is float32 of 1 dimensions",)),
    ("nan", ROWS, change("catalogues.0.bias", lambda t: t * float("nan")), ("catalogues.0.bias", "finite")),
    ("infinite", ROWS, change("outcome_bias", lambda t: t + float("inf")), ("outcome_bias", "finite")),
    ("links", COUNTS, change("catalogues.0.neighbours.kinds.0.first", lambda t: t * 1_000), ("kinds.0.", "items")),
    ("links back", COUNTS, change("catalogues.0.neighbours.kinds.0.first", lambda t: t.flip(0)), ("kinds.0.",)),
    ("links away", COUNTS, change("catalogues.0.effects.links.candidate", lambda t: t + 12), ("effects.links.",)),
    ("no links", COUNTS, lambda s: s.pop("catalogues.0.neighbours.kinds.2.first"), ("catalogues.0.neighbours",)),
    ("effects", COUNTS, change("catalogues.0.effects.value", lambda t: t[:1]), ("effects.value",)),
    ("factors", COUNTS, change("catalogues.0.effects.factors", lambda t: t[:4]), ("effects.factors has 4 rows", "12")),
    ("lora rank", LORA, change(LAYER, lambda t: t[:8]), (LAYER, "8 rows", "16")),
    ("lora width", LORA, change(LAYER, lambda t: t[:, :8]), (LAYER, "8 columns", "64")),
    ("a layer less", LORA, lambda s: s.pop(LAYER), (LAYER, "missing")),
    ("a layer more", LORA, lambda s: s.update({LAYER.replace("layers.0", "layers.7"): torch.zeros(1)}), ("layers.7",)),
    ("lora nan", LORA, change(LAYER, lambda t: t * float("nan")), (LAYER, "finite")),
    ("lora dtype", LORA, change(LAYER, lambda t: t.to(torch.int64)), (LAYER, "int64")),
]


@pytest.mark.parametrize(("name", "spoil", "said"), [m[1:] for m in MISFITS], ids=[m[0] for m in MISFITS])
def test_tensors_that_do_not_fit(
    name: str, spoil: Callable[[dict[str, torch.Tensor]], object], said: tuple[str, ...], run: Path
) -> None:
    tensors(run, name, spoil)
    refused(run, name, *said)


def test_a_safetensors_header(run: Path) -> None:
    path = run / "adapter" / ROWS
    whole = path.read_bytes()
    header = {"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    for head in (text, b"[]", b"{", json.dumps({"a": {"dtype": "X9", "shape": [], "data_offsets": [0, 0]}}).encode()):
        path.write_bytes(len(head).to_bytes(8, "little") + head + b"\0" * 4)
        rehash(run)
        refused(run, ROWS, "damaged")
    path.write_bytes(b"\xff" * 8 + whole[8:])
    rehash(run)
    refused(run, ROWS, "damaged")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("r", 8), ("r", 0), ("r", "16"), ("r", 10**30), ("r", None), ("lora_alpha", 0), ("lora_alpha", 1.5)),
        *(("lora_alpha", True), ("peft_type", "IA3"), ("peft_type", 5), ("use_dora", True), ("use_rslora", True)),
        *(
            ("megatron_core", "evil_module"),
            ("megatron_config", {"a": 1}),
            ("bias", "all"),
            ("init_lora_weights", "eva"),
        ),
        *(("modules_to_save", ["lm_head"]), ("layer_replication", [[0, 2]]), ("rank_pattern", {"q_proj": 2})),
        *(("trainable_token_indices", [1]), ("target_parameters", ["x"]), ("runtime_config", {"a": 1}), ("use_new", 1)),
    ],
)
def test_an_adapter_config_that_asks_for_more(key: str, value: Any, run: Path) -> None:
    path = run / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    rehash(run)
    refused(run, ".lora_A.weight" if (key, value) == ("r", 8) else "adapter_config.json")


def test_modules_that_a_file_names_are_never_imported(run: Path, tmp_path: Path, good: List) -> None:
    evil = tmp_path / "evil"
    evil.mkdir()
    (evil / "evil_module.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    path = run / "adapter" / "adapter_config.json"
    mapping = {"base_model_class": "LlamaModel", "parent_library": "evil_module"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_mapping": mapping, "target_modules": "evil"}))
    rehash(run)
    sys.path.insert(0, str(evil))
    try:
        assert ranked(run) == good
        path.write_text(
            json.dumps(json.loads(path.read_text()) | {"megatron_core": "evil_module", "megatron_config": {}})
        )
        rehash(run)
        refused(run, "adapter_config.json", "megatron_core")
    finally:
        sys.path.remove(str(evil))
    assert not (tmp_path / "ran").exists() and "evil_module" not in sys.modules


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda m: m["files"].update({"../../secret": "0" * 64}), ("genrec.json", "../../secret")),
        (lambda m: m["files"].update({"/etc/hostname": "0" * 64}), ("genrec.json", "/etc/hostname")),
        (lambda m: m["files"].update({"x" * 5_000: "0" * 64}), ("genrec.json", "xxx")),
        (lambda m: m["files"].update({"a\0b": "0" * 64}), ("genrec.json", "x00b")),
        (lambda m: m["files"].update({"a\nb": "0" * 64}), ("genrec.json",)),
        (lambda m: m["files"].update({"more": "0" * 64}), ("more is missing",)),
        (lambda m: m["files"].pop("item_rows.safetensors"), ("genrec.json", "item_rows.safetensors")),
        (lambda m: m["files"].pop("tasks/rating.yaml"), ("genrec.json", "rating")),
        (lambda m: m["vocabulary"].update(n_words=74), ("genrec.json", "74 words", "75")),
        (lambda m: m["vocabulary"].update(n_words=10**6), ("genrec.json", "1,000,000 words", "75")),
        (lambda m: m["vocabulary"].update(n_words=2**31), ("genrec.json", "n_words")),
        (lambda m: m["vocabulary"]["groups"][1].update(size=13), ("catalogue.parquet", "12 rows", "13")),
        (lambda m: m["vocabulary"]["groups"][0].update(size=3), ("genrec.json", "'rating' of 'chain'")),
        (lambda m: m["vocabulary"]["groups"].append(m["vocabulary"]["groups"][0]), ("genrec.json", "twice")),
        (lambda m: m["vocabulary"]["groups"][0].update(dataset="other"), ("genrec.json", "other")),
        (lambda m: m["tasks"]["chain"]["rating"].update(words=["1", "2"]), ("genrec.json", "rating")),
        (lambda m: m["tasks"]["chain"].update({"../../x": {"words": [], "values": []}}), ("genrec.json", "../../x")),
        (lambda m: m["calibration"]["chain/rating"].update(bias=[1.0]), ("genrec.json", "calibration", "rating")),
        (
            lambda m: m["calibration"]["chain/rating"].update(
                features=[1.0], tilt=[0.0] * len(m["tasks"]["chain"]["rating"]["words"])
            ),
            ("genrec.json", "rating", "weights of 1 feature; allowed: 0 or "),
        ),
        (lambda m: m["attributes"].update(chain=["colour"] * 9), ("genrec.json", "attributes")),
        (lambda m: m["calibration"]["chain/rating"].update(temperature=0.0), ("genrec.json", "temperature")),
        (lambda m: m["calibration"]["chain/rating"].update(temperature=float("nan")), ("genrec.json", "temperature")),
        (lambda m: m.update(max_events=10**6), ("genrec.json", "max_events", "1,000,000")),
        (lambda m: m["options"].update(quantize="nf5"), ("genrec.json", "quantize", "nf5")),
        (lambda m: m["backbone"].update(model="/etc"), ("genrec.json", "/etc")),
        (lambda m: m["backbone"].update(model="../x"), ("genrec.json", "../x")),
        (lambda m: m["backbone"].update(model="a/b", kind="hub", revision="../../x"), ("genrec.json", "../../x")),
        (lambda m: m["backbone"].update(blocks=10**9), ("1000000000", "2 blocks")),
        (lambda m: m.update(format=3), ("format 3", "train it anew")),
    ],
)
def test_manifests(spoil: Callable[[dict[str, Any]], object], said: tuple[str, ...], run: Path) -> None:
    manifest(run, spoil)
    refused(run, *said)


def test_files_outside_are_not_read(run: Path, tmp_path: Path) -> None:
    path = run / "adapter" / "README.md"
    (tmp_path / "secret").write_text("secret")
    path.unlink()
    path.symlink_to(tmp_path / "secret")
    rehash(run)
    refused(run, "README.md", "link")


def test_a_task_that_is_not_listed(run: Path) -> None:
    shutil.copy(run / "adapter/tasks/rating.yaml", run / "adapter/tasks/more.yaml")
    refused(run, "more.yaml", "genrec.json")
    (run / "adapter/tasks/more.yaml").unlink()
    shutil.copy(run / "adapter/tasks/next_item.yaml", run / "adapter/tasks/rating.yaml")
    rehash(run)
    refused(run, "rating.yaml", "next_item")


def test_what_resumes_or_aligns_reads_the_same_checks(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors(run, ROWS, change("catalogues.0.text", lambda t: t[:, :32]))
    assert main(["align", str(run)]) == 2
    assert "catalogues.0.text has 32 columns" in capsys.readouterr().err
    (run / "adapter" / ROWS).write_bytes(b"")
    assert main(["finetune", "--resume-from", str(run)]) == 2
    assert ROWS in capsys.readouterr().err


# --- catalogues ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: f.head(11), ("11 rows", "12")),
        (lambda f: f.with_columns(pl.lit("other").alias("dataset")), ("'chain'", "12 items")),
        (lambda f: f.with_columns(pl.lit("same").alias("item_id")), ("1 item ids",)),
        (lambda f: f.drop("title"), ("'title'", "missing")),
        (lambda f: f.drop("train_count"), ("'train_count'", "missing")),
        (lambda f: f.with_columns(pl.lit(1).alias("item_id")), ("'item_id'", "Int")),
        (lambda f: f.with_columns(pl.struct("item_id").alias("more")), ("'more'", "Struct")),
        (lambda f: f.with_columns(pl.lit(b"x").alias("more")), ("'more'", "Binary")),
        (lambda f: f.with_columns(pl.col("title").cast(pl.Categorical)), ("'title'", "Categorical")),
    ],
)
def test_catalogues(spoil: Callable[[pl.DataFrame], pl.DataFrame], said: tuple[str, ...], run: Path) -> None:
    path = run / "adapter" / "catalogue.parquet"
    spoil(pl.read_parquet(path)).write_parquet(path)
    rehash(run)
    refused(run, "catalogue.parquet", *said)


def test_a_small_catalogue_that_unfolds(run: Path, tmp_path: Path) -> None:
    whole = pl.read_parquet(run / "adapter" / "catalogue.parquet")
    bombs = [
        pl.concat([whole] * 100_000),
        whole.with_columns(pl.lit("x" * 100_000_000).alias("more")),
        whole.with_columns(pl.lit(pl.Series([["x"] * 1_000_000])).first().alias("more")),
        whole.with_columns(pl.lit(pl.Series([["x" * 50_000] * 500])).first().alias("more")),
    ]
    runs = copies(run, tmp_path, len(bombs))
    for copy, frame in zip(runs, bombs, strict=True):
        path = copy / "adapter" / "catalogue.parquet"
        frame.write_parquet(path, compression="zstd")
        assert path.stat().st_size < 10_000_000
        rehash(copy)
    assert all("catalogue.parquet" in line for line in apart(LOAD, runs))


# --- store.db -----------------------------------------------------------------------------------------------------


def store(run: Path, *statements: str) -> None:
    connection = sqlite3.connect(run / "store.db")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


ENDLESS = "with recursive c(x) as (select 1 union all select x + 1 from c) select x as schema_version, '[]' as datasets"


STORES = [
    ("alter table events drop column basket",),
    ("alter table users drop column attributes",),
    ("drop table events",),
    ("drop table meta",),
    ("update meta set schema_version = 'x'",),
    ("update meta set schema_version = -5",),
    ("update meta set schema_version = 0",),
    ("delete from meta",),
    ("insert into meta select * from meta",),
    ("update meta set datasets = '5'",),
    ("update meta set datasets = 'no json'",),
    ("update meta set datasets = '[1]'",),
    ("update meta set datasets = x'00ff'",),
    ("alter table meta rename to old", f"create view meta as {ENDLESS} from c"),
    ("create trigger t after insert on events begin delete from users; end",),
    ("create table events_more (x)", "create view v as select 1"),
]


def test_stores_of_others(toy_run: Path, tmp_path: Path) -> None:
    runs = copies(toy_run, tmp_path, len(STORES))
    for copy, statements in zip(runs, STORES, strict=True):
        store(copy, *statements)
    for line, statements in zip(apart(LOAD, runs), STORES, strict=True):
        assert "store.db" in line, (statements, line)


def test_values_in_a_store_that_cannot_be_read(run: Path) -> None:
    whole = (run / "store.db").read_bytes()
    for change in (
        *("users set attributes = '{'", "events set item_id = 'no such'", "events set event = cast(x'ff' as text)"),
        "events set rating = 1e300",
    ):
        (run / "store.db").write_bytes(whole)
        store(run, f"update {change}")
        loads_or_refused(run)


def test_another_sqlite_file(run: Path) -> None:
    (run / "store.db").unlink()
    store(run, "create table t (x)")
    refused(run, "store.db", "not a user store")
    (run / "store.db").write_bytes(b"")
    refused(run, "store.db", "not a user store")


# --- results, cases, logs -----------------------------------------------------------------------------------------


@pytest.fixture
def evaluated(evaluated_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(evaluated_run, tmp_path / "evaluated")
    return tmp_path / "evaluated"


def said(capsys: pytest.CaptureFixture[str], *command: str) -> str | None:
    """The line that a command ends in, None where it ends well."""
    capsys.readouterr()
    status = main(list(command))
    lines = capsys.readouterr().err.strip().splitlines()
    assert status in (0, 2) and "Traceback" not in "".join(lines)
    return lines[-1] if status else None


@pytest.mark.parametrize(
    "name", ["results.json", "metrics.jsonl", "cases.parquet", "config.yaml", "adapter/genrec.json"]
)
def test_files_of_an_evaluated_run(
    name: str, evaluated: Path, evaluated_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = evaluated / name
    whole = path.read_bytes()
    command = ["report", str(evaluated)]
    if name == "cases.parquet":
        command = ["compare", str(evaluated_run), str(evaluated)]
    for text in (
        *(whole[: len(whole) * n // 7] for n in range(7)),
        *(b"\xff" + whole, b"[]", b"5", b'"x"', b"[" * 10**5, bytes(len(whole)), b'{"step": "x"}\n', b"{}\n"),
    ):
        path.write_bytes(text)
        line = said(capsys, *command)
        assert line is None or path.name in line, line
        if text and not text.startswith(whole[:3]) and name != "config.yaml":
            assert line is not None


def test_other_values_in_results(evaluated: Path, evaluated_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = evaluated / "results.json"
    value = json.loads(path.read_text())
    rng = random.Random(0)
    every = [p for p in places(value) if p]
    for at in rng.sample(every, 30):
        path.write_text(json.dumps(put(value, at, rng.choice(OTHER))))
        for command in (["report", str(evaluated)], ["compare", str(evaluated_run), str(evaluated)]):
            line = said(capsys, *command)
            assert line is None or "results.json" in line or "cases.parquet" in line or "evaluated" in line, (at, line)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda c: c.with_columns(pl.lit(None, pl.String).alias("about")),
        lambda c: c.with_columns(pl.lit("other").alias("task")),
        lambda c: c.with_columns(pl.lit(None, pl.List(pl.Float64)).alias("probabilities")),
        lambda c: c.with_columns(pl.lit(None, pl.List(pl.Int32)).alias("ranks_kept")),
        lambda c: c.with_columns(pl.lit(pl.Series([[0.5]])).first().alias("probabilities")),
        lambda c: c.with_columns((pl.col("answer") + 7).alias("answer")),
        lambda c: c.with_columns(pl.lit(pl.Series([[float("nan"), 1.0]])).first().alias("probabilities")),
    ],
)
def test_cases_that_do_not_fit(
    spoil: Callable[[pl.DataFrame], pl.DataFrame],
    evaluated: Path,
    evaluated_run: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = evaluated / "cases.parquet"
    spoil(pl.read_parquet(path)).write_parquet(path)
    line = said(capsys, "compare", str(evaluated_run), str(evaluated))
    assert line and "cases.parquet" in line


def test_a_damaged_log_before_evaluation(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "metrics.jsonl").write_text('{"step": 1}\n{"step"')
    line = said(capsys, "evaluate", str(run))
    assert line and "metrics.jsonl cannot be read: line 2" in line


def test_a_damaged_align_json(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run.with_name("aligned")
    for text in ("", "{", "[]", "{}", '{"run": 5, "manifest": "x", "options": {}}'):
        out.mkdir(exist_ok=True)
        (out / "align.json").write_text(text)
        line = said(capsys, "align", str(run), "--out", str(out))
        assert line and "align.json" in line


def test_damaged_checkpoints(
    toy_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training that was stopped before its end, whose files were spoiled since."""
    out = tmp_path / "stopped"
    command = toy_command(toy_files, out)
    code = (
        "import sys, genrec.training.finetune as f, os\n"
        "f.finish = lambda *_: os._exit(9)\n"  # as a kill after the last step
        "from genrec.cli import main; main(sys.argv[1:])"
    )
    command = [*command, "--epochs", "1"]
    folder = str(Path(__file__).parent)
    assert subprocess.run([sys.executable, "-c", code, *command], cwd=folder, capture_output=True).returncode == 9
    (checkpoint,) = (out / "checkpoints").glob("checkpoint-*")
    assert main(["recommend", str(out), "--user", "u001"]) == 2
    plan = out / "checkpoints" / "plan.json"
    files = [plan, *(checkpoint / n for n in ("trainer_state.json", "averaged.safetensors"))]
    for path in files:
        whole = path.read_bytes()
        for text in (b"", whole[: len(whole) // 2], b"[]", b"\xff" * 100):
            path.write_bytes(text)
            line = said(capsys, *command)
            assert line and path.name in line
        path.write_bytes(whole)
    plan.write_text(json.dumps(json.loads(plan.read_text()) | {"steps": 10**12}))
    line = said(capsys, *command)
    assert line and "plan.json" in line


# --- model folders ------------------------------------------------------------------------------------------------


@pytest.fixture
def model(toy_files: Path, tmp_path: Path) -> Path:
    """A copy of the tiny backbone to spoil."""
    shutil.copytree(toy_files / "tiny", tmp_path / "tiny")
    return tmp_path / "tiny"


def settings(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_code_in_a_model_folder_never_runs(model: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    (model / "own.py").write_text(f"open({str(ran)!r}, 'w')\nclass Own: pass\n")
    own = {"AutoConfig": "own.Own", "AutoModel": "own.Own", "AutoModelForCausalLM": "own.Own"}
    settings(model / "config.json", auto_map=own)
    known, tokenizer, named, unknown = copies(model, tmp_path, 4)
    settings(tokenizer / "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Own", "own.Own"]})
    settings(named / "tokenizer_config.json", tokenizer_class="Own")
    settings(unknown / "config.json", model_type="own")
    for load in ("load_backbone(path)", "load_language(path)"):
        lines = apart(load, (known, tokenizer, named, unknown))
        assert lines[0] == "loaded"  # by the class of its model_type that transformers has
        assert all(line == "loaded" or "tokenizer" in line for line in lines[1:3])
        assert "config.json" in lines[3] and "code" in lines[3]
    assert not ran.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt"])
def test_pickles_are_not_read(name: str, model: Path) -> None:
    torch.save(load_file(model / "model.safetensors"), model / name)
    (model / "model.safetensors").unlink()
    refused(model, name, "pickle", "safetensors", load=lambda m: load_backbone(str(m)))


def test_an_index_that_leads_out_of_the_folder(model: Path, tmp_path: Path) -> None:
    shutil.move(model / "model.safetensors", tmp_path / "other.safetensors")
    index = model / "model.safetensors.index.json"
    for text in ('{"weight_map": {"a": "../other.safetensors"}}', '{"weight_map": {"a": "x.bin"}}', "[]", "{", ""):
        index.write_text(text)
        refused(model, index.name, load=lambda m: load_backbone(str(m)))


def test_an_adapter_of_peft_in_a_model_folder(model: Path) -> None:
    (model / "adapter_config.json").write_text('{"base_model_name_or_path": "/etc", "peft_type": "LORA"}')
    refused(model, "adapter_config.json", load=lambda m: load_backbone(str(m)))


CONFIGS: list[dict[str, Any]] = [
    {"num_hidden_layers": 10**9},
    {"num_hidden_layers": -1},
    {"num_hidden_layers": "x"},
    {"hidden_size": 10**6, "intermediate_size": 10**6},
    {"vocab_size": 10**9},
    {"vocab_size": 10**30},
    {"hidden_size": None},
    {"num_attention_heads": 0},
    {"model_type": 5},
    {"model_type": None},
    {"architectures": 5},
    {"rope_scaling": {"rope_type": "x"}},
    {"attn_implementation": "someone/kernel"},
    {"_attn_implementation": "someone/kernel"},
    {"quantization_config": {"quant_method": "gptq", "bits": 4}},
    {"quantization_config": 5},
    {"hidden_act": "nosuch"},
]


def test_configs_of_models(model: Path, tmp_path: Path) -> None:
    folders = copies(model, tmp_path, len(CONFIGS))
    for copy, values in zip(folders, CONFIGS, strict=True):
        settings(copy / "config.json", **values)
    for copy, values, line in zip(folders, CONFIGS, apart("load_backbone(path)", folders), strict=True):
        assert str(copy) in line, (values, line)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "config.json", "model.safetensors"])
def test_damaged_files_of_models(name: str, model: Path) -> None:
    path = model / name
    whole = path.read_bytes()
    for text in (
        *(whole[: len(whole) * n // 8] for n in range(8)),
        *(b"\xff" * 50, b"[]", b"5", b"null", b"{}", b"[" * 10**5, b'{"version": 5}', b'{"added_tokens": 5}'),
    ):
        path.write_bytes(text)
        try:
            load_backbone(str(model))
        except GenrecError as error:
            assert "\n" not in str(error) and str(model) in str(error)
        else:
            assert name.startswith("tokenizer_config")
    path.unlink()
    try:
        load_backbone(str(model))
    except GenrecError as error:
        assert str(model) in str(error)


def test_a_damaged_gguf(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).bytes(2_000)
    texts = (b"", b"GGUF", b"GGUF\3\0\0\0" + b"\xff" * 16, b"GGUF\3\0\0\0" + noise, noise)
    paths = [tmp_path / f"{n}.gguf" for n in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_bytes(text)
    lines = apart("load_backbone(path)", paths)
    assert all(path.name in line for path, line in zip(paths, lines, strict=True)), lines


def test_commands_end_in_one_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors(run, ROWS, change("catalogues.0.text", lambda t: torch.cat([t, t])))
    for command in (
        ["recommend", str(run), "--user", "u001"],
        ["predict", str(run), "--task", "rating", "--user", "u001", "--item", "003"],
        ["evaluate", str(run)],
        ["serve", str(run), "--port", "0"],
        ["ask", "recommend for user u001", "--run", str(run)],
    ):
        line = said(capsys, *command)
        assert line and "item_rows.safetensors does not fit" in line and "24 rows" in line


# --- what is written ----------------------------------------------------------------------------------------------


def test_the_adapter_is_on_the_disk_before_checkpoints_go(
    toy_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[str, str]] = []
    fsync, replace, rmtree = os.fsync, os.replace, shutil.rmtree

    def synced(handle: int) -> None:
        done.append(("sync", os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    def replaced(source: Any, target: Any, **more: Any) -> None:
        done.append(("rename", str(target)))
        replace(source, target, **more)

    def removed(folder: Any, *more: Any, **options: Any) -> None:
        done.append(("remove", str(folder)))
        rmtree(folder, *more, **options)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    monkeypatch.setattr(shutil, "rmtree", removed)
    out = tmp_path / "run"
    assert main([*toy_command(toy_files, out), "--epochs", "1"]) == 0
    renamed, gone = done.index(("rename", str(out / "adapter"))), done.index(("remove", str(out / "checkpoints")))
    before, after = done[:renamed], done[renamed:gone]
    for path in [p.relative_to(out / "adapter") for p in (out / "adapter").rglob("*")]:
        assert ("sync", str(out / ".adapter.partial" / path)) in before, path
    assert ("sync", str(out / ".adapter.partial")) in before and ("sync", str(out)) in after
    assert ("sync", str(out / ".config.yaml.partial")) in before
    checkpoint = max(p for kind, p in done if kind == "rename" and "checkpoint-" in p)
    partial = str(out / "checkpoints" / ".partial" / Path(checkpoint).name / "model.safetensors")
    assert done.index(("sync", partial)) < done.index(("rename", checkpoint))


@pytest.mark.parametrize(
    "statement",
    ["update events set rating = 'much'", "update events set item_id = x'00ff'", "update users set attributes = '[1]'"],
)
def test_values_of_other_types_in_a_store_are_one_line(toy_run: Path, tmp_path: Path, statement: str) -> None:
    copy = tmp_path / "run"
    shutil.copytree(toy_run, copy)
    with sqlite3.connect(copy / "store.db") as raw:
        raw.execute(statement)
    raw.close()
    with pytest.raises(RunError, match="store is damaged"):
        Recommender.load(copy).recommend("u001")
