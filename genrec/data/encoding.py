"""The encoding of a text file, told from all of it; a copy of the file in UTF-8."""

import codecs
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ..errors import DataError

MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
CHUNK = 1 << 20
SAMPLE = 200_000  # bytes of lines beyond ASCII that an encoding is guessed from
NAMES = {"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949", "iso8859-1": "cp1252"}
WESTERN = frozenset("áàâäãåæçéèêëíìîïñóòôöõøœúùûüÿßÁÀÂÄÃÅÆÇÉÈÊËÍÌÎÏÑÓÒÔÖÕØŒÚÙÛÜ¡¿«»–—‘’“”„…·•€£¢¥§©®™°ªº½¼¾×\xa0")
RARE = {"euc_jp": 0.3}  # by which the likelihood of an encoding is cut that few files of today have
AMBIGUOUS = 3.0  # how much likelier than Western text other Latin text must be to be taken for it


@dataclass(frozen=True)
class Encoding:
    """How a file's bytes are read as text. example: a text beyond ASCII in it, if the encoding was guessed."""

    codec: str = "utf-8"
    example: str = ""

    @property
    def note(self) -> str:
        """How the file was read, if not as UTF-8: `read as gb18030 ('...'; --encoding NAME if it is not)`."""
        if self.codec in ("utf-8", "utf-8-sig"):
            return ""
        return f"read as {self.codec}" + (f" ({self.example!r}; --encoding NAME if it is not)" if self.example else "")


def encoding_of(path: Path) -> Encoding:
    """The encoding of a file: by its byte order mark, else UTF-8 if it is (but for a few lines), else guessed."""
    with path.open("rb") as file:
        head = file.read(4096)
        for mark, codec in MARKS:
            if head.startswith(mark):
                return Encoding(codec)
    if wide := _wide(head):
        return Encoding(wide)
    return Encoding() if head.startswith(codecs.BOM_UTF8) or _is_all_valid(path, "utf-8") else _guessed(path)


def _wide(head: bytes) -> str | None:
    """UTF-16 without a byte order mark: every other byte of Western letters, separators and line ends is zero."""
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) < len(head) / 20 or min(even, odd) > max(even, odd) / 10:
        return None
    return "utf-16-le" if odd > even else "utf-16-be"


def _guessed(path: Path) -> Encoding:
    """The likeliest encoding in which all of the file is text; UTF-8 if many lines are, and some are broken."""
    import chardet

    lines, n_valid, n_broken = _beyond_ascii(path)
    if 3 * n_valid >= n_broken:
        return Encoding()
    sample = b"\n".join(lines)
    results = chardet.detect_all(
        sample,
        ignore_threshold=True,
        encoding_era=chardet.EncodingEra.MODERN_WEB,
        prefer_superset=True,
        exclude_encodings=["cp1258"],
    )
    scores = {_name(r["encoding"]): r["confidence"] for r in reversed(results) if r["encoding"]}
    scores = {codec: score * RARE.get(codec, 1.0) for codec, score in scores.items()}
    scores.setdefault("cp1252", 0.0)
    scores.pop("utf-8", None)
    ranked = sorted(scores, key=lambda codec: -scores[codec])
    if _is_western(sample):
        ranked = [c for c in ranked if _is_latin(c) or not _has_lone_letters(sample, c)]
        if _is_latin(ranked[0]) and scores[ranked[0]] <= AMBIGUOUS * scores["cp1252"] + 0.01:
            ranked.insert(0, "cp1252")
    codec = next((c for c in ranked if _is_all_valid(path, c)), None)
    codec = codec or min(ranked, key=lambda c: sum(not _is_valid(line, c) for line in lines))
    example = next((line for line in lines if _is_valid(line, codec)), lines[0])
    return Encoding(codec, example.decode(codec, errors="replace")[:40])


def _name(encoding: str) -> str:
    name = codecs.lookup(encoding).name
    return NAMES.get(name, name)


def _beyond_ascii(path: Path) -> tuple[list[bytes], int, int]:
    """Different lines that are no UTF-8, SAMPLE bytes of them; how many lines beyond ASCII are UTF-8, and are not."""
    lines: dict[bytes, None] = {}
    n_valid = n_broken = size = 0
    with path.open("rb") as file:
        for line in file:
            if line.isascii():
                continue
            if _is_valid(line, "utf-8"):
                n_valid += 1
                continue
            n_broken += 1
            line = line.strip()
            if size < SAMPLE and line not in lines:
                lines[line] = None
                size += len(line)
    return list(lines), n_valid, n_broken


def _is_valid(line: bytes, codec: str) -> bool:
    try:
        line.decode(codec)
    except UnicodeDecodeError:
        return False
    return True


def _is_all_valid(path: Path, codec: str) -> bool:
    """Whether a whole file is text in an encoding."""
    decoder = codecs.getincrementaldecoder(codec)()
    try:
        with path.open("rb") as file:
            for chunk in iter(lambda: file.read(CHUNK), b""):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _is_latin(codec: str) -> bool:
    return b"\xe9\xc4\xf3".decode(codec, errors="replace") == "éÄó"


def _is_western(sample: bytes) -> bool:
    """Whether the bytes are text of Western Europe in cp1252."""
    text = sample.decode("cp1252", errors="replace")
    return all(c in WESTERN for c in text if not c.isascii())


def _has_lone_letters(sample: bytes, codec: str) -> bool:
    """Whether letters of another script would stand alone, or inside Latin words: accents of Latin text do."""
    if not re.search(rb"[\x80-\xff]{2}", sample):
        return True
    words = re.findall(r"[^\W\d_]+", sample.decode(codec, errors="replace"))
    foreign = [word for word in words if not word.isascii()]
    return sum(bool(re.search("[A-Za-z]", word)) for word in foreign) > len(foreign) / 2


@contextmanager
def as_utf8(path: Path, codec: str | None) -> Iterator[tuple[Path, Encoding]]:
    """The file, or a copy in UTF-8 while the context lasts, and its encoding: `codec`, or what the content says.

    Bytes that the encoding does not have stay as they are, so that their lines are no UTF-8.
    """
    encoding = Encoding(_codec(codec)) if codec else encoding_of(path)
    if encoding.codec in ("utf-8", "utf-8-sig"):
        yield path, encoding
        return
    with TemporaryDirectory(prefix="genrec-") as folder:
        copy = Path(folder) / path.name
        with (
            path.open(encoding=encoding.codec, errors="surrogateescape", newline="") as source,
            copy.open("w", encoding="utf-8", errors="surrogateescape", newline="") as target,
        ):
            try:
                shutil.copyfileobj(source, target, CHUNK)
            except UnicodeError as error:
                raise DataError(f"{path} is not {encoding.codec} throughout ({error})") from error
        yield copy, encoding


def _codec(name: str) -> str:
    try:
        codec = codecs.lookup(name)
        "".encode(codec.name)
    except LookupError:
        raise DataError(
            f"--encoding {name}: not an encoding that is known; such are utf-8, utf-16, cp1252, gb18030, big5, cp932, "
            "euc-jp, cp949, cp1251"
        ) from None
    return codec.name
