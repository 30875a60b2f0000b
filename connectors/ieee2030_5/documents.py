"""XML of IEEE 2030.5: what comes is weighed before it is read, what goes is in the order of the schema.

The models are those of py20305, made from the schema of the standard. Its own reader repairs what is broken
(half a document is taken for a whole one) and lets values through that are of no type of the schema; so a
document is first looked through by expat, then read by the same models with nothing repaired and nothing
unknown let through: docs/decisions/0016-ieee2030-5-models-only.md.
"""

from typing import Any, TypeVar
from xml.parsers import expat

from connectors.ieee2030_5.package import package_fault
from connectors.utility.asker import NotBelieved
from ems.errors import EmsError

BYTES_MAX = 2_000_000
DEPTH_MAX = 16
ELEMENTS_MAX = 50_000
ATTRIBUTES_MAX = 32
TEXT_MAX = 4096
NAMESPACE = "urn:ieee:std:2030.5:ns"
CSIP_AUS = "https://csipaus.org/ns"  # the versions of its name space begin so
SPACE_MAX = 60
LISTS = ("List", "MirrorUsagePoint", "FunctionSetAssignments")  # in them an element may come again

T = TypeVar("T")


class BadDocument(NotBelieved):
    """What came is no document of the standard, or none that is believed; says why."""


class _Weighing:
    """Looks a document through, once, without keeping any of it."""

    def __init__(self) -> None:
        self.expat = expat.ParserCreate(namespace_separator=" ")
        self.expat.StartNamespaceDeclHandler = self._space
        self.expat.StartElementHandler = self._start
        self.expat.EndElementHandler = self._end
        self.expat.CharacterDataHandler = self._text
        self.expat.StartDoctypeDeclHandler = self._doctype
        self.expat.EntityDeclHandler = self._doctype
        self.expat.ProcessingInstructionHandler = self._instruction
        self._open: list[tuple[str, set[str]]] = []
        self._elements = self._letters = 0
        self.root = self.csip_aus = ""

    def _space(self, prefix: str | None, uri: str | None) -> None:
        if uri is not None and uri.startswith(CSIP_AUS) and len(uri) <= SPACE_MAX:
            self.csip_aus = uri

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        self._letters = 0
        if self._elements > ELEMENTS_MAX:
            raise BadDocument(f"more than {ELEMENTS_MAX} elements")
        if len(self._open) >= DEPTH_MAX:
            raise BadDocument(f"elements deeper than {DEPTH_MAX}")
        if len(attributes) > ATTRIBUTES_MAX or any(len(v) > TEXT_MAX for v in attributes.values()):
            raise BadDocument(f"more than {ATTRIBUTES_MAX} attributes, or one longer than {TEXT_MAX}")
        if self._open:
            parent, before = self._open[-1]
            if name in before and not parent.endswith(LISTS):
                raise BadDocument(f"{_shown(name)} twice in {_shown(parent)}")
            before.add(name)
        else:
            self.root = name
        self._open.append((name, set()))

    def _end(self, name: str) -> None:
        self._open.pop()
        self._letters = 0

    def _text(self, data: str) -> None:
        self._letters += len(data)
        if self._letters > TEXT_MAX:
            raise BadDocument(f"a text longer than {TEXT_MAX}")

    def _doctype(self, *told: object) -> None:
        raise BadDocument("a document type or an entity of its own, which the standard has none of")

    def _instruction(self, target: str, data: str) -> None:
        raise BadDocument("a processing instruction, which the standard has none of")


def _shown(name: str) -> str:
    """The local name, as far as it is short."""
    return name.rpartition(" ")[2][:60]


def weigh(raw: bytes, root: str) -> str:
    """Whether a document may be read: sound, of one root, not too large, deep or long, nothing declared.

    Gives the name space of CSIP-AUS that it names; "": none.

    Raises
    ------
    BadDocument : it may not.
    """
    if len(raw) > BYTES_MAX:
        raise BadDocument(f"{len(raw)} bytes; allowed: {BYTES_MAX}")
    weighing = _Weighing()
    try:
        weighing.expat.Parse(raw, True)
    except expat.ExpatError as error:
        raise BadDocument(f"no sound XML: {error}") from None
    except (ValueError, LookupError, MemoryError) as error:  # encodings that are none, or not to be had
        raise BadDocument(f"no sound XML: {type(error).__name__}") from None
    if weighing.root != f"{NAMESPACE} {root}":
        raise BadDocument(f"found {_shown(weighing.root)}; allowed: {root} of {NAMESPACE}")
    return weighing.csip_aus


class Documents:
    """Reads and writes documents by the models of the standard; loads them when it is made.

    Raises
    ------
    EmsError : the package is not there, or another version.
    """

    def __init__(self) -> None:
        if fault := package_fault():
            raise EmsError(f"IEEE 2030.5: {fault}")
        import py20305.models.csipaus.csipaus_ext  # the reader knows the limits of CSIP-AUS by it  # noqa: F401
        from py20305.models.sep import sep
        from py20305.xml.serialization import to_xml
        from xsdata.formats.dataclass.parsers.config import ParserConfig
        from xsdata.formats.dataclass.parsers.handlers import XmlEventHandler
        from xsdata_pydantic.bindings import XmlContext, XmlParser

        self.sep: Any = sep
        context = XmlContext()
        base = context.build(sep.DercontrolBase)
        # Fields of a control base and the elements they stand for; extensions have their names with them.
        self.modes = {
            v.name: v.local_name
            for v in base.get_all_vars()
            if not v.name.endswith("_r2_3") and v.name not in ("other_element", "any_attributes")
        }
        self._to_xml = to_xml
        self._csip_aus = CSIP_AUS
        strict = ParserConfig(
            fail_on_unknown_properties=True, fail_on_unknown_attributes=False, fail_on_converter_warnings=True
        )
        self._reader: Any = XmlParser(context=context, config=strict, handler=XmlEventHandler)

    def read(self, raw: bytes, model: Any) -> Any:
        """A document as the model of its root.

        Raises
        ------
        BadDocument : it is not believed.
        """
        root = str(getattr(getattr(model, "Meta", None), "name", None) or model.__name__)
        self._csip_aus = weigh(raw, root) or self._csip_aus
        try:
            return self._reader.from_bytes(raw, model)
        except (ValueError, TypeError, ArithmeticError, LookupError, AttributeError) as error:
            text = " ".join(str(error).split())[:160]
            raise BadDocument(f"no {root} of the standard: {text}") from None

    def write(self, document: Any) -> bytes:
        """A model as XML in the order of the schema, with the name space of CSIP-AUS that the server has."""
        raw: bytes = self._to_xml(document, include_csipaus=True, server_2018_compat=True)
        return raw.replace(f'"{CSIP_AUS}"'.encode(), f'"{self._csip_aus}"'.encode())
