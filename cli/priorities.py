"""How nice each process is to the edge: where cores are short, the edge's cycle goes first (`man 2 nice`)."""

TELEMETRY_NICE = 5  # catches up after an outage as fast as the link takes it
PLANNER_NICE = 5  # a solve takes a whole core for seconds
NORTHBOUND_NICE = 10  # whoever asks us waits for the plant
UTILITY_NICE = 10  # asks its servers a few times a minute at most
INPUTS_NICE = 10  # files and answers that come a few times an hour
ARCHIVE_NICE = 10  # has hours for what it does in seconds
EXPLAINER_NICE = 19  # may take as long as it likes
