"""Another master at our setpoints: seen in the read-back, told, and yielded to.

A device that holds a value this edge never wrote has been written to by somebody else. Writes then wait, and
try again once a minute: two masters that write in turns wear out registers and shake the plant. What moves in
the protective direction is written all the same, in each cycle, and so are the safe table and the emergency
stop. A PV limit that is raised again protects nothing, also where a protection says how far. Ramps start from
what the device holds.
"""

from collections.abc import Iterator, Mapping

from dispatch.layout import Layout
from dispatch.state import Written
from dispatch.vocabulary import Alarm
from dispatch.writing.contention_memory import ContentionMemory, Contest
from dispatch.writing.gate import SAFE
from dispatch.writing.outcomes import nearer, slack_of
from ems.commands import Cause, Setpoint
from ems.frozen import replace
from ems.silence import when_silent
from ems.telemetry import Snapshot

AGAIN_S = 60.0  # between two rewrites against the other master
LAG_S = 5.0  # a read-back may be so much older than what was written
KEPT = 16  # values of ours that are remembered: a device that keeps an old one is deaf, not contended
BEFORE_S = -1e9


def yields(layout: Layout, memory: ContentionMemory, s: Setpoint, now_s: float) -> bool:
    """Whether a write of this setpoint waits for the other master."""
    contest = memory.contests.get(s.point)
    if contest is None or s.protective or s.cause in SAFE:
        return False
    if s.cause is Cause.PROTECTION and _may_exceed(layout, memory, s, now_s):
        return False
    return now_s - contest.rewritten_s < AGAIN_S


def _may_exceed(layout: Layout, memory: ContentionMemory, s: Setpoint, now_s: float) -> bool:
    """Whether a device may give more than a protection allows, although what it tells is less.

    A read-back that stands still looks like another master: then it holds what was sent, and goes in silence
    to what the site file says.
    """
    at_s, sent = memory.sent[s.point][-1]
    silent, timeout_s = when_silent(layout.setpoints[s.point], sent)
    soon_silent = now_s - at_s >= max(0.5 * timeout_s, timeout_s - LAG_S)
    return s.value < sent or (soon_silent and s.value < silent)


def watch(
    layout: Layout, memory: ContentionMemory, written: Mapping[str, Written], snapshot: Snapshot
) -> tuple[ContentionMemory, Mapping[str, Written]]:
    """(memory after this snapshot, what the setpoints stand at: what others wrote where they did)."""
    sent: dict[str, tuple[tuple[float, float], ...]] = {}
    contests: dict[str, Contest] = {}
    stand: dict[str, Written] = {}
    held: dict[str, float] = {}
    for point, w in written.items():
        told = snapshot.good.get(point)
        if point not in layout.setpoints or told is None:
            continue
        arrived_s = snapshot.readings[point].arrived_s
        known = memory.sent.get(point, ((BEFORE_S, told),))
        if w.known and w.at_s > known[-1][0]:
            known = _shortened(layout, point, (*known, (w.at_s, w.value)), memory.held.get(point))
        sent[point] = known
        if not w.known:
            continue
        before = memory.contests.get(point)
        stays = before is not None and abs(told - before.value) <= slack_of(layout, point)
        comes = not stays and _on_its_way(layout, point, known, told, arrived_s)
        if comes or _one_of(layout, point, known, told):
            if _is_old(layout, point, known, told, arrived_s):
                held[point] = told
            if before is not None:  # it is over: what the other wrote does not stand any more
                stand[point] = replace(w, value=nearer(known[-1][1], told))
            continue
        rewritten_s = snapshot.monotonic_s if before is None else max(before.rewritten_s, known[-1][0])
        contests[point] = Contest(value=told, rewritten_s=rewritten_s)
        stand[point] = replace(w, value=told)
    memory = ContentionMemory(sent=sent, contests=contests, held=held)
    return memory, {**written, **stand}


def _shortened(
    layout: Layout, point: str, known: tuple[tuple[float, float], ...], held: float | None
) -> tuple[tuple[float, float], ...]:
    """The newest of ours; and the one that a deaf device goes on telling, however long ago it was sent."""
    if len(known) <= KEPT:
        return known
    is_held = held is not None and abs(known[0][1] - held) <= slack_of(layout, point)
    return (known[0], *known[2:]) if is_held else known[1:]


def ours_of(layout: Layout, memory: ContentionMemory, now_s: float) -> dict[str, float]:
    """PV limits that are read back otherwise than sent, with the least that may hold instead.

    That is what was sent; and, for a contest is yielded to, what the device goes to in silence once it has
    waited for us as long as it waits for anybody.
    """
    out: dict[str, float] = {}
    for point in memory.contests:
        if point.endswith(".p_limit_kw"):
            at_s, sent = memory.sent[point][-1]
            silent, timeout_s = when_silent(layout.setpoints[point], sent)
            out[point] = min(sent, silent) if now_s - at_s >= timeout_s - LAG_S else sent
    return out


def contention_alarms(memory: ContentionMemory) -> Iterator[Alarm]:
    """One for each setpoint that somebody else holds, or whose device keeps an older value of ours."""
    for point, contest in memory.contests.items():
        ours = memory.sent[point][-1][1]
        text = f"{point} holds {contest.value:g}, which this edge did not write ({ours:g})"
        yield Alarm(code="setpoint.contention", asset=point, text=text)
    for point, told in memory.held.items():
        newest = memory.sent[point][-1][1]
        text = f"{point} still holds {told:g}: {newest:g} was acknowledged and is not taken"
        yield Alarm(code="setpoint.not_taken", asset=point, text=text)


def _is_old(
    layout: Layout, point: str, sent: tuple[tuple[float, float], ...], value: float, arrived_s: float
) -> bool:
    """Whether a device holds an older value of ours than the newest it had when it told.

    It lags, is deaf, was started anew, or another master sent what we had sent once: a ramp that goes on from
    the newest would be a step for it.
    """
    slack = slack_of(layout, point)
    newest_s, newest = sent[-1]
    if newest_s < arrived_s and abs(newest - value) <= slack:
        return False
    had = [v for at_s, v in sent if at_s < arrived_s]
    return abs(had[-1] - value) > slack and any(abs(v - value) <= slack for v in had) if had else False


def _one_of(layout: Layout, point: str, sent: tuple[tuple[float, float], ...], value: float) -> bool:
    """Whether a value read back is one of those that were sent."""
    slack = slack_of(layout, point)
    return any(abs(v - value) <= slack for _, v in sent)


def _on_its_way(
    layout: Layout, point: str, sent: tuple[tuple[float, float], ...], value: float, arrived_s: float
) -> bool:
    """Whether a value read back is between one of ours and the next, soon after that was sent.

    Not asked of the value that another master held before our last rewrite: it is still that one's.
    """
    slack = slack_of(layout, point)
    recent = [v for at_s, v in sent if at_s >= arrived_s - LAG_S]
    older = [v for at_s, v in sent if at_s < arrived_s - LAG_S]
    hull = recent + older[-1:]
    return min(hull) - slack <= value <= max(hull) + slack
