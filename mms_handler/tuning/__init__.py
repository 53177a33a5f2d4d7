"""Find the settings with which a model answers the most requests within limits.

space ──▶ search ──▶ Trials ──▶ a server for each candidate, measured by bench
            │          └──▶ State: a line for each trial, for a run that was ended
            └──▶ confirm: the best beside the defaults, in turn ──▶ Verdict
"""
