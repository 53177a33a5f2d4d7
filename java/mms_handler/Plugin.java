package mms_handler;

import java.util.Arrays;
import java.util.HashSet;
import java.util.Set;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** The plug-in's settings, which are system properties, and its start. */
final class Plugin {
    static final Logger LOG = LoggerFactory.getLogger("mms_handler");

    /** HOST:PORT of the public port.  Without it clients use MMS's own inference address. */
    static final String GATE = System.getProperty("mms_handler.gate");

    /** The supervisor's port on 127.0.0.1 for requests to /models.  Without it MMS answers 404. */
    static final Integer ADMIN_PORT = number("mms_handler.admin_port", null);

    /** Seconds that requests in flight may take once the JVM is told to end. */
    static final int DRAIN_S = number("mms_handler.drain_s", 25);

    /** Seconds that a connection may be without a request; SageMaker keeps its own for 60. */
    static final int KEEP_ALIVE_S = number("mms_handler.keep_alive_s", 75);

    /** Seconds that a request's head may take, from its first byte. */
    static final int HEAD_S = number("mms_handler.head_s", 10);

    /** Seconds that a request's body may take, and its client to take the reply. */
    static final int BODY_S = number("mms_handler.body_s", 60);

    /** Connections at one time; fewer if there are not that many descriptors. */
    static final int MAX_CONNECTIONS = number("mms_handler.max_connections", 1024);

    /** A worker that has taken so many requests is recycled; null: never for this reason. */
    static final Integer MAX_REQUESTS = number("mms_handler.max_requests", null);

    /** A worker that uses more memory than this is recycled; null: never for this reason. */
    static final Integer MAX_WORKER_MB = number("mms_handler.max_worker_mb", null);

    /** Predictions that one client may ask for in a second; null: any number. */
    static final Double CLIENT_RATE = rate("mms_handler.client_rate", null);

    /** How many of them may come at once; null: those of a second. */
    static final Integer CLIENT_BURST = number("mms_handler.client_burst", null);

    /** Predictions of one client that may be under way; null: any number. */
    static final Integer CLIENT_CONCURRENCY = number("mms_handler.client_concurrency", null);

    /** Proxies in front of the server that add their client to X-Forwarded-For. */
    static final int PROXIES = number("mms_handler.proxies", 0);

    /** The folder for captured predictions; null: none is captured. */
    static final String CAPTURE = System.getProperty("mms_handler.capture");

    /** The share of them, above 0 and up to 1. */
    static final double CAPTURE_SHARE = rate("mms_handler.capture_share", 1.0);

    /** The main content types that are captured, in lower case; null: all. */
    static final Set<String> CAPTURE_TYPES = names("mms_handler.capture_types");

    /** What the folder may take. */
    static final int CAPTURE_MAX_MB = number("mms_handler.capture_max_mb", 1000);

    /** Seconds after which a file is finished. */
    static final int CAPTURE_FILE_S = number("mms_handler.capture_file_s", 60);

    /** What is captured and not written may take so much; null: a part of the heap. */
    static final Integer CAPTURE_BUFFER_MB = number("mms_handler.capture_buffer_mb", null);

    /** The server's copy of the tokens: a line with a use and a token each.  Without it none is. */
    static final String TOKEN_FILE = System.getProperty("mms_handler.token_file");

    /** Which requests have a line in the access log: off, on or errors. */
    static final String ACCESS_LOG = System.getProperty("mms_handler.access_log", "off");

    /** The supervisor's list of what the gate answers itself.  Without it all is for MMS. */
    static final String PAGES = System.getProperty("mms_handler.pages");

    /** Names by which clients may call the server, separated by commas.  Without it, loopback's. */
    static final String ALLOWED_HOSTS = System.getProperty("mms_handler.allowed_hosts");

    /** Models come and go: a server without one is healthy, and /invocations must name one. */
    static final boolean MULTI_MODEL = Boolean.getBoolean("mms_handler.multi_model");

    /** How many models must have loaded once.  Without it, the models that MMS is started with. */
    static final Integer EXPECTED_MODELS = number("mms_handler.expected_models", null);

    /** The models that the supervisor was started with.  Without it, all those that there are. */
    static final Set<String> STARTUP_MODELS = names("mms_handler.startup_models");

    /** Exists once the supervisor has seen every model answer.  Without it none is waited for. */
    static final String READY_FILE = System.getProperty("mms_handler.ready_file");

    /** What the supervisor knows for /metrics ({@link Told}).  Without it, nothing. */
    static final String TOLD_FILE = System.getProperty("mms_handler.told_file");

    /** Whether each request tells its worker how long it has waited, for its trace. */
    static final boolean TELLS_QUEUE = Boolean.getBoolean("mms_handler.tells_queue");

    /** Whether a supervisor's workers take requests from the gate, and not from MMS. */
    static final boolean PLANE = Boolean.getBoolean("mms_handler.plane");

    static {
        RequestCounts.follow();
        ScriptMetrics.follow();
        if (GATE != null) {
            Access.start();
            Pages.start();
            Gate.bind(GATE);
            Limits.watch();
            AccessLog.start();
            Capture.start();
        }
        Workers.watch();
    }

    private Plugin() {}

    /** Run the static block above, once: MMS creates two objects of each endpoint. */
    static void start() {}

    private static Set<String> names(String name) {
        String value = System.getProperty(name);
        return value == null ? null : new HashSet<>(Arrays.asList(value.split(",")));
    }

    private static Double rate(String name, Double defaultValue) {
        String value = System.getProperty(name);
        return value == null ? defaultValue : Double.valueOf(value);
    }

    private static Integer number(String name, Integer defaultValue) {
        String value = System.getProperty(name);
        return value == null ? defaultValue : Integer.valueOf(value);
    }
}
