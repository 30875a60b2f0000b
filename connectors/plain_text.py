"""Text of devices and servers, before it is shown or recorded."""


def plain(text: str, longest: int) -> str:
    """Cut to a length, with a question mark for each character that is not shown: a terminal obeys some."""
    return "".join(c if c.isprintable() else "?" for c in text[:longest])
