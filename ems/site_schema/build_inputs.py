"""Inputs of a site file with the provider of each become what the connectors read them by."""

from zoneinfo import ZoneInfo

from ems.input_rules import house_provider
from ems.inputs import (
    Certainty,
    InputColumn,
    InputKind,
    InputParams,
    OutageColumns,
    PriceTerms,
    Provider,
)
from ems.site_schema.checks_inputs import column_unit, protection_of, unit_factor
from ems.site_schema.draft import Draft
from ems.site_schema.forms_inputs import InputForm, PriceTermsForm, ProviderForm

FOLDER_EVERY_S, URL_EVERY_S = 10.0, 900.0
_AGE_S_MAX = {"weather": 12 * 3600.0, "forecast": 6 * 3600.0, "price": 36 * 3600.0}  # unless it is said


def input_params(draft: Draft) -> tuple[InputParams, ...]:
    """In the order of the file: the first that tells something counts."""
    return tuple(_params(draft, input_id, form) for input_id, form in draft.inputs.items())


def _params(draft: Draft, input_id: str, form: InputForm) -> InputParams:
    kind = InputKind(form.kind)
    provider = draft.providers.get(input_id)
    every_s = URL_EVERY_S if form.folder is None else FOLDER_EVERY_S
    return InputParams(
        id=input_id,
        kind=kind,
        provider=house_provider(kind) if provider is None else _provider(draft, provider),
        folder=form.folder,
        url=form.url,
        every_s=every_s if form.every_s is None else form.every_s,
        timeout_s=form.timeout_s,
        bytes_max=form.bytes_max,
        protection=protection_of(form),
        ca=form.ca,
        token_file=form.token_file,
        token_env=form.token_env,
        auth_header=form.auth_header,
        auth_scheme=form.auth_scheme,
        age_s_max=_AGE_S_MAX.get(form.kind) if form.age_s_max is None else form.age_s_max,
        ahead_s_min=form.ahead_s_min,
        price_min_per_kwh=form.price_min_per_kwh,
        price_max_per_kwh=form.price_max_per_kwh,
        import_terms=_terms(form.import_),
        export_terms=_terms(form.export),
        certainty_min=Certainty.LIKELY if form.certainty_min is None else Certainty(form.certainty_min),
        complete=form.complete,
        mains_back_s=form.mains_back_s,
    )


def _terms(form: PriceTermsForm | None) -> PriceTerms | None:
    return None if form is None else PriceTerms(factor_ratio=form.factor, add_per_kwh=form.add_per_kwh)


def _provider(draft: Draft, form: ProviderForm) -> Provider:
    outage = form.outage
    return Provider(
        name=form.provider,
        kind=InputKind(form.kind),
        body=form.body,
        shape=form.shape,
        rows=form.rows,
        time=form.time.at,
        time_form=form.time.form,
        zone=None if form.time.zone is None else ZoneInfo(form.time.zone),
        step_s=form.time.step_s,
        issued=form.issued,
        columns=tuple(
            InputColumn(
                series=name,
                at=c.at,
                unit=column_unit(draft, name),
                scale=c.scale * unit_factor(draft, name, c),
                offset=c.offset,
                at_end=c.times == "end",
            )
            for name, c in form.columns.items()
        ),
        expect=dict(form.expect),
        outage=None
        if outage is None
        else OutageColumns(
            id=outage.id,
            start=outage.from_,
            end=outage.until,
            issued_at=outage.issued_at,
            status=outage.status,
            reason=outage.reason,
            words=dict(outage.words),
        ),
        delimiter=form.delimiter,
        decimal=form.decimal,
    )
