"""What the site's tariff bills and the model does not reckon with, in words for the notes of each plan."""

from ems.tariff import Tariff


def tariff_notes(tariff: Tariff) -> tuple[str, ...]:
    """One note for each element of the tariff that no cost term of the model stands for."""
    notes = []
    if tariff.minimum_per_month > 0.0:
        notes.append("the minimum charge is billed but not in the plan: below it energy may cost nothing")
    return tuple(notes)
