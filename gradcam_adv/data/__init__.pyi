from .datasets import Table, make_table
from .people import People, read_people
from .photos import decode_all
from .sources import Listing, list_photos

__all__ = [
    "Listing",
    "People",
    "Table",
    "decode_all",
    "list_photos",
    "make_table",
    "read_people",
]
