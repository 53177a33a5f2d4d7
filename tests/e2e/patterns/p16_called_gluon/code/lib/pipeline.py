STEPS = [1, 2, 3]
