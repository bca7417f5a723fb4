"""Parts of a split that a file names: the words that people use for them, and a validation part where there is none."""

from collections.abc import Mapping

import numpy as np
import polars as pl

from ..errors import DataError
from .events import squeezed

WORDS: Mapping[str, str] = {
    "train": "train training trn tr trainset trainingset traindata trainingdata fit learn learning 训练 训练集 訓練 "
    "学習 trainiert trainingsdaten entraînement entrainement apprentissage entrenamiento aprendizaje",
    "valid": "valid validation validate val vld dev devel development eval evaluation validset validationset devset "
    "tune tuning 验证 验证集 驗證 検証 開発 validierung validierungsdaten validación validacion",
    "test": "test testing tst te testset testdata testingset holdout heldout hold_out final 测试 测试集 測試 テスト "
    "testdaten prueba essai",
}
PART_OF = {squeezed(word): part for part, words in WORDS.items() for word in words.split()}
ALLOWED = "train (training, fit), valid (validation, val, dev, eval), test (testing, holdout), in any case"
TENTH = 10  # of the training rows of data without users one in so many validates if no part is named so


def understood(values: pl.Series) -> pl.Series:
    """The part (rows,) that each value names, null for one that names none."""
    names = values.cast(pl.String).unique().drop_nulls().to_list()
    return (
        values.cast(pl.String)
        .replace_strict({n: PART_OF.get(squeezed(n)) for n in names}, default=None, return_dtype=pl.String)
        .rename("part")
    )


def names_parts(values: pl.Series) -> bool:
    """Whether any value names a part."""
    return understood(values).count() > 0


def read_parts(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    """The interactions with `part` in our words; raises DataError for a value that names none."""
    parts = understood(frame["part"])
    wrong = frame.filter(parts.is_null())
    if wrong.height:
        value = "nothing" if wrong["part"][0] is None else repr(wrong["part"][0])
        rows = f", and {wrong.height - 1:,} more rows" if wrong.height > 1 else ""
        raise DataError(
            f"{name}: part {value} in row {wrong['row'][0] + 1}{rows}; allowed: {ALLOWED}. "
            "Mend it, or give another --split, which passes the column over"
        )
    return frame.with_columns(parts)


def with_validation(frame: pl.DataFrame, wanted: pl.Series, seed: int) -> tuple[pl.DataFrame, list[str]]:
    """The interactions with a validation part from the end of training if none is named so: the last one that each user
    wanted in training, and what follows it, of users with at least 3; of data without users a tenth of the rows, drawn.
    """
    if (frame["part"] == "valid").any() or not (frame["part"] == "train").any():
        return frame, []
    in_train = frame["part"] == "train"
    if "user_id" in frame.columns:
        marked = frame.select("user_id", (wanted & in_train).cast(pl.Int64).alias("wanted"))
        size = pl.col("wanted").sum().over("user_id")
        is_last = marked.select((pl.col("wanted").cum_sum().over("user_id") == size) & (size >= 3)).to_series()
        how = "each user's last training interaction, of those with at least 3"
    else:
        is_last = pl.Series(np.random.default_rng([seed, 11]).integers(TENTH, size=frame.height) == 0)
        how = "a tenth of training, drawn"
    part = pl.when(pl.lit(in_train & is_last)).then(pl.lit("valid")).otherwise(pl.col("part"))
    return frame.with_columns(part.alias("part")), [f"no part is named valid: {how}, validates"]
