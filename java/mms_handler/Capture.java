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

    /** Whether its bodies are tensors of the Open Inference Protocol. */
    final boolean tensors;

    Body output;
    String version;
    String requestId;
    String inferenceId;
    int status;

    /** The bytes of the JSON of a reply with tensors in binary; null of any other one. */
    String replyHeaderLength;

    long latencyNs;
    private long bytes;
    private boolean dropped;

    private Capture(HttpRequest request, Target target, Body input) {
        this.input = input;
        model = target.model();
        tensors = target.isInference();
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
        /** As it was sent; null if there was none. */
        final String observedType;

        /** What it means, without parameters. */
        final String type;

        private byte[] bytes = {};
        private int length;

        /** Whether it may be written. */
        final boolean kept;

        /**
         * @param observedType of the Content-Type; null if there was none
         * @param meant what the body is, whatever its Content-Type says; null: what that says
         */
        Body(String observedType, String meant) {
            this.observedType = observedType == null ? null : observedType.trim(); // MMS adds a blank
            String known = meant == null ? this.observedType : meant;
            String named = known == null ? "application/json" : known;
            type = named.split(";", 2)[0].trim().toLowerCase();
            kept = Plugin.CAPTURE_TYPES == null || Plugin.CAPTURE_TYPES.contains(type);
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
        if (target.model() == null || !request.method().equals(HttpMethod.POST)) {
            return null;
        }
        String meant = target.isInference() ? OpenInference.type(request) : null;
        Body input = new Body(request.headers().get(HttpHeaderNames.CONTENT_TYPE), meant);
        return input.kept ? new Capture(request, target, input) : null;
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
        replyHeaderLength = names.get(OpenInference.HEADER_LENGTH);
        output = new Body(names.get(HttpHeaderNames.CONTENT_TYPE), null);
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
