from .datasets import Table, make_table
from .photos import decode_all
from .sources import Listing, list_photos

__all__ = [
    "Listing",
    "Table",
    "decode_all",
    "list_photos",
    "make_table",
]
