"""`genrec data`: what a data set or file holds, and which tasks it can feed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from ..errors import DataError
from ..options import arguments, option, options_of
from ..run.config import DATA_OPTIONS, FinetuneConfig, source_options
from .output import show_json
from .parser import command


@dataclass(frozen=True)
class Data:
    """Options of data: what to look at, and how it is read."""

    what: Literal["list", "show"] = option(
        help="list the named data sets, or show one or a file of yours", positional=True
    )
    name: str | None = option(None, "data set name, interactions file or URL", metavar="NAME|FILE|URL", positional=True)
    json: bool = option(False, "as JSON")
    reading: FinetuneConfig = options_of(FinetuneConfig, DATA_OPTIONS)

    def __post_init__(self) -> None:
        """Raises DataError for a list of the named data sets with options of a single one."""
        if self.what == "list":
            given = [self.name] if self.name is not None else []
            given += ["--json"] if self.json else []
            given += arguments(self.reading)[:1]
            if given:
                raise DataError(f"{given[0]} changes nothing here: it goes with `genrec data show`; leave it out")


@command()
def data(options: Data) -> None:
    """The named data sets; what a data set or file holds and which tasks it can feed."""
    from ..data.named import DATASETS

    if options.what == "list":
        for named in DATASETS.values():
            print(
                f"{named.name:17} {named.what}\n{'':17} {named.licence}\n{'':17} from {', else '.join(named.sources)}"
            )
        print(f"{'demo':17} the three above in one adapter, the last two cut down")
        return
    if options.name is None:
        raise DataError("`genrec data show` needs a NAME or FILE")
    from ..data.describe import describe
    from ..run.data import load_data, offers

    config = replace(options.reading, **source_options([options.name]))
    config.check_used()
    datasets = load_data(config)
    _, offered, reasons = offers(config, datasets)
    descriptions = [
        describe(d) | {"tasks": [t.name for t in offered[d.name]], "tasks_off": reasons[d.name]} for d in datasets
    ]
    if options.json:
        show_json(descriptions if len(descriptions) > 1 else descriptions[0])
        return
    for description in descriptions:
        show(description)


def show(description: Mapping[str, Any]) -> None:
    """Print what a data set holds."""
    print(
        f"{description['name']}: {description['interactions']:,} interactions, "
        f"{description['users']:,} users, {description['items']:,} items"
    )
    if description["density"] is not None:
        print(
            f"  density {description['density']:.4%}, "
            f"{description['tied_timestamps']:.1%} of the interactions share a user's timestamp"
        )
    for table, columns in description["columns"].items():
        print(
            f"  {table}: "
            + ", ".join(
                f"{name} ({c['type']}" + (f", {c['missing']:,} missing" if c["missing"] else "") + ")"
                for name, c in columns.items()
            )
        )
    for note in description["notes"]:
        print(f"  {note}")
    print(f"  tasks: {', '.join(description['tasks']) or 'none'}")
    for line in description["tasks_off"]:
        print(f"  {line}")
    if description["licence"]:
        print(f"  licence: {description['licence']}")
