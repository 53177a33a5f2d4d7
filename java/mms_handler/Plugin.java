package mms_handler;

import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** The settings, all of them system properties, and the start of what the endpoints rest on. */
final class Plugin {
    static final Logger LOG = LoggerFactory.getLogger("mms_handler");

    /** HOST:PORT of the public port; without it MMS's own inference address is the only one. */
    static final String GATE = System.getProperty("mms_handler.gate");

    /** Where on 127.0.0.1 the supervisor takes what comes to /models; without it MMS says 404. */
    static final Integer ADMIN_PORT = number("mms_handler.admin_port", null);

    /** How long requests in flight may take once the JVM is told to end. */
    static final int DRAIN_S = number("mms_handler.drain_s", 25);

    /** Models come and go: to have none is healthy, and /invocations has to name one. */
    static final boolean MULTI_MODEL = Boolean.getBoolean("mms_handler.multi_model");

    /** How many models must have loaded once; without it those that MMS is started with. */
    static final Integer EXPECTED_MODELS = number("mms_handler.expected_models", null);

    /** There once the supervisor has seen every model answer; without it none is waited for. */
    static final String READY_FILE = System.getProperty("mms_handler.ready_file");

    static {
        Requests.follow();
        if (GATE != null) {
            Gate.bind(GATE);
        }
        Workers.watch();
    }

    private Plugin() {}

    /** MMS makes two objects of each endpoint; what they rest on is there once (see above). */
    static void start() {}

    private static Integer number(String name, Integer otherwise) {
        String value = System.getProperty(name);
        return value == null ? otherwise : Integer.valueOf(value);
    }
}
