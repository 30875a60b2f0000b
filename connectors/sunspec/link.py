"""SunSpec link: one device whose registers are found by its own chain of models, on any Modbus wire."""

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from connectors.link import DeviceLink, Latest, LinkError, NotSent, PointValue, WriteReply, as_decided
from connectors.modbus.registers import EXCEPTIONS, GATEWAY_CODES, PASSING_CODES
from connectors.point_map import PointCodec
from connectors.sunspec.chain import BASES, COMMON, Chain, ChainError, find_base, walk
from connectors.sunspec.control import Asked, revert_value, steps
from connectors.sunspec.definitions import HEADER, model_def
from connectors.sunspec.numbers import Rollover
from connectors.sunspec.places import Key
from connectors.sunspec.reading import Image, Images, ModelPlan, compare, image_of, plan_models
from connectors.sunspec.rows import Row, row_of
from ems.clock import wall_s
from ems.commands import WriteOutcome
from ems.errors import BadValue
from ems.site import SetpointAuthority
from ems.telemetry import Quality

IDENTITY = {"manufacturer": "Mn", "model": "Md", "firmware": "Vr", "serial": "SN"}  # points of model 1
CHAIN = "models"  # what the chain of models is told as, beside these
PERCENT_NOISE = 1e-6  # a whole rating may come out a little above a hundred percent of it


class RegisterWire(DeviceLink, Protocol):
    """A Modbus link of any kind, with no points of its own."""

    registers_max: int  # of one read
    doubts: int  # so many writes of which it was not known what became of them

    async def ask(self, address: int, count: int) -> bytes | int:
        """Registers, or the code of an exception; see `RegisterLink`."""
        ...

    async def put(
        self,
        address: int,
        words: Sequence[int],
        until_s: float,
        latest: Callable[[], Sequence[int]] | None = None,
    ) -> WriteReply:
        """Send registers once; see `RegisterLink`."""
        ...


class SunSpecLink:
    """One SunSpec device.

    The chain is walked at each connection. In every poll each model is read with its id and length in front:
    where they are no longer what the chain said, nothing is believed, and it is walked anew.

    Parameters
    ----------
    codecs : its points, named by model and point.
    wire : the Modbus link underneath.
    authority : setpoints by point id; what they say of silence is set at the device with each write.
    """

    def __init__(
        self,
        codecs: Sequence[PointCodec],
        wire: RegisterWire,
        *,
        authority: Mapping[str, SetpointAuthority],
    ) -> None:
        self._wire, self._authority = wire, authority
        self._rows = {c.point.point: row_of(c) for c in codecs}
        self._rollovers = {
            r.place.text: Rollover() for r in self._rows.values() if r.place.kind.is_accumulator
        }
        self._chain: Chain | None = None
        self._plans: dict[Key, ModelPlan] = {}
        self._faults: dict[Key, str] = {}
        self._first = 0  # of `BASES` that is tried first: where one was not answered, the next

    @property
    def connected(self) -> bool:
        return self._wire.connected

    async def connect(self) -> None:
        self._chain = None
        await self._wire.connect()

    async def disconnect(self) -> None:
        await self._wire.disconnect()

    async def identify(self) -> dict[str, str | None]:
        chain = await self._discover()
        told: dict[str, str | None] = {CHAIN: str(chain), **dict.fromkeys(IDENTITY, "")}
        common, definition = chain.models[0], model_def(COMMON)
        assert definition is not None, "model 1 is published"
        for name, point_name in IDENTITY.items():
            point = definition.top.point(point_name)
            assert point is not None, "and has these points"
            if point.offset + point.size > HEADER + common.length:
                continue
            told[name] = await self._long_text(common.address + point.offset, point.size)
        return told

    async def read(self) -> dict[str, PointValue]:
        doubts = self._wire.doubts
        images = await self._images(list(self._plans) if self._chain is not None else None)
        heard = all(i.fault is not Quality.COMM_FAILED for i in images.values())
        if heard and self._wire.doubts == doubts:
            await self._wire.read()  # it has no points: a write in doubt is read back now
        now_s, out = wall_s(), {}
        for point, row in self._rows.items():
            asked_s = min((images[s.key].asked_s for s in row.spots() if s.key in images), default=now_s)
            out[point] = PointValue(*row.decode(images, self._rollovers), None, now_s - asked_s)
        return out

    async def write(
        self, values: Sequence[tuple[PointCodec, float]], until_s: float, latest: Latest = as_decided
    ) -> list[WriteReply]:
        return [await self._write_one(self._rows[c.point.point], v, until_s, latest) for c, v in values]

    async def _discover(self) -> Chain:
        order = BASES[self._first :] + BASES[: self._first]
        self._first = (self._first + 1) % len(BASES)  # unless this one is found
        base = await find_base(self._words, order)
        self._first = BASES.index(base)
        chain = await walk(self._words, base)
        again = await find_base(self._words, (base,))
        if await walk(self._words, again) != chain:  # made of two: no device ever had it
            raise ChainError("the chain of models changes while it is read")
        self._chain = chain
        spots = [s for row in self._rows.values() for s in row.spots()]
        self._plans, self._faults = plan_models(spots, self._chain, self._wire.registers_max)
        return self._chain

    async def _images(self, keys: Sequence[Key] | None) -> dict[Key, Image]:
        """Read models, all of them where it is not said which; raises LinkError as `read` does."""
        if self._chain is None:
            await self._discover()
        return {key: await self._image(self._plans[key]) for key in (self._plans if keys is None else keys)}

    async def _image(self, plan: ModelPlan) -> Image:
        image, model = image_of(plan.model), plan.model
        before = [(r, await self._wire.ask(model.address + r[0], r[1])) for r in plan.before]
        for start, count in plan.requests:
            got = await self._wire.ask(model.address + start, count)
            if isinstance(got, int):
                image.fault = Quality.COMM_FAILED if got in GATEWAY_CODES else Quality.DEVICE_BAD
                if start == 0:
                    return image  # without its header nothing of a model is believed
                continue
            image.payload[2 * start : 2 * (start + count)] = got
            image.read.append((start, start + count))
            if start == 0 and struct.unpack_from(">HH", got) != (model.key.model, model.length):
                self._chain = None
                await self._wire.disconnect()  # also a write that is on its way is not sent to such registers
                raise LinkError(f"model {model.key} is not at register {model.address} any more")
        behind = [(r, await self._wire.ask(model.address + r[0], r[1])) for r in plan.behind]
        for request, words in (*before, *behind):
            compare(image, request, words)
        return image

    async def _write_one(self, row: Row, value: float, until_s: float, latest: Latest) -> WriteReply:
        """Look at the model first: that it is still there, its scale factors, what is enabled."""
        keys = {s.key for s in row.spots()}
        if missing := [self._faults[k] for k in sorted(keys) if k in self._faults]:
            return WriteReply(WriteOutcome.NOT_SENT, "; ".join(missing))
        try:
            images = await self._images(sorted(keys))
            requests = self._steps(row, value, images)
        except BadValue as error:
            return WriteReply(WriteOutcome.NOT_SENT, str(error))
        except LinkError as error:
            await self._wire.disconnect()
            return WriteReply(WriteOutcome.NOT_SENT, f"nothing was written: {error}")
        reply = WriteReply(WriteOutcome.NOT_SENT, "")
        for done, (address, words) in enumerate(requests):

            def again(done: int = done, address: int = address) -> tuple[int, ...]:
                """Words of this request for the value as it may be sent now."""
                now = self._steps(row, latest(row.codec, value), images)
                if len(now) != len(requests) or now[done][0] != address:
                    raise NotSent("another value takes other requests")
                return now[done][1]

            reply = await self._wire.put(address, words, until_s, again)
            if reply.outcome is not WriteOutcome.CONFIRMED:
                if done and reply.outcome is not WriteOutcome.UNKNOWN:
                    detail = f"{done} of {len(requests)} requests were taken, then: {reply.detail}"
                    return WriteReply(WriteOutcome.UNKNOWN, detail)
                return reply
        return reply

    def _steps(self, row: Row, value: float, images: Images) -> list[tuple[int, tuple[int, ...]]]:
        """The requests of one write: (register, words). Raises BadValue: nothing of it can be sent."""
        point, authority = row.codec.point, self._authority.get(row.codec.point.point)
        amount = self._amount(row, value, images)
        bounds = sorted(self._amount(row, v, images, limit=False) for v in (point.low, point.high))
        revert = None if authority is None else revert_value(authority)
        asked = Asked(
            place=row.place,
            value=amount,
            bounds=(bounds[0], bounds[1]),
            revert=None if revert is None else self._amount(row, revert, images),
            authority=authority if row.control is not None else None,
        )
        model = self._plans[row.place.key].model
        return [(model.address + s.offset, s.words) for s in steps(row.control, asked, images)]

    def _amount(self, row: Row, value: float, images: Images, *, limit: bool = True) -> float:
        """A value of the point in the unit of its register."""
        amount = float(row.codec.to_raw(value))
        if row.percent_of is None:
            return amount
        rating = row.rating(images)
        if isinstance(rating, Quality):
            raise BadValue(f"{row.percent_of.text}: the device tells no rating")
        percent = 100.0 * amount / rating
        if limit and abs(percent) > 100.0 + PERCENT_NOISE:
            what = f"{row.percent_of.text}, which the device says is {rating:g}"
            raise BadValue(f"{row.codec.point.point}: {value:g} is {percent:.4g} % of {what}")
        return percent

    async def _long_text(self, address: int, count: int) -> str:
        """A text in as many requests as it takes; empty where one of them is refused."""
        words = list[int]()
        for start in range(address, address + count, self._wire.registers_max):
            some = await self._words(start, min(self._wire.registers_max, address + count - start))
            if some is None:
                return ""
            words += some
        return _text(words)

    async def _words(self, address: int, count: int) -> tuple[int, ...] | None:
        """Registers, or None where the device says that there are none; raises LinkError as `read` does."""
        got = await self._wire.ask(address, count)
        if isinstance(got, bytes):
            return struct.unpack(f">{count}H", got)
        if got in PASSING_CODES:
            raise LinkError(f"chain of models: exception {got}: {EXCEPTIONS[got]}")
        return None


def _text(words: Sequence[int]) -> str:
    """The text in registers; empty where they hold none."""
    text = struct.pack(f">{len(words)}H", *words).split(b"\0", 1)[0].decode("ascii", "replace").strip()
    return text if text.isprintable() and "�" not in text else ""
