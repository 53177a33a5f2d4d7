package mms_handler;

import io.netty.buffer.ByteBuf;
import io.netty.handler.codec.http.FullHttpResponse;
import io.netty.handler.codec.http.HttpHeaderNames;
import io.netty.handler.codec.http.HttpHeaders;
import io.netty.handler.codec.http.HttpMethod;
import io.netty.handler.codec.http.HttpRequest;
import io.netty.handler.codec.http.HttpResponse;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.LongAdder;

/**
 * Keeps a share of the predictions with their replies, in files.  Each is copied while it passes, and
 * a thread of its own writes the copies.  What does not fit into the memory for copies is dropped, so
 * no request ever waits for a disk.
 */
final class Capture {
    /** Whether requests may be captured. */
    static final boolean ON = Plugin.CAPTURE != null;

    /** Predictions that were written. */
    static final LongAdder WRITTEN = new LongAdder();

    /** Predictions that were to be written, and were not. */
    static final LongAdder DROPPED = new LongAdder();

    /** What the copies may take together: at most a sixteenth of the heap, as it may be needed. */
    private static final long MOST_BYTES =
            Plugin.CAPTURE_BUFFER_MB == null
                    ? Math.min(64 << 20, Runtime.getRuntime().maxMemory() / 16)
                    : (long) Plugin.CAPTURE_BUFFER_MB << 20;

    /** Bytes of a copy beside its bodies. */
    private static final int OVERHEAD = 1024;

    /** The writer looks so often: each write takes what has come meanwhile. */
    private static final long PERIOD_MS = 50;

    private static final long LOG_PERIOD_NS = TimeUnit.SECONDS.toNanos(10);

    private static final AtomicLong BYTES = new AtomicLong();
    private static final ConcurrentLinkedQueue<Capture> WAITING = new ConcurrentLinkedQueue<>();

    /** False once writing has failed. */
    private static volatile boolean works = true;

    private static long logged;
    private static long loggedAtNs;
    private static CaptureFiles files;

    final long startMs = System.currentTimeMillis();
    final Body input;
    final List<String> headers = new ArrayList<>();
    final String model;
    Body output;
    String version;
    String requestId;
    String inferenceId;
    int status;
    long latencyNs;
    private long bytes;
    private boolean dropped;

    private Capture(HttpRequest request, String model, String type) {
        this.model = model;
        input = new Body(type);
        for (String name : CaptureLine.HEADERS) {
            String value = request.headers().get(name);
            if (value != null) {
                headers.add(name);
                headers.add(value);
            }
        }
        inferenceId = request.headers().get("X-Amzn-SageMaker-Inference-Id");
        reserve(OVERHEAD);
    }

    /** A body and its type. */
    static final class Body {
        /** Null if there is none. */
        final String type;

        private byte[] bytes = {};
        private int length;

        /** Whether it may be written. */
        boolean kept = true;

        Body(String type) {
            this.type = type == null ? null : type.trim(); // MMS adds a blank
        }

        byte[] bytes() {
            return bytes;
        }

        int length() {
            return length;
        }

        private void add(ByteBuf part, int more) {
            if (length + more > bytes.length) {
                int room = length == 0 ? more : Math.max(length + more, 2 * length);
                bytes = Arrays.copyOf(bytes, room);
            }
            part.getBytes(part.readerIndex(), bytes, length, more);
            length += more;
        }
    }

    // --- while requests pass ---

    /** Begin to keep a request; null for one that is not to be kept. */
    static Capture begin(HttpRequest request) {
        if (!works || ThreadLocalRandom.current().nextDouble() >= Plugin.CAPTURE_SHARE) {
            return null;
        }
        Target target = Target.of(request.uri());
        String model = target.model();
        if (model == null || target.isInference() || !request.method().equals(HttpMethod.POST)) {
            return null; // tensors of the Open Inference Protocol are no bodies of a model
        }
        String type = request.headers().get(HttpHeaderNames.CONTENT_TYPE);
        boolean kept = isChosen(type == null ? "application/json" : type);
        return kept ? new Capture(request, model, type) : null;
    }

    private static boolean isChosen(String type) {
        if (Plugin.CAPTURE_TYPES == null) {
            return true;
        }
        return Plugin.CAPTURE_TYPES.contains(type.split(";", 2)[0].trim().toLowerCase());
    }

    /** A part of the request's body. */
    void add(ByteBuf part) {
        keep(input, part);
    }

    private void keep(Body body, ByteBuf part) {
        int more = part.readableBytes();
        if (!dropped && reserve(more)) {
            body.add(part, more);
        }
    }

    /** Take room for so many bytes; without room the whole is dropped. */
    private boolean reserve(int more) {
        bytes += more;
        if (BYTES.addAndGet(more) > MOST_BYTES) {
            DROPPED.increment();
            release();
        }
        return !dropped;
    }

    /** It is answered; the writer gets it. */
    void end(HttpResponse reply, long totalNs) {
        HttpHeaders names = reply.headers();
        status = reply.status().code();
        version = names.get("X-Model-Version");
        requestId = names.get(RequestId.HEADER);
        latencyNs = totalNs;
        output = new Body(names.get(HttpHeaderNames.CONTENT_TYPE));
        output.kept = output.type == null || isChosen(output.type);
        if (output.kept && reply instanceof FullHttpResponse) {
            keep(output, ((FullHttpResponse) reply).content());
        }
        if (!dropped) {
            WAITING.add(this);
        }
    }

    /** It is not kept: there is no room, it is written, or its client is gone. */
    void release() {
        if (!dropped) {
            dropped = true;
            BYTES.addAndGet(-bytes);
        }
    }

    // --- the writer ---

    static void start() {
        if (ON) {
            files = new CaptureFiles();
            Thread writer = new Thread(Capture::keepWriting, "mms_handler-capture");
            writer.setDaemon(true);
            writer.start();
        }
    }

    private static void keepWriting() {
        try {
            for (; ; Thread.sleep(PERIOD_MS)) {
                write();
                log();
            }
        } catch (InterruptedException e) {
            Plugin.LOG.warn("the capture was interrupted and has ended", e);
        }
    }

    /** Write all that waits. */
    private static synchronized void write() {
        try {
            for (Capture next = WAITING.poll(); next != null; next = WAITING.poll()) {
                if (works) {
                    files.write(next);
                    WRITTEN.increment();
                } else {
                    DROPPED.increment();
                }
                next.release();
            }
            if (works) {
                files.flush();
            }
        } catch (IOException e) {
            works = false;
            DROPPED.increment();
            Plugin.LOG.error(
                    "nothing is captured any more, because {} cannot be written: {}",
                    Plugin.CAPTURE,
                    e.getMessage());
        }
    }

    /** Say how many were dropped: the first time at once, then every ten seconds. */
    private static void log() {
        long total = DROPPED.sum();
        long now = System.nanoTime();
        if (works && total > logged && (logged == 0 || now - loggedAtNs > LOG_PERIOD_NS)) {
            Plugin.LOG.warn(
                    "predictions not captured, because more came than could be written: {}",
                    total - logged);
            logged = total;
            loggedAtNs = now;
        }
    }

    /** Write all that waits, and finish the file; before the end of the process. */
    static synchronized void finish() {
        if (ON && files != null) {
            write();
            try {
                files.finish();
            } catch (IOException e) {
                Plugin.LOG.error("the last captured predictions are lost: {}", e.getMessage());
            }
        }
    }
}
