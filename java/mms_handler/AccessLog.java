package mms_handler;

import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.ZoneId;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.atomic.LongAdder;

/**
 * A line of JSON for each request, on standard output. A thread of its own writes them, so that no
 * request waits for whoever reads them; if that is too slow, lines are left out.
 */
final class AccessLog {
    static final boolean ON = !Plugin.ACCESS_LOG.equals("off");

    private static final boolean ERRORS_ONLY = Plugin.ACCESS_LOG.equals("errors");

    /** Entries that wait to be written: a second of the quickest model's. */
    private static final int MOST = 10_000;

    /** Entries of so long are written together, because each write wakes the reader. */
    private static final long PERIOD_MS = 50;

    private static final DateTimeFormatter TIME =
            DateTimeFormatter.ofPattern("yyyy-MM-dd'T'HH:mm:ss.SSSXXX").withZone(ZoneId.systemDefault());

    private static final BlockingQueue<Entry> WAITING = new ArrayBlockingQueue<>(MOST);
    private static final LongAdder LEFT_OUT = new LongAdder();

    private AccessLog() {}

    static void start() {
        if (ON) {
            Thread writer = new Thread(AccessLog::keepWriting, "mms_handler-access");
            writer.setDaemon(true);
            writer.start();
        }
    }

    static void add(Entry entry) {
        entry.endMs = System.currentTimeMillis();
        if ((!ERRORS_ONLY || entry.status >= 400) && !WAITING.offer(entry)) {
            LEFT_OUT.increment();
        }
    }

    private static void keepWriting() {
        try {
            for (; ; Thread.sleep(PERIOD_MS)) {
                write(WAITING.take());
            }
        } catch (InterruptedException e) {
            Plugin.LOG.warn("the access log was interrupted and has ended", e);
        }
    }

    /** Write all that waits; before the end of the process. */
    static void flush() {
        Entry first = WAITING.poll();
        if (first != null) {
            write(first);
        }
    }

    private static synchronized void write(Entry first) {
        List<Entry> entries = new ArrayList<>();
        entries.add(first);
        WAITING.drainTo(entries);
        StringBuilder lines = new StringBuilder(entries.size() * 400);
        entries.forEach(entry -> entry.write(lines));
        byte[] bytes = lines.toString().getBytes(StandardCharsets.US_ASCII);
        synchronized (System.out) {
            System.out.write(bytes, 0, bytes.length);
            System.out.flush();
        }
        long leftOut = LEFT_OUT.sumThenReset();
        if (leftOut > 0) {
            Plugin.LOG.warn("lines of the access log left out, because nobody read them: {}", leftOut);
        }
    }

    /** What a worker did for a request. */
    static final class Work {
        final int worker;
        final int batchSize;
        final long startNs;
        final long endNs;

        /** @param worker its process id */
        Work(int worker, int batchSize, long startNs, long endNs) {
            this.worker = worker;
            this.batchSize = batchSize;
            this.startNs = startNs;
            this.endNs = endNs;
        }
    }

    /** A request and its answer.  What is not known is null, or negative. */
    static final class Entry {
        String method;
        String uri;
        String version;
        String requestId;
        String traceparent;
        int status;
        long bytesIn;
        long bytesOut;
        long totalNs;

        /** When the request had come whole. */
        long readNs;

        Work work;
        private long endMs;

        private void write(StringBuilder line) {
            String level = status < 400 ? "INFO" : status < 500 ? "WARNING" : "ERROR";
            line.append("{\"time\":\"").append(TIME.format(Instant.ofEpochMilli(endMs)));
            line.append("\",\"level\":\"").append(level).append("\",\"source\":\"access\"");
            if (uri != null) {
                field(line, "model", Target.of(uri).model());
            }
            field(line, "version", version);
            if (work != null && work.worker > 0) {
                line.append(",\"worker\":").append(work.worker);
            }
            field(line, "request_id", requestId);
            field(line, "trace_id", traceId());
            field(line, "method", method);
            if (uri != null) {
                field(line, "path", uri.split("\\?", 2)[0]);
            }
            line.append(",\"status\":").append(status);
            line.append(",\"bytes_in\":").append(bytesIn);
            line.append(",\"bytes_out\":").append(bytesOut);
            if (work != null) {
                milliseconds(line, "queue_ms", work.startNs - readNs);
                milliseconds(line, "predict_ms", work.endNs - work.startNs);
            }
            milliseconds(line, "total_ms", totalNs);
            if (work != null) {
                line.append(",\"batch_size\":").append(work.batchSize);
            }
            line.append("}\n");
        }

        /** The first id of a traceparent (W3C Trace Context): 00-TRACE-PARENT-FLAGS. */
        private String traceId() {
            boolean known =
                    traceparent != null
                            && traceparent.matches("[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}.*");
            return known ? traceparent.substring(3, 35) : null;
        }

        private static void field(StringBuilder line, String name, String value) {
            if (value == null || value.isEmpty()) {
                return;
            }
            line.append(",\"").append(name).append("\":\"");
            for (int i = 0; i < value.length(); i++) {
                char c = value.charAt(i);
                if (c == '"' || c == '\\') {
                    line.append('\\').append(c);
                } else if (c < ' ' || c > '~') {
                    line.append(String.format("\\u%04x", (int) c));
                } else {
                    line.append(c);
                }
            }
            line.append('"');
        }

        private static void milliseconds(StringBuilder line, String name, long ns) {
            long us = Math.max(0, ns) / 1000;
            String fraction = String.valueOf(1000 + us % 1000);
            line.append(",\"").append(name).append("\":").append(us / 1000);
            line.append('.').append(fraction, 1, 4);
        }
    }
}
