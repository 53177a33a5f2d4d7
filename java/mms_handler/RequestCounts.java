package mms_handler;

import com.amazonaws.ml.mms.wlm.ModelManager;
import java.util.Arrays;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentSkipListMap;
import java.util.concurrent.atomic.LongAdder;
import java.util.stream.Stream;
import org.apache.logging.log4j.Level;
import org.apache.logging.log4j.LogManager;
import org.apache.logging.log4j.core.LogEvent;
import org.apache.logging.log4j.core.LoggerContext;
import org.apache.logging.log4j.core.appender.AbstractAppender;
import org.apache.logging.log4j.core.config.Configuration;
import org.apache.logging.log4j.core.config.LoggerConfig;
import org.apache.logging.log4j.core.config.Property;

/** The answered invocations of one model; those that MMS answered are read from its access log. */
final class RequestCounts {
    /** Upper bounds of the buckets, in seconds; the access log has milliseconds. */
    static final double[] BOUNDS = {
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60
    };

    private static final String LOGGER = "ACCESS_LOG";
    private static final Map<String, RequestCounts> BY_MODEL = new ConcurrentHashMap<>();

    final Map<String, LongAdder> byStatus = new ConcurrentSkipListMap<>();
    final LongAdder millis = new LongAdder();

    /** One bucket for each bound, and one for what is above the last. */
    final LongAdder[] buckets =
            Stream.generate(LongAdder::new).limit(BOUNDS.length + 1).toArray(LongAdder[]::new);

    /** Counts by MMS's name of a model; under "", of requests for models that do not exist. */
    static Map<String, RequestCounts> byModel() {
        BY_MODEL.keySet().removeIf(name -> !name.isEmpty() && !isKnown(name));
        return BY_MODEL;
    }

    private static boolean isKnown(String mmsName) {
        return Routes.version(mmsName) != null
                || ModelManager.getInstance().getModels().containsKey(mmsName);
    }

    /** Read every line of the access log, without changing whether it is written. */
    static void follow() {
        LoggerContext context = (LoggerContext) LogManager.getContext(false);
        Configuration configuration = context.getConfiguration();
        LoggerConfig logger = configuration.getLoggerConfig(LOGGER);
        boolean written = logger.getLevel().isLessSpecificThan(Level.INFO);
        if (!written || !logger.getName().equals(LOGGER)) {
            logger = new LoggerConfig(LOGGER, Level.INFO, written);
            configuration.removeLogger(LOGGER);
            configuration.addLogger(LOGGER, logger);
        }
        Reader reader = new Reader();
        reader.start();
        logger.addAppender(reader, null, null);
        context.updateLoggers();
    }

    private static final class Reader extends AbstractAppender {
        Reader() {
            super("mms_handler", null, null, true, Property.EMPTY_ARRAY);
        }

        /** Session.toString writes: CLIENT "METHOD URI PROTOCOL" STATUS MILLISECONDS. */
        @Override
        public void append(LogEvent event) {
            String[] words = event.getMessage().getFormattedMessage().split(" ");
            int last = words.length - 1;
            int status = Integer.parseInt(words[last - 1]);
            count(words[1].substring(1), words[2], status, Long.parseLong(words[last]));
        }
    }

    /** Count an answer of MMS, if its request, with MMS's name of a model, was an invocation. */
    private static void count(String method, String uri, int status, long millis) {
        add(method, Target.of(uri).model(), status, millis);
    }

    /** Count an answer that MMS does not log, if its request, as it came, was an invocation. */
    static void countUnlogged(String method, String uri, int status, long millis) {
        Target target = Target.of(uri);
        add(method, Routes.mmsName(target.model(), target.version()), status, millis);
    }

    private static void add(String method, String mmsName, int status, long millis) {
        if (mmsName != null && !method.equals("OPTIONS")) {
            count(mmsName, status, millis);
        }
    }

    /** Count an answer to an invocation of a model, by MMS's name of it. */
    static void count(String mmsName, int status, long millis) {
        BY_MODEL.computeIfAbsent(isKnown(mmsName) ? mmsName : "", name -> new RequestCounts())
                .add(status, millis);
    }

    private void add(int status, long requestMillis) {
        String label = status < 100 || status > 599 ? "other" : String.valueOf(status);
        byStatus.computeIfAbsent(label, name -> new LongAdder()).increment();
        int place = Arrays.binarySearch(BOUNDS, requestMillis / 1000.0);
        buckets[place < 0 ? ~place : place].increment();
        millis.add(requestMillis);
    }
}
