package mms_handler;

import io.netty.handler.codec.http.HttpResponseStatus;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.LongAdder;

/** What the gate refuses and why: the time that clients may take, and what they may send. */
enum Limits {
    MALFORMED("malformed", null, 0, 400, "connections closed because a request was malformed"),
    IDLE("idle", Phase.IDLE, Plugin.KEEP_ALIVE_S, 408, "connections closed after %d idle seconds"),
    HEAD("head", Phase.HEAD, Plugin.HEAD_S, 408, "requests cut whose head took more than %d s"),
    BODY("body", Phase.BODY, Plugin.BODY_S, 408, "requests cut whose body took more than %d s"),
    REPLY("reply", Phase.REPLY, Plugin.BODY_S, 408, "replies cut that were not taken in %d s"),
    CROWDED("crowded", null, 0, 503, "connections closed, the longest idle, to make room"),
    BUFFERS("buffers", null, 0, 503, "requests cut, the longest under way, to make room for others"),
    STUCK("stuck", Phase.CLOSING, 5, 408, "connections closed that took more than %d s to end"),
    QUEUE("queue", null, 0, 503, "requests refused because the queue was full"),
    CLIENT_RATE(
            "client_rate", null, 0, 429, "requests refused because their client sent too many"),
    CLIENT_CONCURRENCY(
            "client_concurrency",
            null,
            0,
            429,
            "requests refused because too many of their client's were under way");

    private static final long PERIOD_MS = 100;
    private static final long LOG_PERIOD_NS = TimeUnit.SECONDS.toNanos(10);

    /** The name in the metrics. */
    final String label;

    final HttpResponseStatus status;

    /** What was refused for this reason. */
    final LongAdder count = new LongAdder();

    private final Phase phase;
    private final int seconds;
    private final String words;
    private volatile String detail;
    private long logged;
    private long loggedAtNs;

    Limits(String label, Phase phase, int seconds, int status, String words) {
        this.label = label;
        this.phase = phase;
        this.seconds = seconds;
        this.status = HttpResponseStatus.valueOf(status);
        this.words = String.format(words, seconds);
    }

    /** For the client whose request is cut. */
    String message() {
        if (this == BUFFERS) {
            return "too many bodies are under way; try again later";
        }
        if (this == CLIENT_RATE) {
            return "this client sends more requests than it may";
        }
        if (this == CLIENT_CONCURRENCY) {
            return "this client has as many requests under way as it may";
        }
        return this == CROWDED
                ? "too many connections; try again later"
                : String.format("the request's %s took more than %d s", label, seconds);
    }

    /** Count a connection or a request that is refused for this reason. */
    void hit() {
        count.increment();
    }

    /** @param what the log is to name */
    void hit(String what) {
        detail = what;
        count.increment();
    }

    /** Whether a connection is in this limit's phase for too long. */
    boolean isOver(Connection connection) {
        long ns = System.nanoTime() - connection.sinceNs;
        return connection.phase == phase && ns > TimeUnit.SECONDS.toNanos(seconds);
    }

    /** Look at all connections again and again from now on. */
    static void watch() {
        Thread watch = new Thread(Limits::keepChecking, "mms_handler-limits");
        watch.setDaemon(true);
        watch.start();
    }

    private static void keepChecking() {
        try {
            for (; ; Thread.sleep(PERIOD_MS)) {
                Connection.OPEN.forEach(Limits::check);
                for (Limits limit : values()) {
                    limit.log();
                }
                Places.check();
            }
        } catch (InterruptedException e) {
            Plugin.LOG.warn("the watch over the connections was interrupted and has ended", e);
        }
    }

    private static void check(Connection connection) {
        Phase now = connection.phase;
        for (Limits limit : values()) {
            if (limit.phase == now && limit.phase != null && limit.isOver(connection)) {
                connection.expire(limit, now, connection.sinceNs);
            }
        }
    }

    /** Say how often the limit was hit: the first time at once, then every ten seconds. */
    private void log() {
        long total = count.sum();
        long now = System.nanoTime();
        if (total > logged && (logged == 0 || now - loggedAtNs > LOG_PERIOD_NS)) {
            String line = words + ": " + (total - logged);
            line += detail == null ? "" : "; the last one: " + detail;
            if (this == IDLE) {
                Plugin.LOG.info(line); // most clients leave their connections open
            } else {
                Plugin.LOG.warn(line);
            }
            logged = total;
            loggedAtNs = now;
        }
    }
}
