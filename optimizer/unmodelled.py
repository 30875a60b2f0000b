"""What the site's tariff bills and the model does not reckon with, in words for the notes of each plan."""

from ems.tariff import Tariff


def tariff_notes(tariff: Tariff) -> tuple[str, ...]:
    """One note for each element of the tariff that no cost term of the model stands for."""
    notes = []
    if tariff.minimum_per_month > 0.0:
        notes.append("the minimum charge is held against the part of the month that is over with the plan")
    if tariff.export_credit is not None:
        notes.append("export is credited against what the month costs by the end of the plan, not after it")
    for peak in tariff.contracts.coincident_peaks:
        if peak.windows or any(h.probability_ratio < 1.0 for h in peak.hours):
            notes.append(f"coincident peak {peak.name}: planned by its probability, billed when it occurs")
    return tuple(notes)
