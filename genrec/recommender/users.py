"""Users whom a run does not have: what is said of them, and the ids that are like theirs."""

from collections.abc import Collection, Sequence

from .. import store as stores
from ..catalogue.catalogue import most_alike

NEAREST = 3  # ids named beside one that is unknown
NAMED = 10  # unknown users of one request who are named
COMPARED = 20_000  # ids that one is compared with; of more, those beside it in alphabetical order


def close_users(store: stores.Store, dataset: str, user: str, k: int = NEAREST) -> list[str]:
    """The k ids of a data set that are most like one that it does not have."""
    from rapidfuzz import fuzz

    users = stores.some_users(store, dataset, COMPARED + 1)
    if len(users) > COMPARED:
        users = stores.users_beside(store, [dataset], user)
    return [users[n] for n in most_alike(user, users, fuzz.ratio, k)]


def unknown_users(
    store: stores.Store, dataset: str, users: Sequence[str], known: Collection[str], show_users: bool
) -> tuple[str, ...]:
    """A warning for each of some users whom a data set does not know, the first NAMED by id.

    show_users: whether other users' ids may be named beside theirs.
    """
    unknown = [user for user in dict.fromkeys(users) if user not in known]
    warnings = []
    for user in unknown[:NAMED]:
        close = close_users(store, dataset, user) if show_users else []
        near = f"; nearest ids: {', '.join(close)}" if close else ""
        warnings.append(f"user {user} is unknown, so the list is not personal{near}")
    if len(unknown) > NAMED:
        warnings.append(f"{len(unknown) - NAMED:,} more users are unknown")
    return tuple(warnings)
