"""Presets: which columns of a known shop log play which role, and how to tell such a log by its columns."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal

from footfall import events
from footfall.contract import DEFAULT_ACTION
from footfall.errors import InputError, check_choice, shortened

FoundBy = Literal["option", "columns"]


@dataclass(frozen=True)
class Preset:
    """A known log. Every role lists the names its column goes by; the first that is there is taken.

    `signatures`: sets of columns, each enough to recognise the log. `headerless`: the columns of its files
    that come without a header line, separated by one of `headerless_separators`.
    """

    name: str
    user: tuple[str, ...]
    item: tuple[str, ...]
    time: tuple[str, ...]
    action: tuple[str, ...] = ()
    title: tuple[str, ...] = ()
    category: tuple[str, ...] = ()
    price: tuple[str, ...] = ()
    invoice: tuple[str, ...] = ()
    quantity: tuple[str, ...] = ()
    signatures: tuple[frozenset[str], ...] = ()
    headerless: tuple[str, ...] = ()
    headerless_separators: tuple[str, ...] = (",", ";", "|")
    default_action: str = DEFAULT_ACTION
    robot_events_per_minute: int = 60


@dataclass(frozen=True)
class Columns:
    """The log's column for each role; None where it has none. `invoice` and `quantity` tell cancellations:
    an invoice that starts with C, a negative quantity.
    """

    user: str
    item: str
    time: str
    action: str | None = None
    title: str | None = None
    category: str | None = None
    price: str | None = None
    invoice: str | None = None
    quantity: str | None = None

    def named(self) -> dict[str, str]:
        """Role -> column, without the roles the log does not fill."""
        roles = {role: getattr(self, role) for role in ROLES}
        return {role: column for role, column in roles.items() if column is not None}


ROLES = tuple(field.name for field in fields(Columns))
REQUIRED_ROLES = ("user", "item", "time")

FOOTFALL = Preset(
    name="footfall",
    user=(events.USER_ID,),
    item=(events.ITEM_ID,),
    time=(events.TIMESTAMP,),
    action=(events.ACTION,),
    title=(events.TITLE,),
    category=(events.CATEGORY,),
    price=(events.PRICE,),
    signatures=(frozenset({events.USER_ID, events.ITEM_ID, events.TIMESTAMP}),),
)

# The most telling signatures first: a Taobao log also has the columns of FOOTFALL.
PRESETS = (
    Preset(
        name="retailrocket",
        user=("visitorid",),
        item=("itemid",),
        time=("timestamp",),
        action=("event",),
        signatures=(frozenset({"visitorid", "itemid", "timestamp"}),),
    ),
    Preset(
        name="online-retail",
        user=("CustomerID", "Customer ID"),
        item=("StockCode",),
        time=("InvoiceDate",),
        title=("Description",),
        price=("UnitPrice", "Price"),
        invoice=("InvoiceNo", "Invoice"),
        quantity=("Quantity",),
        signatures=(
            frozenset({"CustomerID", "StockCode", "InvoiceDate"}),
            frozenset({"Customer ID", "StockCode", "InvoiceDate"}),
        ),
        default_action="purchase",
        robot_events_per_minute=0,  # one order of 100 lines has 100 events in its minute
    ),
    Preset(
        name="taobao",
        user=("user_id",),
        item=("item_id",),
        time=("timestamp",),
        action=("behavior", "behavior_type", "behaviour"),
        category=("category_id", "item_category"),
        signatures=(frozenset({"user_id", "item_id", "behavior"}),),
        headerless=("user_id", "item_id", "category_id", "behavior", "timestamp"),
    ),
    Preset(
        name="movielens",
        user=("user_id:token", "userId"),
        item=("item_id:token", "movieId"),
        time=("timestamp:float", "timestamp"),
        title=("movie_title:token_seq", "title"),
        category=("class:token_seq", "genre:token_seq", "genres"),
        signatures=(frozenset({"user_id:token", "item_id:token"}), frozenset({"userId", "movieId"})),
        headerless=("userId", "movieId", "rating", "timestamp"),
        headerless_separators=("\t", "::"),
        robot_events_per_minute=0,  # people rate whole pages of films within a minute
    ),
    Preset(
        name="amazon",
        user=("reviewerID", "user_id"),
        item=("parent_asin", "asin", "item_id"),
        time=("unixReviewTime", "timestamp"),
        category=("main_category", "categories", "main_cat"),
        price=("price",),
        signatures=(frozenset({"reviewerID", "asin"}), frozenset({"user_id", "parent_asin"})),
        headerless=("user_id", "parent_asin", "rating", "timestamp"),
        default_action="purchase",
        robot_events_per_minute=0,  # stamps of whole days
    ),
    FOOTFALL,
)
PRESET_NAMES = tuple(preset.name for preset in PRESETS)

# What else the columns of an item table are called, in the logs above and elsewhere.
ITEM_TABLE_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "item": ("item_id", "parent_asin", "asin", "itemid", "movieId", "StockCode", "item_id:token"),
    "title": ("title", "text_id", "name", "Description", "movie_title:token_seq"),
    "category": ("category", "main_category", "categories", "category_id", "genres", "class:token_seq"),
    "price": ("price", "UnitPrice"),
}


def preset_named(name: str) -> Preset:
    """Raises InputError, listing the known ones, where there is no such preset."""
    check_choice("preset", name, PRESET_NAMES)
    return PRESETS[PRESET_NAMES.index(name)]


def preset_of_columns(found: Sequence[str]) -> Preset | None:
    """The first preset one of whose signatures is among the columns `found`, by their exact names if by any."""
    for written in (str, loosely):
        names = {written(name) for name in found}
        for preset in PRESETS:
            if any({written(name) for name in signature} <= names for signature in preset.signatures):
                return preset
    return None


def loosely(name: str) -> str:
    """A column's name without what tools change of it: User_ID, userId and "user id" are one."""
    return re.sub(r"[\s_-]", "", name.casefold())


def column_of(candidates: Sequence[str], found: Sequence[str], source: str) -> str | None:
    """The column of `source` that goes by one of the names: by an exact one if there is one, else loosely.

    Raises InputError where that is two columns.
    """
    for written in (str, loosely):
        for name in candidates:
            alike = [column for column in found if written(column) == written(name)]
            alike += [column for column in found if alike and column == f"{alike[0]} (2)"]
            if len(alike) > 1:
                raise InputError(
                    f"{source} has {column_list(alike)}, of which only one can be the column {name}"
                )
            if alike:
                return alike[0]
    return None


def column_list(found: Sequence[str]) -> str:
    """The columns found, for a sentence."""
    return shortened(", ".join(found), 400)


def choose_preset(
    name: str | None, overrides: Mapping[str, str], found: Sequence[str], source: str
) -> tuple[Preset, FoundBy]:
    """The preset named, else the one the columns tell, else FOOTFALL where options name the columns.

    Raises InputError, naming `source`, where none of these says which columns to read.
    """
    if name is not None:
        return preset_named(name), "option"
    detected = preset_of_columns(found)
    if detected is not None:
        return detected, "columns"
    if overrides:
        return FOOTFALL, "option"
    if {loosely(name) for name in found} & {loosely(name) for name in events.EVENT_COLUMNS}:
        return FOOTFALL, "columns"
    raise InputError(
        f"no preset knows the columns of {source}: {column_list(found)}; name them with --user-column, "
        f"--item-column and --time-column, or a preset with --preset: {', '.join(PRESET_NAMES)}"
    )


def resolve_columns(
    preset: Preset,
    overrides: Mapping[str, str],
    found: Sequence[str],
    source: str,
    item_table_columns: Sequence[str] = (),
) -> Columns:
    """The column of each role: the option's in `overrides` (by role), else the preset's first that is there.

    Raises InputError naming the columns found in `source` where one that must be there is not; a column of
    the item table need not be.
    """
    chosen: dict[str, str] = {}
    for role in ROLES:
        named = overrides.get(role)
        candidates = getattr(preset, role) if named is None else (named,)
        column = column_of(candidates, found, source)
        if column is not None:
            chosen[role] = column
        elif role in REQUIRED_ROLES or (named is not None and named not in item_table_columns):
            raise InputError(
                f"{source} has no {role} column {' or '.join(candidates)}; it has {column_list(found)} "
                f"(name it with --{role}-column)"
            )
    return Columns(**chosen)
