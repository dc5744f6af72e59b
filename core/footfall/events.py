"""Events: the canonical columns of a log and the canonical names of actions."""

USER_ID = "user_id"
ITEM_ID = "item_id"
ACTION = "action"
TIMESTAMP = "timestamp"
EVENT_COLUMNS = (USER_ID, ITEM_ID, ACTION, TIMESTAMP)

TITLE = "title"
CATEGORY = "category"
PRICE = "price"
ITEM_COLUMNS = (ITEM_ID, TITLE, CATEGORY, PRICE)

# The order of a funnel; an action vocabulary lists these first, then any others by name.
FUNNEL = ("view", "click", "favourite", "cart", "purchase")

ACTION_ALIASES = {
    "pv": "view",
    "page_view": "view",
    "detail": "view",
    "fav": "favourite",
    "favorite": "favourite",
    "wishlist": "favourite",
    "addtocart": "cart",
    "add_to_cart": "cart",
    "atc": "cart",
    "buy": "purchase",
    "order": "purchase",
    "transaction": "purchase",
}
"""Spellings found in public logs -> the canonical action; prepare and the server both apply it."""


def canonical_action(action: str) -> str:
    """The action's canonical name: lower case, aliases resolved; an unknown action keeps its own name."""
    name = action.strip().lower()
    return ACTION_ALIASES.get(name, name)
