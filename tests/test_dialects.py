"""A stranger's file, read the first time: the same table in many dialects, encodings and packings is the same data."""

import bz2
import gzip
import json
import lzma
import zipfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
import xlsxwriter
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from genrec.cli import main
from genrec.data.columns import canonical
from genrec.data.dialect import dialect_of
from genrec.data.encoding import encoding_of
from genrec.data.files import read_table
from genrec.data.load import ROLES, DataOptions, load_dataset
from genrec.data.source import Reading
from genrec.errors import DataError, GenrecError, UnavailableError

NAMES = ["user_id", "item_id", "rating", "timestamp"]
ROWS = [
    (f"{u:03}", f"b{(u * 7 + n * 3) % 11}", str(1 + (u + n) % 5), str(1_500_000_000 + u * 100 + n))
    for u in range(12)
    for n in range(4)
]


def lines(delimiter: str = ",", header: bool = True, end: str = "\n") -> str:
    return "".join(delimiter.join(row) + end for row in ([NAMES] if header else []) + [list(r) for r in ROWS])


def data(path: Path, **options: Any) -> pl.DataFrame:
    return load_dataset(None, DataOptions(interactions=path, **options)).interactions


def notes(path: Path, **options: Any) -> str:
    return "\n".join(load_dataset(None, DataOptions(interactions=path, **options)).notes)


@pytest.fixture
def wanted(tmp_path: Path) -> pl.DataFrame:
    """The interactions of the plain file."""
    (tmp_path / "plain.csv").write_text(lines())
    return data(tmp_path / "plain.csv")


def zipped(text: bytes) -> bytes:
    from io import BytesIO

    target = BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("folder/", "")
        archive.writestr("folder/x.csv", text)
        archive.writestr("__MACOSX/._x.csv", b"junk")
    return target.getvalue()


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda raw: bytes(pa.Codec("zstd").compress(raw, asbytes=True)),
    ".zip": zipped,
}
FORMS = {
    "semicolons.csv": lines(";"),
    "bars.csv": lines("|"),
    "tabs.txt": lines("\t"),
    "colons.dat": lines("::"),
    "carets.csv": lines("^"),
    "hashes.dat": lines("##", header=False),
    "two_bars.csv": lines("||"),
    "broken_bars.txt": lines("¦"),
    "spaces.txt": lines(" "),
    "runs.txt": "".join("  ".join(f"{cell:<12}" for cell in row) + "\n" for row in (NAMES, *ROWS)),
    "commas": lines(),
    "sep.csv": "sep=;\n" + lines(";"),
    "comment.csv": "# exported 2024\n# by hand\n" + lines(),
    "heading.csv": "Report 2024;;;\n\n" + lines(";"),
    "headings.csv": "Ratings, as of May 2024\nBy:,user 7\n\n" + lines(),
    "returns.csv": lines(end="\r"),
    "windows.csv": lines(end="\r\n"),
    "empty_first.csv": "\n\n" + lines(),
    "no_header.csv": lines(header=False),
    "u.data": lines("\t", header=False),
    "ratings.dat": lines("::", header=False),
    "hive.txt": lines("\x01", header=False),
    "quoted.csv": "".join(",".join(f'"{cell}"' for cell in row) + "\n" for row in (NAMES, *ROWS)),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_dialect_gives_the_same_data(tmp_path: Path, wanted: pl.DataFrame, name: str) -> None:
    (tmp_path / name).write_bytes(FORMS[name].encode())
    assert_frame_equal(data(tmp_path / name), wanted)


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("form", ["semicolons.csv", "ratings.dat"])
def test_every_packing_gives_the_same_data(tmp_path: Path, wanted: pl.DataFrame, packing: str, form: str) -> None:
    path = tmp_path / (form + packing)
    path.write_bytes(PACKINGS[packing](FORMS[form].encode()))
    assert_frame_equal(data(path), wanted)
    unnamed = path.rename(tmp_path / "x")  # the content says what it is
    assert_frame_equal(data(unnamed), wanted)


@pytest.mark.parametrize("codec", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_marks_and_wide_characters(tmp_path: Path, wanted: pl.DataFrame, codec: str) -> None:
    (tmp_path / "a.csv").write_text(lines(";"), encoding=codec)
    assert_frame_equal(data(tmp_path / "a.csv"), wanted)


def test_dialects_are_said_and_plain_files_are_not(tmp_path: Path) -> None:
    for name in ("semicolons.csv", "sep.csv", "comment.csv", "ratings.dat"):
        (tmp_path / name).write_text(FORMS[name])
    (tmp_path / "plain.csv").write_text(lines())
    assert "semicolons.csv: split at semicolons" in notes(tmp_path / "semicolons.csv")
    assert "comment.csv: begins below '# exported 2024'" in notes(tmp_path / "comment.csv")
    (tmp_path / "colons.csv").write_text(lines(":"))
    with pytest.raises(DataError, match="has no item_id column.*if this is several columns, say with --delimiter"):
        data(tmp_path / "colons.csv")
    assert "split at ':'" not in notes(tmp_path / "colons.csv", delimiter=(":",))
    said = notes(tmp_path / "ratings.dat")
    assert "split at '::'" in said and "no header" in said and "1 is user_id, 2 is item_id" in said
    assert not any(word in notes(tmp_path / "plain.csv") for word in ("split at", "read as", "header"))


@given(
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    texts=st.lists(st.text("abé7 ,;|\t\"'\n.:-", min_size=1, max_size=12), min_size=3, max_size=12),
)
@settings(max_examples=60, deadline=None)
def test_whatever_is_written_comes_back(
    tmp_path_factory: pytest.TempPathFactory, delimiter: str, texts: list[str]
) -> None:
    """Quoted texts with delimiters, quotes and line ends inside."""
    path = tmp_path_factory.mktemp("any") / "a.csv"
    frame = pl.DataFrame({"user_id": "u", "item_id": [f"i{n}" for n in range(len(texts))], "review": texts})
    frame.write_csv(path, separator=delimiter, quote_style="necessary")
    assert_frame_equal(read_table(path).frame, frame)


def test_quotes_escaped_by_a_backslash(tmp_path: Path) -> None:
    """As in Book-Crossing's files; a backslash at the end of a field is none."""
    (tmp_path / "a.csv").write_text('"ISBN";"Book-Title"\n"1";"The \\"big\\"; book"\n"2";"It is \\"it\\""\n')
    table = read_table(tmp_path / "a.csv")
    assert table.frame["Book-Title"].to_list() == ['The "big"; book', 'It is "it"']
    assert "quotes escaped by backslashes" in table.notes[0]
    (tmp_path / "b.csv").write_text('item,path\n1,"C:\\dir\\"\n2,"D:\\"\n')
    assert read_table(tmp_path / "b.csv").frame["path"].to_list() == ["C:\\dir\\", "D:\\"]


@pytest.mark.parametrize("delimiter", [",", ";", "|"])
def test_quotes_behind_a_space(tmp_path: Path, delimiter: str) -> None:
    rows = [("1", "Heat, 1995; a | b"), ("2", "Alien"), ("3", 'He said, ""no"", '), ("4", "x, ")]
    gap = delimiter + " "
    text = f"item_id{gap}title{gap}year\n" + "".join(f'{i}{gap}"{title}"{gap}1995\n' for i, title in rows)
    (tmp_path / "a.csv").write_text(text)
    found = read_table(tmp_path / "a.csv").frame
    assert [c.strip() for c in found.columns] == ["item_id", "title", "year"]
    assert found.to_series(1).to_list() == [title.replace('""', '"') for _, title in rows]
    (tmp_path / "b.csv").write_text(text.replace('"Heat, 1995; a | b"', '"Heat"').replace("x, ", "x"))
    assert read_table(tmp_path / "b.csv").frame.to_series(1)[0] == "Heat"
    (tmp_path / "c.csv").write_text('item_id,title\n1,"Heat, ""x"", "\n2,"a, "\n')
    assert read_table(tmp_path / "c.csv").frame["title"].to_list() == ['Heat, "x", ', "a, "]


def test_tables_written_by_r_have_a_name_less(tmp_path: Path, wanted: pl.DataFrame) -> None:
    header = " ".join(f'"{name}"' for name in NAMES)
    rows = "".join(f'"{n}" ' + " ".join(f'"{cell}"' for cell in row) + "\n" for n, row in enumerate(ROWS))
    (tmp_path / "a.txt").write_text(f"{header}\n{rows}")
    assert_frame_equal(data(tmp_path / "a.txt").select(wanted.columns), wanted)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:a\nsize 1\n", "is a Git LFS pointer"),
        (b"<!DOCTYPE html>\n<html><body>Not found</body></html>\n", "is a web page"),
    ],
)
def test_files_that_are_something_else(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_table(tmp_path / "a.csv")


# --- encodings ----------------------------------------------------------------------------------------------------

TITLES = {
    "cp1252": ["Le fabuleux destin d'Amélie", "Café Müller", "El niño", "Straße", "Ocean’s “Eleven”", "10 € – été"],
    "gb18030": ["活着", "霸王别姬", "蓝牙耳机", "手机壳"],
    "big5": ["臥虎藏龍", "飲食男女", "行動電源"],
    "cp932": ["千と千尋の神隠し", "となりのトトロ", "スマホケース"],
    "euc_jp": ["千と千尋の神隠し", "七人の侍", "もののけ姫"],
    "cp949": ["기생충", "올드보이", "살인의 추억"],
    "cp1251": ["Ирония судьбы", "Сталкер", "Москва слезам не верит"],
    "cp1250": ["Krótki film o miłości", "Człowiek z żelaza", "Święta"],
}


@pytest.mark.parametrize("codec", TITLES)
def test_encodings_of_catalogues(tmp_path: Path, codec: str) -> None:
    content = "item_id,title\n" + "".join(f"{n},{title}\n" for n, title in enumerate(TITLES[codec])) + "98,Plain\n"
    path = tmp_path / "i.csv"
    path.write_text(content, encoding=codec)
    table = read_table(path)
    assert table.frame["title"].to_list() == [*TITLES[codec], "Plain"]
    assert any("read as" in note and "--encoding" in note for note in table.notes)


@pytest.mark.parametrize("title", ["Café", "naïve", "Ø 20 cm", "Déjà vu (2006)", "Größe L", "5 °C", "Señorita"])
def test_one_western_word_is_enough(tmp_path: Path, title: str) -> None:
    path = tmp_path / "i.csv"
    path.write_text(f"item_id,title\n1,Plain\n2,{title}\n", encoding="cp1252")
    assert read_table(path).frame["title"][1] == title


@pytest.mark.parametrize("title", ["手机", "红楼梦", "连衣裙女夏季新款", "活着"])
def test_one_chinese_title_is_enough(tmp_path: Path, title: str) -> None:
    path = tmp_path / "i.csv"
    path.write_text(f"item_id,title\n1,Plain\n2,{title}\n", encoding="gbk")
    assert read_table(path).frame["title"][1] == title


def test_the_whole_file_decides_and_a_late_accent_loses_no_row(tmp_path: Path) -> None:
    rows = "".join(f"{n},Plain title number {n}\n" for n in range(30_000))
    path = tmp_path / "i.csv"
    path.write_bytes(("item_id,title\n" + rows).encode() + "30000,Amélie\n".encode("cp1252"))
    frame = read_table(path).frame
    assert (frame.height, frame["title"][-1]) == (30_001, "Amélie")


def test_a_few_broken_bytes_in_utf8_are_bad_rows(tmp_path: Path) -> None:
    path = tmp_path / "i.csv"
    path.write_bytes("item_id,title\n1,Amélie\n2,Überall\n".encode() + b"3,caf\xe9\n4,x\n")
    assert encoding_of(path).codec == "utf-8"
    with pytest.raises(DataError, match="row 3: .* is not UTF-8"):
        read_table(path)
    assert read_table(path, Reading(bad_rows="skip")).frame["item_id"].to_list() == ["1", "2", "4"]


def test_the_encoding_given_comes_first(tmp_path: Path) -> None:
    path = tmp_path / "i.csv"
    path.write_text("item_id,title\n1,Łódź\n", encoding="cp1250")
    assert read_table(path, Reading(encoding="windows-1250")).frame["title"][0] == "Łódź"
    assert read_table(path, Reading(encoding="latin-1")).frame["title"][0] == "£ódŸ".replace("Ÿ", "\x9f")
    with pytest.raises(DataError, match="--encoding utf-9: not an encoding"):
        read_table(path, Reading(encoding="utf-9"))


def test_json_lines_in_other_encodings(tmp_path: Path) -> None:
    path = tmp_path / "i.jsonl"
    text = "".join(
        json.dumps({"user": "u", "item": n, "title": t}, ensure_ascii=False) + "\n"
        for n, t in enumerate(TITLES["gb18030"])
    )
    path.write_text(text, encoding="gbk")
    assert read_table(path).frame["title"].to_list() == TITLES["gb18030"]


# --- headers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("kunde,ware\nanna,apfel\nbert,birne\nanna,birne\n", True),
        ("anna,apple,view\nbert,pear,view\nanna,pear,cart\n", False),
        ("u1,i1,rating\nu1,i2,rating\n", False),
        ("user,item\nuser,item\n", True),
        (",user,thing\n0,a,b\n", True),
        (",0,1\n0,a,b\n1,c,d\n", True),
        ("u0,103,4\n", False),
        ("2024-01-01,u1,i1\n", False),
        ("item_id\n1\n2\n", True),
    ],
)
def test_whether_the_first_row_names_the_columns(text: str, header: bool) -> None:
    assert dialect_of(text, ",", None, None, (), '"').header is header


def test_columns_without_a_header_are_numbered(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("".join(f"{i},x,{u},{r}\n" for u, i, r, _ in ROWS))
    found = data(tmp_path / "a.csv", columns={"user_id": "3", "item_id": "1", "rating": "4"})
    assert found.select("user_id", "item_id", "rating").row(0) == ("000", "b0", 1.0)
    (tmp_path / "b.csv").write_text("good film,u1,7.5\nbad film,u1,2.5\n")
    with pytest.raises(DataError, match=r"no header, and what its columns are cannot be told \(1: good film") as error:
        data(tmp_path / "b.csv")
    assert "--column user_id=NUMBER --column item_id=NUMBER" in str(error.value)


def test_header_said_by_the_caller(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("7,8\nu,i\nu,j\nv,i\n")
    named = data(tmp_path / "a.csv", header=("yes",), columns={"user_id": "7", "item_id": "8"})
    assert named["item_id"].to_list() == ["i", "j", "i"]
    assert data(tmp_path / "a.csv", header=("no",), columns={"user_id": "1", "item_id": "2"}).height == 4
    with pytest.raises(DataError, match="--header maybe: allowed are yes, no and auto"):
        data(tmp_path / "a.csv", header=("maybe",))


def test_options_for_one_file_only(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_text(lines())
    (tmp_path / "i.txt").write_text("b0^Naïve\nb1^Café\n", encoding="cp1252")
    options = {
        "items": tmp_path / "i.txt",
        "delimiter": ("items=^",),
        "encoding": ("items=cp1252",),
        "header": ("items=no",),
    }
    found = load_dataset(None, DataOptions(interactions=tmp_path / "r.csv", **options))  # type: ignore[arg-type]
    assert found.items.head(2).rows() == [("b0", "Naïve"), ("b1", "Café")]


def test_bad_rows_keep_their_numbers(tmp_path: Path) -> None:
    for name, text, row in (
        ("a.csv", "# comment\n" + lines(";") + "u9;b1\n", 49),
        ("b.dat", lines("::", header=False) + "u9::b1\n", 49),
        ("c.txt", "sep=|\n" + lines("|").replace("002|", "002|x|", 1), 9),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match=f"row {row}: .* has [25] of 4 fields") as error:
            data(tmp_path / name)
        assert "\x1f" not in str(error.value)
        path = tmp_path / f"{name}.gz"
        path.write_bytes(gzip.compress(text.encode()))
        assert data(path, bad_rows="skip").height >= 47


# --- archives, workbooks, folders ---------------------------------------------------------------------------------


def test_an_archive_of_several_files(tmp_path: Path, wanted: pl.DataFrame) -> None:
    path = tmp_path / "ml.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ml/ratings.csv", lines())
        archive.writestr("ml/movies.csv", "item_id,title\nb0,x\n")
    with pytest.raises(
        DataError, match=r"holds 2 files: it holds ml/ratings.csv, ml/movies.csv; name one as .*ml.zip#ml/r"
    ):
        data(path)
    found = load_dataset(None, DataOptions(interactions=f"{path}#ratings.csv", items=f"{path}#ml/movies.csv"))
    assert_frame_equal(found.interactions, wanted)
    assert (found.name, found.items["title"][0]) == ("ratings", "x")


@pytest.mark.parametrize("packing", [".gz", ".xz", ".zip", ".zst", ".bz2"])
def test_damaged_archives(tmp_path: Path, packing: str) -> None:
    raw = PACKINGS[packing]((lines() * 50).encode())
    (tmp_path / f"a.csv{packing}").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(DataError, match="is damaged"):
        data(tmp_path / f"a.csv{packing}")


def workbook(path: Path) -> Path:
    book = xlsxwriter.Workbook(path)
    book.add_worksheet("Empty")
    sheet, other = book.add_worksheet("Orders"), book.add_worksheet("Notes")
    day = book.add_format({"num_format": "yyyy-mm-dd"})
    sheet.write_row(2, 1, ["Customer ID", "Product", "Stars", "Date"])
    for n in range(6):
        sheet.write_row(3 + n, 1, [n // 2 + 1, f"{n:03}", 3.5 if n % 2 else 4])
        sheet.write_datetime(3 + n, 4, date(2024, 1, n + 1), day)
    other.write_row(0, 0, ["user", "item"])
    other.write_row(1, 0, ["u", "i"])
    book.close()
    return path


def test_a_workbook(tmp_path: Path) -> None:
    path = workbook(tmp_path / "shop.xlsx")
    found = data(path)
    assert found.select("user_id", "item_id", "rating", "timestamp").row(0) == ("1", "000", 4.0, 1_704_067_200)
    assert "shop.xlsx: sheet 'Orders'; not read: Notes" in notes(path)
    assert read_table(f"{path}#Notes").frame.rows() == [("u", "i")]
    with pytest.raises(GenrecError, match="Unknown sheet 'Note' in shop.xlsx. Did you mean 'Notes'"):
        read_table(f"{path}#Note")


def sheets(path: Path, **rows: list[list[Any]]) -> Path:
    book = xlsxwriter.Workbook(path)
    for name, table in rows.items():
        sheet = book.add_worksheet(name)
        for n, row in enumerate(table):
            sheet.write_row(n, 0, row)
    book.close()
    return path


TABLE = [[u, i, int(r), int(t)] for u, i, r, t in ROWS]
GOODS = [["item_id", "title"], *([f"b{n}", f"Title {n}"] for n in range(11))]


def test_headings_above_the_table_of_a_sheet(tmp_path: Path, wanted: pl.DataFrame) -> None:
    """Its cells keep their types, and columns without a name have one that people can read."""
    heading: list[list[Any]] = [[], ["Sales of Munich"], []]
    path = sheets(tmp_path / "a.xlsx", Sales=[*heading, NAMES, *TABLE])
    assert_frame_equal(data(path), wanted)
    assert "a.xlsx: begins below 'Sales of Munich'" in notes(path)
    assert read_table(path).frame.schema["rating"] == pl.Int64
    path = sheets(
        tmp_path / "b.xlsx",
        Sales=[*heading, ["user", "", "item", ""], *([u, n, i] for n, (u, i, *_) in enumerate(ROWS))],
    )
    assert read_table(path).frame.columns == ["user", "column_2", "item"]
    path = sheets(tmp_path / "c.xlsx", Sales=[*heading, *TABLE])
    assert_frame_equal(data(path), wanted)


def test_the_sheet_that_has_the_columns_is_read(tmp_path: Path, wanted: pl.DataFrame) -> None:
    cover: list[list[Any]] = [["Sales of Munich", ""], ["made on", 45_000]]
    path = sheets(tmp_path / "a.xlsx", Cover=cover, Goods=GOODS, Sales=[NAMES, *TABLE])
    assert_frame_equal(data(path), wanted)
    assert "a.xlsx: sheet 'Sales'; not read: Cover, Goods (a.xlsx#SHEET names one)" in notes(path)
    found = load_dataset(None, DataOptions(interactions=path, items=path))
    assert found.items.sort("item_id")["title"][0] == "Title 0"
    path = sheets(tmp_path / "b.xlsx", Cover=cover, Other=[["client", "what"], ["u", "i"]])
    with pytest.raises(
        DataError, match="no sheet has the columns of interactions: 'Cover' has .*; 'Other' has client, what"
    ) as e:
        data(path)
    assert "b.xlsx#SHEET" in str(e.value) and "UNNAMED" not in str(e.value)


def test_a_row_of_totals_at_the_end_is_no_interaction(tmp_path: Path, wanted: pl.DataFrame) -> None:
    (tmp_path / "a.csv").write_text(lines() + ",,240,\n")
    assert_frame_equal(data(tmp_path / "a.csv"), wanted)
    assert "1 row at the end without user and item left out (240)" in notes(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text(lines() + ",,240,\n" + lines(header=False))
    with pytest.raises(DataError, match="item_id must be there; 1 row is not"):
        data(tmp_path / "a.csv")


def test_a_workbook_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genrec.extras.find_spec", lambda name: None)
    with pytest.raises(UnavailableError, match=r"pip install 'genrec\[xlsx\]'"):
        read_table(workbook(tmp_path / "shop.xlsx"))


def test_a_folder_of_parts(tmp_path: Path, wanted: pl.DataFrame, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    frame = pl.DataFrame(ROWS, schema=NAMES, orient="row")
    for n in range(12):  # part-10 comes behind part-9
        frame[n * 4 : n * 4 + 4].write_parquet(folder / f"part-{n}.parquet")
    (folder / "_SUCCESS").touch()
    (folder / "README.txt").write_text("About these data")
    assert_frame_equal(data(folder), wanted)
    assert main(["data", "show", str(folder)]) == 0
    assert "parts: 12 files as one table" in capsys.readouterr().out


def test_partitions_and_parts_of_a_split(tmp_path: Path) -> None:
    frame = pl.DataFrame(ROWS, schema=NAMES, orient="row")
    for n, name in enumerate(("country=DE/day=01", "country=FR/day=02")):
        (tmp_path / "hive" / name).mkdir(parents=True)
        frame[n * 24 : n * 24 + 24].write_csv(tmp_path / "hive" / name / "0.csv")
    found = read_table(tmp_path / "hive").frame
    assert found.select("country", "day").unique(maintain_order=True).rows() == [("DE", "01"), ("FR", "02")]
    (tmp_path / "split").mkdir()
    for n, name in enumerate(("train", "val", "test")):
        frame[n * 16 : n * 16 + 16].write_ndjson(tmp_path / "split" / f"x_{name}.jsonl")
    split = load_dataset(None, DataOptions(interactions=tmp_path / "split"))
    assert split.split_method == "given"
    assert sorted(split.interactions["part"].value_counts().rows()) == [("test", 16), ("train", 16), ("valid", 16)]


def test_a_folder_of_several_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "ml-latest-small"
    folder.mkdir()
    (folder / "ratings.csv").write_text(lines().replace("user_id", "userId").replace("item_id", "movieId"))
    (folder / "movies.csv").write_text('movieId,title,genres\nb0,"American President, The (1995)",Comedy|Drama\n')
    (folder / "tags.csv").write_text("userId,movieId,tag,timestamp\n1,b0,funny,1445714994\n")
    (folder / "links.csv").write_text("movieId,imdbId\nb0,0114709\n")
    assert main(["data", "show", f"{folder}/"]) == 0
    said = capsys.readouterr().out
    assert "ml-latest-small: interactions of ratings.csv, items of movies.csv; not read: links.csv, tags.csv" in said
    assert "48 interactions, 12 users, 11 items" in said
    (folder / "events.csv").write_text(lines())
    with pytest.raises(
        DataError, match="events.csv, ratings.csv may all be the interactions; name one: --interactions"
    ):
        data(folder)
    other = tmp_path / "other"
    other.mkdir()
    (other / "a.csv").write_text("user,item\n1,2\n")
    (other / "b.csv").write_text("x,y\n1,2\n")
    assert "other: interactions of a.csv (told by its columns); not read: b.csv" in notes(other)
    (other / "a.csv").write_text("user,thing\n1,2\n")
    with pytest.raises(DataError, match="is a folder of different tables: a.csv has user, thing; b.csv has x, y"):
        data(other)


SHOPS = {  # files of interactions, catalogue, users: their headers
    "chinese": {"用户行为": "用户编号,商品编号,行为", "商品": "商品编号,商品名称,类目", "人群": "用户编号,城市"},
    "german": {
        "verkauf": "Kundennummer,Artikelnr,Menge",
        "artikel": "Artikelnr,Bezeichnung,sort",
        "leute": "Kunde,Ort",
    },
    "named": {"interactions_2024": "userId,movieId,n", "product_catalog": "movieId,title,sort", "people": "userId,job"},
    "key": {"clicks": "userId,productId,n", "goods": "id,name,sort", "users": "id,age"},
    "kind": {"log": "user,movie,n", "master": "id,title,sort", "who": "user,movie"},
}


@pytest.mark.parametrize("name", SHOPS)
def test_files_of_any_name_are_told_by_their_columns(tmp_path: Path, name: str) -> None:
    texts = ["".join(f"{u},{i},view\n" for u, i, *_ in ROWS), "".join(f"b{n},Title {n},x\n" for n in range(11))]
    texts.append("".join(f"{u:03},{30 + u}\n" for u in range(12)))
    for (file, header), text in zip(SHOPS[name].items(), texts, strict=True):
        (tmp_path / f"{file}.csv").write_text(f"{header}\n{text}")
    (tmp_path / "rates.csv").write_text("currency,rate\nEUR,1\n")
    found = load_dataset(None, DataOptions(interactions=tmp_path))
    assert (found.interactions.height, found.items.height, found.users.height) == (48, 11, 12)
    assert found.items.sort("item_id")["title"][0] == "Title 0"
    said = found.notes[0]
    assert all(f"{role} of {file}.csv" in said for role, file in zip(ROLES, SHOPS[name], strict=True))
    assert said.endswith("; not read: rates.csv") and not any("were dropped" in note for note in found.notes)


def test_parts_of_interactions_beside_a_catalogue(tmp_path: Path, wanted: pl.DataFrame) -> None:
    """Parts have the same columns in any order; those with others are read too if they have user and item, and said."""
    frame = pl.DataFrame(ROWS, schema=NAMES, orient="row")
    tmp_path = tmp_path / "shop"
    tmp_path.mkdir()
    frame[:24].write_csv(tmp_path / "jan1.csv")
    frame[24:].select(reversed(NAMES)).write_csv(tmp_path / "jan2.csv")
    (tmp_path / "stuff.csv").write_text("item_id,title\nb0,Zero\n")
    found = load_dataset(None, DataOptions(interactions=tmp_path))
    assert_frame_equal(found.interactions, wanted)
    assert "interactions of jan1.csv and jan2.csv (told by their columns), items of stuff.csv" in found.notes[0]
    assert f"{tmp_path.name}: 2 files as one table" in found.notes
    frame[24:].drop("rating").write_csv(tmp_path / "jan2.csv")
    found = load_dataset(None, DataOptions(interactions=tmp_path, items=tmp_path / "stuff.csv"))
    assert found.interactions.height == 48 and found.interactions["rating"].null_count() == 24
    assert f"{tmp_path.name}: 2 files as one table; their columns differ: jan2.csv has no rating" in found.notes


def test_what_cannot_be_the_catalogue_is_not_taken_for_it(tmp_path: Path) -> None:
    """Items that recur are no catalogue; of several tables the one with titles is, else one must be named."""
    (tmp_path / "log.csv").write_text(lines())
    (tmp_path / "positions.csv").write_text("order,item_id\n" + "".join(f"{n},b0\n" for n in range(9)))
    (tmp_path / "names.csv").write_text("item_id,title\nb0,Zero\n")
    (tmp_path / "prices.csv").write_text("item_id,price\nb0,1\n")
    said = notes(tmp_path)
    assert "items of names.csv (told by its columns); not read: positions.csv, prices.csv" in said
    (tmp_path / "names.csv").write_text("item_id,stock\nb0,3\n")
    with pytest.raises(DataError, match="names.csv, prices.csv may all be the items; name one: --items"):
        data(tmp_path)
    found = load_dataset(None, DataOptions(interactions=tmp_path, items=tmp_path / "prices.csv"))
    assert found.items.filter(pl.col("item_id") == "b0")["price"].to_list() == [1]


def test_a_long_file_is_told_by_its_beginning(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(lines() + lines(header=False) * 1200)
    (tmp_path / "what.csv").write_text("item_id,title\nb0,Zero\n")
    assert data(tmp_path).height == 48 * 1201


def test_a_file_that_cannot_be_read_is_no_less_a_part(tmp_path: Path) -> None:
    """Where the names do not tell what it is; beside ratings it is another file that is not read."""
    (tmp_path / "log.csv").write_text(lines())
    (tmp_path / "log2.csv").touch()
    with pytest.raises(DataError, match="log2.csv is empty"):
        data(tmp_path)
    (tmp_path / "log.csv").rename(tmp_path / "ratings.csv")
    assert "interactions of ratings.csv; not read: log2.csv" in notes(tmp_path)


# --- structs and names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_columns_inside_structs(tmp_path: Path, kind: str) -> None:
    rows = [
        {"who": {"ref": {"n": u}}, "item": {"id": i, "title": f"T {i}"}, "event": {"type": "view"}, "ts": int(t)}
        for u, i, _, t in ROWS
    ]
    frame, path = pl.DataFrame(rows), tmp_path / f"a.{kind}"
    frame.write_ndjson(path) if kind == "jsonl" else frame.write_parquet(path)
    found = load_dataset(None, DataOptions(interactions=path, columns={"user_id": "who.ref.n"}))
    assert found.interactions.select("user_id", "item_id", "event").row(0) == ("000", "b0", "view")
    assert found.items["title"][0] == "T b0"
    assert "event.type is event" in "\n".join(found.notes)
    with pytest.raises(DataError, match="no user_id column. It has: ts, item.id"):
        load_dataset(None, DataOptions(interactions=path))


def test_ids_that_lie_deeper(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        "".join(
            json.dumps({"data": {"user_id": u, "item_id": i}, "id": n}) + "\n" for n, (u, i, _, _) in enumerate(ROWS)
        )
    )
    (tmp_path / "i.csv").write_text("id,title\nb0,Zero\n")  # the key of a catalogue is often just that
    found = load_dataset(None, DataOptions(interactions=path, items=tmp_path / "i.csv"))
    assert found.interactions.select("user_id", "item_id").row(0) == ("000", "b0")
    assert found.items.row(0) == ("b0", "Zero")


def test_what_lies_beside_the_ids_in_a_struct_is_of_the_event(tmp_path: Path) -> None:
    """And a rating of the item's own struct is not."""
    inside = [{"payload": {"user_id": u, "item_id": i, "rating": int(r)}, "ts": int(t)} for u, i, r, t in ROWS]
    apart = [{"user": {"id": u}, "item": {"id": i, "rating": int(r)}, "ts": int(t)} for u, i, r, t in ROWS]
    for rows, has_rating in ((inside, True), (apart, False)):
        pl.DataFrame(rows).write_ndjson(tmp_path / "a.jsonl")
        found = data(tmp_path / "a.jsonl")
        assert found["user_id"][0] == "000" and found["timestamp"][0] == 1_500_000_000
        assert ("rating" in found.columns) == has_rating
        if has_rating:
            assert found["rating"].to_list() == [float(r) for _, _, r, _ in ROWS]


JSON_TABLES = {
    "services": lambda rows: {"meta": {"n": 2}, "data": rows},
    "split": lambda rows: {"columns": NAMES, "index": [0], "data": [list(r.values()) for r in rows]},
    "columns": lambda rows: {n: {str(i): r[n] for i, r in enumerate(rows)} for n in NAMES},
    "index": lambda rows: {str(i): r for i, r in enumerate(rows)},
    "lists": lambda rows: {n: [r[n] for r in rows] for n in NAMES},
}


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("form", JSON_TABLES)
def test_one_object_that_holds_the_rows(tmp_path: Path, wanted: pl.DataFrame, form: str, indent: int | None) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(JSON_TABLES[form]([dict(zip(NAMES, row, strict=True)) for row in ROWS]), indent=indent))
    assert_frame_equal(data(path), wanted)
    assert "a.json: read " in notes(path)


def test_one_object_that_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"user_id": "u", "item_id": "i", "tags": [{"name": "x"}]}))
    assert read_table(tmp_path / "a.jsonl").frame["user_id"].to_list() == ["u"]


def test_fields_of_large_structs_only_by_name(tmp_path: Path) -> None:
    details = {f"k{n}": n for n in range(60)}
    pl.DataFrame([{"user": "u", "item": "i", "details": details}]).write_parquet(tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet").frame.columns == ["user", "item", "details"]
    reading = Reading(columns={"rating": "details.k7"})
    assert read_table(tmp_path / "a.parquet", reading).frame["details.k7"].to_list() == [7]


@pytest.mark.parametrize(
    "names",
    ["用户,商品,评分,时间", "Kundennummer;Artikelnummer;Bewertung;Bestelldatum", "usuario,artículo,puntuación,fecha"]
    + [
        "ユーザーID,商品コード,評価,日付",
        "사용자ID,상품ID,평점,날짜",
        "Пользователь;Товар;Оценка;Дата",
        "Utilisateur;Produit;Stars;Horodatage",
    ],
)
def test_names_in_other_languages(tmp_path: Path, names: str) -> None:
    delimiter = ";" if ";" in names else ","
    (tmp_path / "a.csv").write_text(names + "\n" + lines(delimiter, header=False))
    assert data(tmp_path / "a.csv").select(NAMES).height == 48


SHOP = "basket user_id item_id title category rating"


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ("N° commande,Client,Référence,Désignation,Rayon,Note", SHOP),
        ("Belegnr.,Kundennummer,Artikelnr,Artikelbezeichnung,Warengruppe,Wertung", SHOP),
        ("Belegnummer,Kunde,Art-Nr.,Artikelbezeichnung,Warengruppe,Sterne", SHOP),
        ("Nº pedido,Nº cliente,Código producto,Nombre del producto,Sección,Nota", SHOP),
        ("№ заказа,Код клиента,Код товара,Название товара,Группа товаров,Оценка", SHOP),
        ("交易号,顾客编号,货号,品名,品类,评分", SHOP),
        ("Référence,Client,Article,x,y,z", "référence user_id item_id x y z"),
    ],
)
def test_names_that_shops_use(names: str, wanted: str) -> None:
    rows = [(n // 2, f"u{n % 5}", f"b{n % 3}", f"T {n % 3}", "c", 1 + n % 4) for n in range(12)]
    frame = pl.DataFrame(rows, schema=names.split(","), orient="row")
    assert {*canonical(frame, "interactions", "f.csv")[0].columns} - {"row", "event"} == {*wanted.split()}


@pytest.mark.parametrize("notes", [["nice", "3", "4"], ["120034", "3", "4"], ["1", "1", "1"], [None, None, None]])
def test_a_note_of_free_text_is_no_rating(notes: list[str | None]) -> None:
    frame = pl.DataFrame({"client": ["a", "b", "c"], "article": ["x", "x", "y"], "note": notes})
    found, said = canonical(frame, "interactions", "f.csv")
    assert "rating" not in found.columns and "note is rating" not in said[0]


def test_references_that_never_recur_are_no_items() -> None:
    frame = pl.DataFrame({"client": ["a", "b", "c"], "reference": ["x", "y", "z"]})
    with pytest.raises(DataError, match="no item_id column"):
        canonical(frame, "interactions", "f.csv")


# --- data show and finetune ---------------------------------------------------------------------------------------


def test_data_show_and_finetune_say_the_same(
    tmp_path: Path, toy_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ratings.dat.gz"
    path.write_bytes(gzip.compress(lines("::", header=False).encode()))
    (tmp_path / "keeper.yaml").write_text(
        "task: keeper\ndescription: Five?\nunit: event\nneeds: [user_id, item_id, rating]\nlabel: 'rating >= 5'\n"
        "answer: {choices: ['no', 'yes']}\ndense: true\nweight: 1.0\nask: ['is {title} a keeper for user {user_id}?']\n"
        "templates: {seen: ['Is {item} a keeper?'], unseen: ['Would this user call {item} perfect?']}\n"
    )
    more = ["--tasks", str(tmp_path / "keeper.yaml"), "--column", "rating=3"]
    assert main(["data", "show", str(path), *more]) == 0
    shown = [line.strip() for line in capsys.readouterr().out.splitlines()]
    command = ["finetune", "--interactions", str(path), "--model", str(toy_files / "tiny"), "--epochs", "1"]
    assert main([*command, "--layers", "1", "--out", str(tmp_path / "run"), *more]) == 0
    said = capsys.readouterr().err.splitlines()
    notes_shown = shown[next(n for n, line in enumerate(shown) if "split at '::'" in line) :]
    tasks = next(line for line in notes_shown if line.startswith("tasks: "))
    assert tasks == "tasks: next_item, rating, keeper"
    for line in notes_shown:
        assert line.startswith("tasks: ") or f"ratings: {line}" in said, line
