package mms_handler;

import java.util.concurrent.atomic.LongAdder;

/** How many values were at most as large as each of some bounds.  Any thread may add. */
final class Histogram {
    /** Upper bounds of times, in microseconds: from quick models' to slow ones'. */
    static final long[] MICROS = {
        100,
        250,
        500,
        1_000,
        2_500,
        5_000,
        10_000,
        25_000,
        50_000,
        100_000,
        250_000,
        500_000,
        1_000_000,
        2_500_000,
        5_000_000,
        10_000_000,
        30_000_000,
        60_000_000
    };

    /** Upper bounds of how many requests are in a batch. */
    static final long[] REQUESTS = {1, 2, 4, 8, 16, 32, 64, 128};

    /** Upper bounds in units of which one of the page's has {@code perUnit}. */
    final long[] bounds;

    final long perUnit;

    /** One bucket for each bound, and one for what is above the last. */
    private final LongAdder[] buckets;

    private final LongAdder sum = new LongAdder();

    private Histogram(long[] bounds, long perUnit) {
        this.bounds = bounds;
        this.perUnit = perUnit;
        buckets = new LongAdder[bounds.length + 1];
        for (int i = 0; i < buckets.length; i++) {
            buckets[i] = new LongAdder();
        }
    }

    /** Values are microseconds; the page has seconds. */
    static Histogram ofTimes() {
        return new Histogram(MICROS, 1_000_000);
    }

    static Histogram ofBatches() {
        return new Histogram(REQUESTS, 1);
    }

    /** Count a value {@code times} times. */
    void add(long value, long times) {
        int place = 0;
        while (place < bounds.length && value > bounds[place]) {
            place++;
        }
        buckets[place].add(times);
        sum.add(value * times);
    }

    /** How many values each bucket has, alone. */
    long[] counts() {
        long[] counts = new long[buckets.length];
        for (int i = 0; i < counts.length; i++) {
            counts[i] = buckets[i].sum();
        }
        return counts;
    }

    long sum() {
        return sum.sum();
    }
}
