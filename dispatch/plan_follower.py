"""Makes a plan real: follows it and corrects inside the interval; rules when there is none to follow."""

from dataclasses import dataclass, field

from dispatch.rules import Rules
from dispatch.vocabulary import Context, Controller, ControlMemory, Targets


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFollower:
    """Follows the accepted plan; hands over to `fallback` when the context has none."""

    fallback: Controller = field(default_factory=Rules)
    name: str = "plan"

    def decide(self, context: Context) -> tuple[Targets, ControlMemory]:
        """Wishes for this cycle, before the protections common to all controllers."""
        raise NotImplementedError
