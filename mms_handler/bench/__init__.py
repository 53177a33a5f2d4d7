"""Measure how fast a server answers: closed and open loops, with every reply checked.

target ──▶ Order ──▶ generator processes ──▶ Reports ──▶ Result ──▶ table, JSON, picture, page
           (load)      sockets ──▶ server      (runs)
"""
