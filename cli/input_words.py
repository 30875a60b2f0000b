"""Where the inputs of a site come from, and how who tells them is known, in words."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from ems.inputs import InputParams
from ems.site import Site


def read_as(params: InputParams) -> str:
    """How files or answers are read."""
    return params.provider.name or "our own CSV"


def known_by(params: InputParams) -> str:
    """How it is known who tells it, and what it costs where it is not."""
    if params.url is None:
        return "whoever may write into the folder"
    token = "" if params.token_file is None and params.token_env is None else ", with a token"
    if urlsplit(params.url).scheme == "https":
        return f"TLS, {'the authorities of this machine' if params.ca is None else params.ca}{token}"
    return f"PLAIN: whoever is on the way can tell us any {params.kind}{token}"


def input_words(site: Site) -> Iterator[str]:
    """A line for each input."""
    for p in site.inputs:
        yield f"{p.id}: {p.kind} from {p.place} each {p.every_s:g} s, {read_as(p)}; {known_by(p)}"
