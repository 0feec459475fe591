"""Roles under the black-box attack: which row of the paper's tables a network is compared with."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pandas as pd

from gradcam_adv.paper import printed

# The attack is made on the source; a sibling is of its family; to all others it is transferred.
SOURCE, SIBLING, TRANSFER = "source", "sibling", "transfer"


def role(network: str, source: str) -> str:
    """The role of a network, if the attack is made on ``source``.

    Example:
        >>> [role(network, "resnet50") for network in ("resnet50", "resnet101", "vgg16")]
        ['source', 'sibling', 'transfer']
    """
    if network == source:
        return SOURCE
    return SIBLING if _family(network) == _family(source) else TRANSFER


def _family(network: str) -> str:
    return re.split(r"\d", network)[0]


def counterparts(network: str, source: str) -> list[str]:
    """The networks of the paper in this network's role: itself, if it is one of them.

    Example:
        >>> counterparts("vgg16", "xception"), counterparts("xception", "xception")
        (['vgg16'], ['resnet50'])
    """
    own = role(network, source)
    found = [name for name in (*printed.DEEP, *printed.WIDE) if role(name, printed.SOURCE) == own]
    return [network] if network in found else found


def in_paper(table: pd.DataFrame, networks: Iterable[str], source: str) -> pd.DataFrame:
    """A printed table, by epsilon and network, as it is compared with these networks.

    The column of a network is that of its counterpart, or the mean of several.
    """
    columns = {network: table[counterparts(network, source)].mean(axis=1) for network in networks}
    return pd.DataFrame(columns, index=table.index)
