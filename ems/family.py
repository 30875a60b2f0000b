"""A device family as the rest of the program knows it: what it is, and how a device of it is recognised."""

from dataclasses import dataclass

from ems.site import IdentityField, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What a scan needs to know of a device family.

    Parameters
    ----------
    identity : where a device of the family tells what it is, and what it must tell.
    asks : numbers that a site file must give: name -> what it is, with its unit.
    assets : kinds of asset its points may belong to; empty: it has terminals only.
    channels : its terminals, where the site file says which point is wired to which.
    """

    name: str
    device: str
    maker: str
    protocol: Protocol
    identity: tuple[IdentityField, ...]
    assets: tuple[str, ...] = ()
    asks: tuple[tuple[str, str], ...] = ()
    channels: tuple[str, ...] = ()
    is_shipped: bool = True

    @property
    def is_told(self) -> bool:
        """Whether a device says enough of itself to be told from others."""
        return any(f.expected is not None or f.starts is not None or f.one_of for f in self.identity)
