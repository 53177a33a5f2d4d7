class Base:
    def __init__(self, threshold):
        self.threshold = threshold
