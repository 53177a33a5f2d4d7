"""Living with MMS: its time limit, its sockets, its log, its metrics and its reply frame."""
