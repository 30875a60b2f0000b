"""The planner: a MILP over the horizon, solved by HiGHS and replayed before use."""
