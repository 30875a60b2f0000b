"""What every form of a site file is made of: strict models, ids, names."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

ID_PATTERN = r"^[a-z][a-z0-9_]*$"
PATH_PATTERN = r"^[a-z][a-z0-9_-]*$"
POINT_PATTERN = r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$"
CURRENCY_PATTERN = r"^[A-Z]{3}$"
MONTH_PATTERN = r"^\d{4}-(0[1-9]|1[0-2])$"
USER_PATTERN = r"^[a-z_][a-z0-9_-]{0,31}$"
ENV_PATTERN = r"^[A-Z_][A-Z0-9_]*$"
SCHEMA_PATTERN = r"^[a-z_][a-z0-9_]{0,62}$"
TOPIC_PART_PATTERN = r"^[^+#/$\s][^+#/\s]{0,63}$"
LFDI_PATTERN = r"^[0-9A-Fa-f]{40}$"
TITLE_PATTERN = r"^[0-9A-Fa-f]{16}$"
HEADER_PATTERN = r"^[A-Za-z0-9-]{1,64}$"
SCHEME_PATTERN = r"^[A-Za-z0-9-]{0,32}$"
MEDIA_PATTERN = r"^[a-z0-9.+-]{1,64}/[a-z0-9.+-]{1,64}$"
IN_WORDS = {
    LFDI_PATTERN: "40 hexadecimal digits",
    TITLE_PATTERN: "16 hexadecimal digits",
    HEADER_PATTERN: "the name of a header, such as X-Api-Key",
    SCHEME_PATTERN: "a word such as Bearer, or nothing",
    MEDIA_PATTERN: "a media type in small letters, such as text/json",
    TOPIC_PART_PATTERN: "a part of a topic: at most 64 characters, no + # / or space, no $ first",
    SCHEMA_PATTERN: "lower-case letters, digits and _, at most 63, no digit first",
    ENV_PATTERN: "the name of a variable: capital letters, digits and _",
    USER_PATTERN: "a user name of the operating system: lower-case letters, digits, - and _",
    ID_PATTERN: "lower-case letters, digits and _, a letter first",
    PATH_PATTERN: "lower-case letters, digits, - and _, a letter first",
    POINT_PATTERN: "<asset>.<point>, such as bess1.p_set_kw",
    MONTH_PATTERN: "a month such as 2025-11",
    CURRENCY_PATTERN: "three capital letters, such as USD",
}
Id = Annotated[str, Field(pattern=ID_PATTERN)]
PathId = Annotated[str, Field(pattern=PATH_PATTERN)]
PointId = Annotated[str, Field(pattern=POINT_PATTERN)]
Currency = Annotated[str, Field(pattern=CURRENCY_PATTERN)]
Text = Annotated[str, Field(min_length=1)]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun", "holiday"]
EVERY_DAY: list[Day] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun", "holiday"]
MonthName = Annotated[str, Field(pattern=MONTH_PATTERN)]


class Form(BaseModel):
    """Strict, and closed to keys it does not know."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
