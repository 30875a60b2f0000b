"""Alarms of an edge whose files cannot be written or read: it goes on, and people hear of it here."""

from collections.abc import Mapping

from dispatch.vocabulary import Alarm


def unwritten(history: str | None, *, standing_kept: bool) -> tuple[Alarm, ...]:
    """One alarm for everything that is not on the disk.

    Parameters
    ----------
    history : what is wrong with the historian's file; None: nothing.
    standing_kept : a restart would find the orders that stand now.
    """
    orders = None if standing_kept else "what people have ordered would not outlive a restart"
    told = [text for text in (history, orders) if text is not None]
    return (Alarm(code="records.unwritten", text="; ".join(told)),) if told else ()


def trouble(failing: Mapping[str, str], certificates: Mapping[str, str]) -> tuple[Alarm, ...]:
    """What keeps people from being heard, and what will keep devices from being connected to."""
    return (*deaf(failing), *ending(certificates))


def deaf(failing: Mapping[str, str]) -> tuple[Alarm, ...]:
    """One alarm for everything that keeps people from being heard: it is one disk, or one user database."""
    text = "; ".join(f"{place}: {why}" for place, why in failing.items())
    return (Alarm(code="edge.desk.failing", text=text),) if text else ()


def ending(certificates: Mapping[str, str]) -> tuple[Alarm, ...]:
    """One alarm for each connection with a certificate that ends soon, or has ended."""
    return tuple(
        Alarm(code="device.certificate.expires", asset=connection, text=text)
        for connection, text in certificates.items()
    )
