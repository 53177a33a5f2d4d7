"""Graphs of Modules and Blocks: bound, in a Block's place, faster, and in eight bits."""
