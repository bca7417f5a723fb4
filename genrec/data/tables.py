"""Any source as a frame of raw columns: a file, a folder, a database, a hub data set."""

from ..errors import DataError
from .database import read_database
from .files import read_chosen, read_table
from .hub import read_hub
from .source import FRAME, HUB, Files, Frame, Reading, Source, Table, check_url, is_url


def read_source(source: Source, reading: Reading | None = None) -> Table:
    """The columns of a file or folder, of a table or query of a database, of a data set of the hub, or of a frame.

    source: a path (see `read_table`), or a SQLAlchemy URL with `#` and a table or a SELECT. `${NAME}` in the URL is
    read from the environment, here only; it may also stand for the whole URL. Or `hf://datasets/OWNER/NAME/FILE`, or
    `hf://OWNER/NAME?config=...&split=...`, which also takes a folder that starts with `/` or `.`. Raises DataError,
    UnknownNameError for a table, UnavailableError for a missing driver and a server that cannot be reached.
    """
    if isinstance(source, Frame):
        if not source.table.height:
            raise DataError(f"{source} has no rows")
        return Table(source.table)
    if source == FRAME:
        raise DataError(
            f"{FRAME}: this was a table in Python's memory; give a file, or `genrec.finetune` the table again"
        )
    reading = reading or Reading()
    if isinstance(source, Files):
        return read_chosen(source, reading)
    check_url(source)
    if str(source).startswith(HUB):
        return read_hub(str(source), reading)
    return Table(read_database(str(source))) if is_url(source) else read_table(source, reading)
