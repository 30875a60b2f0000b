"""Which tests run one after another in one process where several run at a time (`-n 2 --dist loadscope`)."""

import re

from xdist.scheduler import LoadScopeScheduling

# Tests of several files that look at the same run, which is long, or at all parsed modules.
_ONE_RUN = (
    (re.compile(r"tests/architecture"), "the tree"),
    (re.compile(r"tests/e2e/test_readme\.py.*_beside_the_demo"), "documents"),
    (re.compile(r"tests/e2e/(test_(demo|readme|real_time)\.py|test_determinism\.py.*demo)"), "demo day"),
    (re.compile(r"tests/e2e/(test_kills\.py.*api|test_determinism\.py.*socket_run)"), "the quiet run"),
)
_APART = re.compile(r"tests/unit/optimizer")  # each for itself: they are long, and share nothing


def group_of(nodeid: str) -> str:
    """The group of a test: those of a run, or its file, or itself."""
    for pattern, name in _ONE_RUN:
        if pattern.match(nodeid):
            return name
    return nodeid if _APART.match(nodeid) else nodeid.partition("::")[0]


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]
    """Hands out whole groups, the ones with most tests first."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)
