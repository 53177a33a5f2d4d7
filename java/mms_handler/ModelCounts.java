package mms_handler;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReferenceArray;
import java.util.concurrent.atomic.LongAdder;

/** What one model has done, for its metrics.  Any thread may add; none waits for another. */
final class ModelCounts {
    /** A script may answer with any status; those beyond this number share a place. */
    private static final int MOST_STATUSES = 24;

    private static final int STATUSES = 600;

    /** The place of statuses that are none, or too many. */
    private static final int OTHER = 0;

    /** The times of all answers, by status. */
    private final AtomicReferenceArray<Histogram> answers = new AtomicReferenceArray<>(STATUSES);

    private final AtomicInteger statuses = new AtomicInteger();

    /** How long requests waited for a worker. */
    final Histogram queue = Histogram.ofTimes();

    /** How long the batches of requests were in each phase; each request of a batch counts. */
    final Histogram decode = Histogram.ofTimes();

    final Histogram predict = Histogram.ofTimes();
    final Histogram encode = Histogram.ofTimes();
    final Histogram[] phases = {decode, predict, encode};

    /** How many requests workers got together. */
    final Histogram batches = Histogram.ofBatches();

    /** Nanoseconds that workers had a batch. */
    final LongAdder busyNs = new LongAdder();

    final LongAdder requestBytes = new LongAdder();
    final LongAdder responseBytes = new LongAdder();

    /** Count an answer, and how long it took from the request's last byte. */
    void answered(int status, long ns) {
        int place = status < 100 || status >= STATUSES ? OTHER : status;
        Histogram times = answers.get(place);
        if (times == null) {
            times = added(place);
        }
        times.add(TimeUnit.NANOSECONDS.toMicros(ns), 1);
    }

    private Histogram added(int status) {
        boolean room = statuses.get() < MOST_STATUSES && statuses.getAndIncrement() < MOST_STATUSES;
        int place = room ? status : OTHER;
        answers.compareAndSet(place, null, Histogram.ofTimes());
        return answers.get(place);
    }

    /** The labels of the statuses that were answered. */
    List<String> statuses() {
        List<String> labels = new ArrayList<>();
        for (int i = 0; i < STATUSES; i++) {
            if (answers.get(i) != null) {
                labels.add(i == OTHER ? "other" : String.valueOf(i));
            }
        }
        return labels;
    }

    Histogram answers(String label) {
        return answers.get(label.equals("other") ? OTHER : Integer.parseInt(label));
    }
}
