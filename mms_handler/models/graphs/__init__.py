"""The graph of a Module or a Block: bound to shapes, run in a Block's place, fused, or in int8."""
